"""The command `warmstart schedule`."""

from __future__ import annotations

from typing import Any

import click

from deploy import crontab, output, systemd
from deploy import schedule as schedules
from deploy.commands.options import config_options, folder_argument, json_option
from deploy.config_choice import choose_config
from deploy.data_folders import check_places, check_sources, default_root
from deploy.root import Root
from deploy.schedule import Schedule, Scope
from pipeline.config import load_config
from schemas.errors import BadInput


@click.command()
@click.option(
    "--cron",
    metavar="FIELDS",
    help='Minute, hour, day, month, day of the week: "0 3 * * *" is every night at three.',
)
@config_options
@click.option("--name", metavar="NAME", help="Name of the schedule.  [default: the configuration's]")
@click.option(
    "--time-zone", metavar="ZONE", help="The time zone of --cron, such as Europe/Berlin.  [default: the machine's]"
)
@click.option("--user", "scope", flag_value="user", help="A timer of your own.  [default, except for root]")
@click.option("--system", "scope", flag_value="system", help="A timer of the machine, for root.  [root's default]")
@click.option("--print", "as_crontab", is_flag=True, help="Print a line for `crontab -e`, and change nothing.")
@click.option("--remove", is_flag=True, help="Remove the schedule. A run in progress continues to its end.")
@json_option
@folder_argument
def schedule(
    cron: str | None,
    config_name: str | None,
    data: tuple[str, ...],
    root: str | None,
    overrides: tuple[str, ...],
    name: str | None,
    time_zone: str | None,
    scope: Scope | None,
    as_crontab: bool,
    remove: bool,
    as_json: bool,
    folder: str | None,
) -> None:
    """Run `warmstart retrain` by the clock: write a systemd timer and its service, and start the timer.

    Where systemd is not running, a line for a crontab is printed instead. The same call again changes nothing; another
    call with the same name replaces the schedule. Output goes to the journal, or from cron to ROOT/schedule.log.

    If the machine is off at the set time, systemd runs once as soon as it is up again. cron leaves that time out.

    When clocks go forward, a time in the hour that does not exist is left out by systemd on that day; Debian's cron
    runs it right after the change. When clocks go back, a time in the hour that comes twice is run once by both.

    \b
    Examples:
      warmstart schedule --cron "0 3 * * *" "~/photos/span-{SPAN}"
      sudo warmstart schedule --cron "0 3 * * mon-fri" --config pets.yaml --root /srv/pets --system
      warmstart schedule --cron "0 3 * * *" photos --print
      warmstart schedule --cron "0 3 * * *" photos --json
      warmstart schedule --config image_folder --remove
    """
    data = (folder, *data) if folder else data
    scope = scope or schedules.default_scope()
    if remove:
        _remove(config_name, data, overrides, name, scope, as_json)
        return
    if cron is None or not (config_name or data):
        missing = "--cron" if cron is None else "--config"
        raise BadInput(f'{missing} is missing; give both, such as --cron "0 3 * * *" --config cats_vs_dogs')
    config_name, config = choose_config(config_name, data, overrides, output.note)
    place = Root(root) if root else default_root(config)
    check_places(config, place)
    check_sources(config)
    made = schedules.make_schedule(cron, time_zone, config, config_name, data, place.folder, overrides, name, scope)
    if as_crontab or not systemd.systemd_runs():
        _print_crontab(made, as_crontab, as_json)
    else:
        _install(made, scope, as_json)


def _install(made: Schedule, scope: Scope, as_json: bool) -> None:
    done = systemd.install(made)
    place = systemd.units_folder(scope) / f"{made.name}.timer"
    if as_json:
        output.document(_for_programs(made, done, str(place)))
        return
    click.echo(f"schedule {made.name}: {'already there, nothing changed' if done == 'unchanged' else done}; {place}")
    click.echo(_times(made))
    option = " --user" if scope == "user" else ""
    click.echo(f"  run now  systemctl{option} start {made.name}.service")
    click.echo(f"  log      journalctl{option} -u {made.name}.service")
    if scope == "user" and not systemd.lingers():
        output.note("note: it runs only while you are logged in; `loginctl enable-linger` lifts that")


def _for_programs(made: Schedule, done: str, timer: str | None = None, line: str | None = None) -> dict[str, Any]:
    return {
        "name": made.name,
        "done": done,
        "cron": made.when.cron,
        "time_zone": made.when.time_zone,
        "next": [time.isoformat() for time in made.when.next_times(3)],
        "timer": timer,
        "crontab": line,
    }


def _print_crontab(made: Schedule, asked: bool, as_json: bool) -> None:
    line = crontab.crontab(made)
    if as_json:
        output.document(_for_programs(made, "printed", line=line))
        return
    why = "" if asked else "systemd does not run here; "
    # Beside the line, so that `(crontab -l; warmstart schedule ... --print) | crontab -` takes the line alone.
    output.note(f"{why}add this line to your crontab with `crontab -e`; nothing was changed")
    click.echo(line, nl=False)
    if len(line.splitlines()[-1].encode()) > crontab.LONGEST_LINE:
        output.note("note: the line is too long for Debian's cron; use shorter paths or a configuration file")
    output.note(_times(made))


def _times(made: Schedule) -> str:
    lines = [f"  {made.when.cron} in {made.when.time_zone}"]
    lines += [f"  next     {time:%Y-%m-%d %H:%M %Z}" for time in made.when.next_times(3)]
    return "\n".join(lines)


def _remove(
    config_name: str | None,
    data: tuple[str, ...],
    overrides: tuple[str, ...],
    name: str | None,
    scope: Scope,
    as_json: bool,
) -> None:
    if name is None and config_name is None:
        raise BadInput("--remove needs to know which schedule; give --name or --config")
    if name is None:
        assert config_name is not None
        # Where the photos are does not matter for the name.
        name = load_config(config_name, list(overrides), list(data), default_folder="/").name
    unit = schedules.unit_name(name)
    removed = systemd.remove(unit, scope)
    if as_json:
        output.document({"name": unit, "done": "removed" if removed else "nothing"})
    elif removed:
        click.echo(f"schedule {unit}: removed")
    else:
        click.echo(f"there is no schedule {unit} in {systemd.units_folder(scope)}; nothing to remove")
    if not systemd.systemd_runs():
        output.note(f"remove a line in a crontab yourself, with `crontab -e`: the one below `# {unit}`")
