"""`warmstart retrain` by the clock of this machine: a systemd timer and its service, or a line for a crontab.

Where the two could differ they are made to agree:

| what                            | systemd                                    | cron                                |
|---------------------------------|--------------------------------------------|-------------------------------------|
| the environment                 | what is written here, nothing of a shell's | the same, by `env -i`               |
| a time that the machine was off | once, as soon as it is up (`Persistent`)   | left out                            |
| a time that clocks leave out    | left out on that day                       | at once after the change            |
| a time that clocks repeat       | once                                       | once                                |
| a run that lasts into the next  | the next is left out                       | `retrain` finds the lock, and skips |
| exit code 3, nothing pushed     | a success                                  | nobody reads exit codes             |
| output                          | the journal                                | `schedule.log` in the root          |

The two rows on clocks are about daylight-saving time, as systemd 252 reckons and as Debian's cron(8) says of times that
are not every hour; other crons may leave the first out or do the second twice. The times that `warmstart schedule`
shows are systemd's.

A night that was missed is made up for, since on a machine that is off at three there would be no other; a second
`retrain` finds nothing new and ends. Exit code 3 is the verdict of a gate that did its work: a unit that fails every
night that the photos are no better is one that nobody looks at any more. Every other code leaves a failed unit: 4,
the alert of `retrain` after several such nights, too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.backbone.registry import cache_folder
from deploy.timetable import Timetable, cron_fields, timetable
from pipeline.config import Config
from schemas.errors import BadInput

Scope = Literal["user", "system"]

LOG_FILE = "schedule.log"
_UNITS = {"system": Path("/etc/systemd/system"), "user": Path("systemd/user")}
_RUNNING = Path("/run/systemd/system")
_LINGERING = Path("/var/lib/systemd/linger")
_LOCAL_TIME, _TIME_ZONE_NAME = Path("/etc/localtime"), Path("/etc/timezone")
_MARK = "# Written by `warmstart schedule`, which replaces it and takes it away; `systemctl edit` adds to it.\n"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SYSTEMCTL_SECONDS = 90
LONGEST_CRON_LINE = 998  # of Debian's cron, in bytes; others take more
_LONGEST_NAME = 200  # a unit's has at most 255
# What needs no quotes, in systemd and in a shell.
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@+-]+", re.ASCII)
_SYSTEMD_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%"}


@dataclass(frozen=True)
class Schedule:
    """What is started, and when.

    name: of the units, without suffix. when: the timetable, in the zone of `time_zone`, or the machine's where that is
    None. command: program and arguments. folder: in which it runs. root: the root folder. environment: all of it.
    user: as whom a service of the system runs; None: a service of the user's own.
    """

    name: str
    when: Timetable
    time_zone: str | None
    command: tuple[str, ...]
    folder: Path
    root: Path
    environment: Mapping[str, str]
    user: str | None


def make_schedule(
    cron: str,
    time_zone: str | None,
    config: Config,
    config_name: str,
    data: Sequence[str],
    root: Path,
    overrides: Sequence[str],
    name: str | None,
    scope: Scope,
) -> Schedule:
    """A schedule whose paths lead to the same places from everywhere.

    Args:
      cron, time_zone: when; None: the machine's zone.
      config: the configuration that the next three make.
      config_name, data, overrides: as given to `--config`, `--data` and `--set`.
      root: the root folder.
      name: of the schedule; None: the configuration's.
      scope: whose service it is.

    Raises:
      BadInput: the cron expression or the zone is wrong, or a path is one that no unit and no crontab can hold.
    """
    zone = time_zone or machine_zone()
    when = timetable(cron, zone, zone)
    command = (*_program(), *_retrain(config, config_name, data, root, overrides))
    account = _account(scope)
    home = account.pw_dir if account and scope == "system" else str(Path.home())
    user = account.pw_name if account else str(os.getuid())
    environment = {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "PATH": f"{Path(sys.executable).parent}:{_PATH}",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
    if os.environ.get("WARMSTART_CACHE") or os.environ.get("XDG_CACHE_HOME"):
        environment["WARMSTART_CACHE"] = str(cache_folder().absolute())
    made = Schedule(
        name=unit_name(name or config.name),
        when=when,
        time_zone=time_zone,
        command=command,
        folder=Path.cwd(),
        root=root,
        environment=environment,
        user=user if scope == "system" else None,
    )
    _require_writable(made)
    return made


def unit_name(name: str) -> str:
    """The units' name without suffix: what systemd takes of `name`, after `warmstart-`.

    Raises:
      BadInput: nothing of it is left, or too much.
    """
    kept = re.sub(r"[^A-Za-z0-9_.]+", "-", name.removeprefix("warmstart-"), flags=re.ASCII).strip("-.")
    if not kept or len(kept) > _LONGEST_NAME:
        raise BadInput(
            f"--name {name!r} is no name of a schedule; expected up to {_LONGEST_NAME} letters, digits, '_', '-' and "
            "'.', such as nightly"
        )
    return f"warmstart-{kept}"


def machine_zone() -> str:
    """The time zone that systemd and cron go by; a shell's TZ means nothing to them.

    Raises:
      BadInput: nothing on the machine tells its name.
    """
    if not _LOCAL_TIME.exists():
        return "UTC"
    _, found, name = os.path.realpath(_LOCAL_TIME).partition("/zoneinfo/")
    if found:
        return name
    with contextlib.suppress(OSError):  # a copy of the zone's file
        if name := _TIME_ZONE_NAME.read_text(encoding="utf-8").strip():
            return name
    raise BadInput(f"{_LOCAL_TIME} does not tell the name of the machine's time zone; give one with --time-zone")


def systemd_runs() -> bool:
    """Whether systemd manages this machine; in most containers nothing does."""
    return _RUNNING.is_dir()


def default_scope() -> Scope:
    """root's schedules are the system's, everybody else's are their own."""
    return "system" if os.getuid() == 0 else "user"


