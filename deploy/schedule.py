"""What `warmstart schedule` sets up: `warmstart retrain` by the clock of this machine.

`deploy.systemd` writes it as a timer and its service, `deploy.crontab` as a line for a crontab. Where the two could
differ, they are made to agree:

| what                              | systemd                                    | cron                                |
|-----------------------------------|--------------------------------------------|-------------------------------------|
| environment                       | what is written here, nothing of a shell's | the same, through `env -i`          |
| the machine was off at the time   | runs once it is up (`Persistent`)          | skipped                             |
| a time that the clocks skip       | skipped on that day                        | runs right after the change         |
| a time that the clocks repeat     | runs once                                  | runs once                           |
| the run before is still going     | skipped                                    | `retrain` finds the lock, and skips |
| exit code 3, nothing pushed       | a success                                  | nobody reads exit codes             |
| output                            | the journal                                | `schedule.log` in the root          |

The two rows about clocks concern daylight-saving time. They hold for systemd 252, and for Debian's cron(8) at times
that do not come every hour. Other crons may skip the first and run the second twice. The times that `warmstart
schedule` prints are systemd's.

A missed night is caught up on because a machine that is off at three would never run otherwise; a second `retrain`
finds nothing new and ends. Exit code 3 is the verdict of a gate that did its job: a unit that fails every night the
photos are no better is a unit that nobody looks at any more. Every other code leaves a failed unit, including 4, the
alert that `retrain` raises after several such nights.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.backbone.registry import cache_folder
from deploy.timetable import Timetable, timetable
from pipeline.config import Config
from schemas.errors import BadInput

Scope = Literal["user", "system"]

LOG_FILE = "schedule.log"
_LOCAL_TIME, _TIME_ZONE_NAME = Path("/etc/localtime"), Path("/etc/timezone")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_NAME = 200  # a unit's has at most 255
# What needs no quotes, in systemd and in a shell.
PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=,@+-]+", re.ASCII)


@dataclass(frozen=True)
class Schedule:
    """A command and the times at which it runs."""

    name: str
    """Name of the units, without a suffix."""
    when: Timetable
    time_zone: str | None
    command: tuple[str, ...]
    folder: Path
    root: Path
    environment: Mapping[str, str]
    """Every variable; none is inherited."""
    user: str | None
    """The user that a system service runs as; None: it is a user's own service."""


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
    """Makes a schedule whose paths are absolute, so that it runs the same from any folder.

    Args:
      time_zone: IANA name of the zone that `cron` is in; None: the machine's.
      config: the configuration that `config_name`, `data` and `overrides` produce.
      name: name of the schedule; None: the configuration's.
      scope: whether a user or the system owns the service.

    Raises:
      BadInput: the cron expression or the time zone is invalid, or neither a unit nor a crontab can hold a path.
    """
    zone = time_zone or machine_zone()
    when = timetable(cron, zone, zone)
    command = (*_program(), *_retrain(config, config_name, data, root, overrides))
    owner = account(scope)
    home = owner.pw_dir if owner and scope == "system" else str(Path.home())
    user = owner.pw_name if owner else str(os.getuid())
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
    schedule = Schedule(
        name=unit_name(name or config.name),
        when=when,
        time_zone=time_zone,
        command=command,
        folder=Path.cwd(),
        root=root,
        environment=environment,
        user=user if scope == "system" else None,
    )
    _require_writable(schedule)
    return schedule


def unit_name(name: str) -> str:
    """The name of the units, without a suffix: `warmstart-` and the characters of `name` that systemd allows.

    Raises:
      BadInput: no such characters are left, or too many.
    """
    kept = re.sub(r"[^A-Za-z0-9_.]+", "-", name.removeprefix("warmstart-"), flags=re.ASCII).strip("-.")
    if not kept or len(kept) > _LONGEST_NAME:
        raise BadInput(
            f"--name {name!r} cannot name a schedule; use up to {_LONGEST_NAME} letters, digits, '_', '-' and '.', "
            "such as nightly"
        )
    return f"warmstart-{kept}"


def machine_zone() -> str:
    """The time zone that systemd and cron use; they ignore TZ.

    Raises:
      BadInput: the machine does not record the name of its time zone.
    """
    if not _LOCAL_TIME.exists():
        return "UTC"
    _, found, name = os.path.realpath(_LOCAL_TIME).partition("/zoneinfo/")
    if found:
        return name
    with contextlib.suppress(OSError):  # a copy of the zone's file
        if name := _TIME_ZONE_NAME.read_text(encoding="utf-8").strip():
            return name
    raise BadInput(f"{_LOCAL_TIME} does not say which time zone the machine is in; name it with --time-zone")


def default_scope() -> Scope:
    """`system` for root, `user` for everybody else."""
    return "system" if os.getuid() == 0 else "user"


def _program() -> tuple[str, ...]:
    """Interpreter and script of this command, both with absolute paths."""
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


def account(scope: Scope) -> pwd.struct_passwd | None:
    """The account that the runs belong to; None: the user has no entry in the password database.

    A system service set up with sudo runs as the person who called it: files owned by root would get in the way of
    every other command.
    """
    with contextlib.suppress(KeyError):
        if scope == "system" and os.getuid() == 0 and os.environ.get("SUDO_USER"):
            return pwd.getpwnam(os.environ["SUDO_USER"])
        return pwd.getpwuid(os.getuid())
    return None


def _require_writable(schedule: Schedule) -> None:
    """Refuses text that neither a unit nor a crontab can hold."""
    for text in (*schedule.command, *schedule.environment.values(), str(schedule.folder)):
        if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
            raise BadInput(
                f"{text!r} contains a line break, another control character or bytes that are not UTF-8, and a "
                "schedule cannot hold those; rename the file or folder, or move the setting to a configuration file"
            )
    # systemd reads it without quotes.
    folder = str(schedule.folder)
    if folder != folder.strip() or folder.endswith("\\"):
        raise BadInput(f"the working directory {folder!r} ends with a space or a backslash; run this from another one")
    # systemd refuses such a program, quoted or not.
    if re.search(r"[\"'\\]", schedule.command[0]):
        raise BadInput(
            f"the path of the interpreter, {schedule.command[0]}, contains a quote or a backslash; move it elsewhere"
        )
