"""A schedule as a line for a crontab."""

from __future__ import annotations

import re
import shlex

from deploy.schedule import LOG_FILE, PLAIN_WORD, Schedule, machine_zone
from deploy.timetable import Timetable, as_list, cron_fields, timetable
from schemas.errors import BadInput

LONGEST_LINE = 998  # of Debian's cron, in bytes; others take more


def crontab(schedule: Schedule) -> str:
    """A comment and a line for `crontab -e`.

    Raises:
      BadInput: cron cannot express the times.
    """
    root, folder = _for_crontab(str(schedule.root)), _for_crontab(str(schedule.folder))
    # The line sets its own environment, so that nothing of cron's is left.
    variables = " ".join(_for_crontab(f"{name}={value}") for name, value in schedule.environment.items())
    command = " ".join(map(_for_crontab, schedule.command))
    log = _for_crontab(str(schedule.root / LOG_FILE))
    fields = crontab_fields(schedule.when, schedule.time_zone)
    return (
        f"# {schedule.name}: written by `warmstart schedule`\n"
        f"{fields} mkdir -p {root} && cd {folder} && exec /usr/bin/env -i {variables} nice -n 10 {command} "
        f">>{log} 2>&1\n"
    )


def crontab_fields(when: Timetable, time_zone: str | None) -> str:
    """The five fields in the machine's time zone, as every cron understands them: without names or steps.

    Raises:
      BadInput: no five fields mean the same in the machine's time zone.
    """
    cron = when.cron
    if time_zone is not None:
        machine = machine_zone()
        try:
            cron = " ".join(timetable(cron, time_zone, machine).kfp_cron.split()[1:])
        except BadInput:
            raise BadInput(
                f"cron uses the machine's time zone, {machine}, and no expression in it always means {cron!r} in "
                f"{time_zone}; give the time in {machine}, without --time-zone"
            ) from None
    fields = (values for _, values in cron_fields(cron))
    bounds = (range(60), range(24), range(1, 32), range(1, 13), range(7))
    return " ".join(as_list(values, bound, "-") for values, bound in zip(fields, bounds, strict=True))


def _for_crontab(text: str) -> str:
    """One word of a command line in a crontab.

    A bare `%` ends the command. Some crons remove the backslash before it, others leave it to the shell; outside quotes
    both give `%`. Some crons turn two backslashes into one, so each backslash is quoted by itself.
    """
    if PLAIN_WORD.fullmatch(text):
        return text
    parts = re.split(r"([%\\])", text)
    return "".join({"%": "\\%", "": ""}.get(part, shlex.quote(part)) for part in parts) or "''"