def lingers() -> bool:
    """Whether this user's timers go on when nobody is logged in."""
    account = _account("user")
    return account is not None and (_LINGERING / account.pw_name).exists()


# --- when


def on_calendar(when: Timetable, time_zone: str | None) -> str:
    """The timetable in systemd's words (man 7 systemd.time); without a zone it goes by the machine's.

    A timetable limits days of the month or weekdays, never both, of which cron takes either and systemd both.
    """
    minutes, hours, days, months, weekdays = (values for _, values in cron_fields(when.cron))
    names = _listed({weekday or 7 for weekday in weekdays}, range(1, 8), "..", lambda number: _WEEKDAYS[number - 1])
    date = f"*-{_listed(months, range(1, 13), '..', _two_digits)}-{_listed(days, range(1, 32), '..', _two_digits)}"
    time = f"{_listed(hours, range(24), '..', _two_digits)}:{_listed(minutes, range(60), '..', _two_digits)}:00"
    return " ".join(part for part in ("" if names == "*" else names, date, time, time_zone) if part)


def crontab_fields(when: Timetable, time_zone: str | None) -> str:
    """The five fields, by the machine's clock, in the words that every cron understands: no names, no steps.

    Raises:
      BadInput: no five fields say the same in the machine's time zone.
    """
    cron = when.cron
    if time_zone is not None:
        machine = machine_zone()
        try:
            cron = " ".join(timetable(cron, time_zone, machine).kfp_cron.split()[1:])
        except BadInput:
            raise BadInput(
                f"cron has no time zones, the machine's is {machine}, and no expression in it always means {cron!r} in "
                f"{time_zone}; give the time in {machine} and no --time-zone"
            ) from None
    fields = (values for _, values in cron_fields(cron))
    bounds = (range(60), range(24), range(1, 32), range(1, 13), range(7))
    return " ".join(_listed(values, bound, "-") for values, bound in zip(fields, bounds, strict=True))


