"""A schedule as a systemd timer and its service: their text, and how they are installed and removed."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from deploy.schedule import PLAIN_WORD, Schedule, Scope, account
from deploy.timetable import Timetable, as_list, cron_fields
from schemas.errors import BadInput

_UNITS = {"system": Path("/etc/systemd/system"), "user": Path("systemd/user")}
_RUNNING = Path("/run/systemd/system")
_LINGERING = Path("/var/lib/systemd/linger")
_MARK = "# Written by `warmstart schedule`, which replaces it and takes it away; `systemctl edit` adds to it.\n"
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SYSTEMCTL_SECONDS = 90
_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%"}


def systemd_runs() -> bool:
    """Whether systemd manages this machine; in most containers it does not."""
    return _RUNNING.is_dir()


def lingers() -> bool:
    """Whether this user's timers keep running when nobody is logged in."""
    owner = account("user")
    return owner is not None and (_LINGERING / owner.pw_name).exists()


def on_calendar(when: Timetable, time_zone: str | None) -> str:
    """The timetable as a calendar event of systemd (man 7 systemd.time); without a time zone the machine's holds.

    A timetable never limits both days of the month and weekdays: there cron wants one to match, and systemd both.
    """
    minutes, hours, days, months, weekdays = (values for _, values in cron_fields(when.cron))
    names = as_list({weekday or 7 for weekday in weekdays}, range(1, 8), "..", lambda number: _WEEKDAYS[number - 1])
    date = f"*-{as_list(months, range(1, 13), '..', _two_digits)}-{as_list(days, range(1, 32), '..', _two_digits)}"
    time = f"{as_list(hours, range(24), '..', _two_digits)}:{as_list(minutes, range(60), '..', _two_digits)}:00"
    return " ".join(part for part in ("" if names == "*" else names, date, time, time_zone) if part)


def _two_digits(number: int) -> str:
    return f"{number:02}"


def unit_files(schedule: Schedule) -> dict[str, str]:
    """File name -> content of the service and its timer."""
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
        *(f"Environment={_word(f'{name}={value}')}" for name, value in schedule.environment.items()),
        f"ExecStart={' '.join(map(_word, (first, *rest)))}",
        "# The run succeeded, and a gate decided to push nothing.",
        "SuccessExitStatus=3",
        "# Like Ctrl-C: the run writes its summary, and the next one continues after the last finished step.",
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
        "# If the machine was off at the time, run once as soon as it is up.",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    texts = {f"{schedule.name}.service": service, f"{schedule.name}.timer": timer}
    return {name: _MARK + "\n".join(lines) + "\n" for name, lines in texts.items()}


def _word(text: str) -> str:
    """One word of a unit's command line or environment (man 7 systemd.syntax, man 5 systemd.unit on specifiers)."""
    if PLAIN_WORD.fullmatch(text):
        return text
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def _root_line(schedule: Schedule) -> str:
    return f"# root: {_word(str(schedule.root))}"


def units_folder(scope: Scope) -> Path:
    """The folder for units that do not come from a package."""
    if scope == "system":
        return _UNITS["system"]
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").absolute() / _UNITS["user"]


def install(schedule: Schedule) -> Literal["created", "replaced", "started again", "unchanged"]:
    """Writes the units and starts the timer; if that fails, the units that were there before are put back.

    Raises:
      BadInput: a unit of that name belongs to somebody else or to another root, the folder cannot be written, or
        systemctl fails.
    """
    scope: Scope = "user" if schedule.user is None else "system"
    folder = units_folder(scope)
    texts = {folder / name: text for name, text in unit_files(schedule).items()}
    before = {file: _read(file) for file in texts}
    _refuse_to_replace(schedule, before)
    timer = f"{schedule.name}.timer"
    if before == texts and all(_systemctl_succeeds(scope, question, timer) for question in ("is-enabled", "is-active")):
        return "unchanged"
    _write(texts, scope)
    try:
        # `enable --now` would leave a timer that runs at its old times.
        for arguments in (["daemon-reload"], ["enable", timer], ["restart", timer]):
            _systemctl(scope, *arguments)
    except BadInput as error:
        with contextlib.suppress(BadInput):
            if before[folder / timer] is None:
                _systemctl_succeeds(scope, "disable", "--now", timer)
            _write(before, scope)
            _systemctl(scope, "daemon-reload")
        raise BadInput(f"{error}; nothing was changed, and --print gives a line for cron instead") from None
    if before == texts:
        return "started again"
    return "created" if set(before.values()) == {None} else "replaced"


def remove(name: str, scope: Scope) -> bool:
    """Stops the timer and removes the units; a run in progress continues to its end.

    Returns:
      whether there was anything to remove.

    Raises:
      BadInput: a unit of that name belongs to somebody else, the folder cannot be written, or systemctl fails.
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
            # The time of its last run: without it a later schedule of that name has nothing to catch up on. systemd
            # before version 244 cannot clean it.
            _systemctl_succeeds(scope, "clean", "--what=state", timer)
        _write(dict.fromkeys(files), scope)
        _systemctl(scope, "daemon-reload")
        _systemctl_succeeds(scope, "reset-failed", service)
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
                "another name with --name, or remove that one with --remove"
            )


def _refuse_others(file: Path, content: str) -> None:
    if not content.startswith(_MARK):
        raise BadInput(
            f"{file} was not written by `warmstart schedule` and is left alone; choose another name with --name"
        )


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); choose another name with --name") from None


def _write(texts: Mapping[Path, str | None], scope: Scope) -> None:
    """Writes each file, or removes it if its text is None; if one cannot be written, none is."""
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
        hint = "run this with sudo, or use --user" if scope == "system" else "change its owner or its permissions"
        raise BadInput(f"{units_folder(scope)} cannot be written ({error.strerror}); {hint}") from None


def _systemctl(scope: Scope, *arguments: str) -> None:
    """Calls systemctl."""
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


def _systemctl_succeeds(scope: Scope, *arguments: str) -> bool:
    try:
        _systemctl(scope, *arguments)
    except BadInput:
        return False
    return True