def _two_digits(number: int) -> str:
    return f"{number:02}"


def _listed(values: Iterable[int], bounds: range, dash: str, name: Callable[[int], str] = str) -> str:
    """`*`, or the values as a list with ranges."""
    ordered = sorted(values)
    if len(ordered) == len(bounds):
        return "*"
    runs = [list(run) for _, run in itertools.groupby(enumerate(ordered), lambda at: at[1] - at[0])]
    ranges = [(run[0][1], run[-1][1]) for run in runs]
    return ",".join(name(first) if first == last else f"{name(first)}{dash}{name(last)}" for first, last in ranges)


# --- what


def _program() -> tuple[str, ...]:
    """How this very command is started again from anywhere: interpreter and script, both absolute."""
    scripts = [Path(sys.executable).with_name("warmstart"), Path(sysconfig.get_path("scripts"), "warmstart")]
    if Path(sys.argv[0]).name == "warmstart":
        scripts.insert(0, Path(sys.argv[0]).absolute())
    for script in scripts:
        if script.is_file():
            return sys.executable, str(script)
    # From a source tree that was not installed, and is found where the command runs.
    return sys.executable, "-m", "deploy.cli"


def _retrain(
    config: Config, config_name: str, data: Sequence[str], root: Path, overrides: Sequence[str]
) -> Iterable[str]:
    is_file = "/" in config_name or config_name.endswith((".yaml", ".yml"))
    yield from ("retrain", "--config", str(Path(config_name).absolute()) if is_file else config_name)
    for item in data:
        name = item.partition("=")[0]
        given = [dataset for dataset in config.data.sources if dataset == name] or list(config.data.sources)
        yield from ("--data", f"{given[0]}={config.data.sources[given[0]]}")
    yield from ("--root", str(root))
    for override in overrides:
        yield from ("--set", override)


def _account(scope: Scope) -> pwd.struct_passwd | None:
    """Whose runs these are: of a system's service the person's who called sudo, since files of root would be in the way
    of every other command. None: a user without an entry.
    """
    with contextlib.suppress(KeyError):
        if scope == "system" and os.getuid() == 0 and os.environ.get("SUDO_USER"):
            return pwd.getpwnam(os.environ["SUDO_USER"])
        return pwd.getpwuid(os.getuid())
    return None


def _require_writable(schedule: Schedule) -> None:
    """Refuses what neither a unit nor a crontab can hold."""
    for text in (*schedule.command, *schedule.environment.values(), str(schedule.folder)):
        if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
            raise BadInput(
                f"{text!r} has a line break, another control character or bytes that are no UTF-8 in it, which a "
                "schedule cannot hold; rename the file or folder, or put the setting into a configuration file"
            )
    # systemd reads it without quotes.
    folder = str(schedule.folder)
    if folder != folder.strip() or folder.endswith("\\"):
        raise BadInput(f"the working directory {folder!r} ends in a blank or a backslash; call from another one")
    # systemd refuses such a program, quoted or not.
    if re.search(r"[\"'\\]", schedule.command[0]):
        raise BadInput(f"the interpreter {schedule.command[0]} has a quote or backslash in its path; move it elsewhere")


# --- the texts


def unit_files(schedule: Schedule) -> dict[str, str]:
    """Name -> content of the service and its timer."""
    described = f"warmstart retrain, {schedule.name.removeprefix('warmstart-')}"
    system = schedule.user is not None
    # With a colon nothing is a variable; systemd knows it since version 244, so it is left out where it can be.
    first, *rest = schedule.command
    first = f":{first}" if "$" in "".join(schedule.command) else first
    service = [
        _root_line(schedule),
        "[Unit]",
        f"Description={described}",
        *(["After=network-online.target remote-fs.target"] if system else []),
        "",
        "[Service]",
        "Type=oneshot",
        *([f"User={schedule.user}"] if system else []),
        f"WorkingDirectory={str(schedule.folder).replace('%', '%%')}",
        *(f"Environment={_for_systemd(f'{name}={value}')}" for name, value in schedule.environment.items()),
        f"ExecStart={' '.join(map(_for_systemd, (first, *rest)))}",
        "# The run ended well, and a gate decided that nothing is pushed.",
        "SuccessExitStatus=3",
        "# As Ctrl-C: the run writes its summary, and the next one goes on from the last finished step.",
        "KillSignal=SIGINT",
        "TimeoutStartSec=infinity",
        "Nice=10",
        "IOSchedulingClass=best-effort",
        "IOSchedulingPriority=7",
    ]
    timer = [
        "[Unit]",
        f"Description={described}, at {schedule.when.cron}",
        "",
        "[Timer]",
        f"OnCalendar={on_calendar(schedule.when, schedule.time_zone)}",
        "# A time that was missed because the machine was off is made up for once.",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    texts = {f"{schedule.name}.service": service, f"{schedule.name}.timer": timer}
    return {name: _MARK + "\n".join(lines) + "\n" for name, lines in texts.items()}


def crontab(schedule: Schedule) -> str:
    """A comment and a line for `crontab -e`.

    Raises:
      BadInput: cron cannot be told the time.
    """
    root, folder = _for_crontab(str(schedule.root)), _for_crontab(str(schedule.folder))
    # It is in the line's own environment, so that nothing of cron's is left.
    variables = " ".join(_for_crontab(f"{name}={value}") for name, value in schedule.environment.items())
    command = " ".join(map(_for_crontab, schedule.command))
    log = _for_crontab(str(schedule.root / LOG_FILE))
    fields = crontab_fields(schedule.when, schedule.time_zone)
    return (
        f"# {schedule.name}: written by `warmstart schedule`\n"
        f"{fields} mkdir -p {root} && cd {folder} && exec /usr/bin/env -i {variables} nice -n 10 {command} "
        f">>{log} 2>&1\n"
    )


def _for_systemd(text: str) -> str:
    """One word of a unit's command line or environment (man 7 systemd.syntax, man 5 systemd.unit on specifiers)."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(_SYSTEMD_ESCAPES.get(character, character) for character in text) + '"'


def _for_crontab(text: str) -> str:
    """One word of a command line in a crontab.

    A bare `%` ends the command. Some crons take the backslash before it away, some leave it to the shell; outside of
    quotes both give `%`. Some make one backslash of two, so each is in quotes of its own.
    """
    if _PLAIN.fullmatch(text):
        return text
    parts = re.split(r"([%\\])", text)
    return "".join({"%": "\\%", "": ""}.get(part, shlex.quote(part)) for part in parts) or "''"


def _root_line(schedule: Schedule) -> str:
    return f"# root: {_for_systemd(str(schedule.root))}"


# --- systemd


def units_folder(scope: Scope) -> Path:
    """Where units lie that somebody wrote."""
    if scope == "system":
        return _UNITS["system"]
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").absolute() / _UNITS["user"]


def install(schedule: Schedule) -> Literal["created", "replaced", "started again", "unchanged"]:
    """Writes the units and starts the timer; if that fails, what was there before is put back.

    Raises:
      BadInput: a unit of that name is somebody else's or for another root, the folder cannot be written, or systemctl
        fails.
    """
    scope: Scope = "user" if schedule.user is None else "system"
    folder = units_folder(scope)
    texts = {folder / name: text for name, text in unit_files(schedule).items()}
    before = {file: _read(file) for file in texts}
    _refuse_to_replace(schedule, before)
    timer = f"{schedule.name}.timer"
    if before == texts and all(_systemctl_says(scope, question, timer) for question in ("is-enabled", "is-active")):
        return "unchanged"
    _write(texts, scope)
    try:
        # `enable --now` would leave a timer that runs at its old times.
        for arguments in (["daemon-reload"], ["enable", timer], ["restart", timer]):
            _systemctl(scope, *arguments)
    except BadInput as error:
        with contextlib.suppress(BadInput):
            if before[folder / timer] is None:
                _systemctl_says(scope, "disable", "--now", timer)
            _write(before, scope)
            _systemctl(scope, "daemon-reload")
        raise BadInput(f"{error}; nothing was changed, and --print gives a line for cron in its place") from None
    if before == texts:
        return "started again"
    return "created" if set(before.values()) == {None} else "replaced"


def remove(name: str, scope: Scope) -> bool:
    """Stops the timer and takes the units away; a run under way goes on to its end.

    Returns:
      False: there was nothing.

    Raises:
      BadInput: a unit of that name is somebody else's, the folder cannot be written, or systemctl fails.
    """
    folder = units_folder(scope)
    timer, service = f"{name}.timer", f"{name}.service"
    files = {file: content for file in (folder / timer, folder / service) if (content := _read(file)) is not None}
    for file, content in files.items():
        _refuse_others(file, content)
    if not files:
        return False
    if systemd_runs():
        if folder / timer in files:
            _systemctl(scope, "disable", "--now", timer)
            # The time it last ran: a later schedule of that name has missed nothing. Before version 244 it stays.
            _systemctl_says(scope, "clean", "--what=state", timer)
        _write(dict.fromkeys(files), scope)
        _systemctl(scope, "daemon-reload")
        _systemctl_says(scope, "reset-failed", service)
    else:
        _write(dict.fromkeys([*files, folder / "timers.target.wants" / timer]), scope)
    return True


def _refuse_to_replace(schedule: Schedule, before: Mapping[Path, str | None]) -> None:
    for file, content in before.items():
        if content is None:
            continue
        _refuse_others(file, content)
        root = next((line for line in content.splitlines() if line.startswith("# root: ")), _root_line(schedule))
        if root != _root_line(schedule):
            raise BadInput(
                f"there is a schedule {schedule.name} for another root, {root.removeprefix('# root: ')}; give this one "
                "another name with --name, or take that one away with --remove"
            )


def _refuse_others(file: Path, content: str) -> None:
    if not content.startswith(_MARK):
        raise BadInput(f"{file} was not written by `warmstart schedule`, and stays; give another name with --name")


def _read(file: Path) -> str | None:
    """Content; None where there is no such file."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); give another name with --name") from None


def _write(texts: Mapping[Path, str | None], scope: Scope) -> None:
    """Writes each file, or takes it away where its text is None; none of them, if one cannot be written."""
    new = {file: file.with_name(f".{file.name}.new") for file, text in texts.items() if text is not None}
    try:
        for file, written in new.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(texts[file] or "", encoding="utf-8")
            written.chmod(0o644)
        for file in texts:
            if file in new:
                new[file].replace(file)
            else:
                file.unlink(missing_ok=True)
    except OSError as error:
        hint = "call it with sudo, or use --user" if scope == "system" else "make it one's own"
        raise BadInput(f"{units_folder(scope)} cannot be written ({error.strerror}); {hint}") from None


def _systemctl(scope: Scope, *arguments: str) -> None:
    """Calls systemctl.

    Raises:
      BadInput: it fails, or is not there.
    """
    command = ["systemctl", *(["--user"] if scope == "user" else []), "--no-ask-password", *arguments]
    shown = shlex.join(argument for argument in command if argument != "--no-ask-password")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SYSTEMCTL_SECONDS, check=False
        )
    except FileNotFoundError:
        raise BadInput("systemctl is not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise BadInput(f"`{shown}` did not end within {_SYSTEMCTL_SECONDS} s") from None
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split()) or f"exit code {done.returncode}"
        raise BadInput(f"`{shown}` failed ({said})")


def _systemctl_says(scope: Scope, *arguments: str) -> bool:
    """Whether systemctl says yes, or did what may fail."""
    try:
        _systemctl(scope, *arguments)
    except BadInput:
        return False
    return True
