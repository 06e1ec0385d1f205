"""The times at which a schedule starts its runs: cron expressions as people write and as Kubeflow reads them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from schemas.errors import BadInput


@dataclass(frozen=True)
class _Field:
    """A field of a cron expression: its name, its bounds, and the names of its values."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MINUTE, _HOUR, _DAY = _Field("minute", 0, 59), _Field("hour", 0, 23), _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
_WEEKDAY = _Field("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
_DAY_MINUTES = 24 * 60
_RANGE = re.compile(r"(?:(?P<any>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


@dataclass(frozen=True)
class Timetable:
    """The times at which a schedule starts its runs."""

    cron: str
    """Cron expression, five fields as given."""
    time_zone: str
    kfp_cron: str
    """The expression that KFP gets: six fields, seconds first, in the cluster's time zone."""

    def next_times(self, count: int, after: datetime | None = None) -> list[datetime]:
        """The next `count` start times in `time_zone`; fewer if no more come within nine years.

        Args:
          after: a time with a time zone, after which to start; None: now.
        """
        fields = cron_fields(self.cron)
        starts = _starts(fields, ZoneInfo(self.time_zone), after or datetime.now(timezone.utc))
        return list(itertools.islice(starts, count))


def timetable(cron: str, time_zone: str = "UTC", cluster_time_zone: str = "UTC") -> Timetable:
    """Checks a cron expression and makes a timetable of it.

    A KFP schedule has no time zone. Its recurring runs carry a start time, an end time and a cron expression, nothing
    else (V2beta1CronSchedule). The expression is parsed by robfig/cron 1.2.0, which refuses `TZ=` and `CRON_TZ=`
    (robfig/cron#148: they came with version 2). One zone holds for the whole installation: CRON_SCHEDULE_TIMEZONE of
    the controller, UTC unless changed. So an expression in another zone is shifted if the shift is exact all year, and
    refused if it is not: 3 o'clock in Berlin is 1 or 2 o'clock UTC.

    That parser also accepts five fields, but takes the first for seconds and silently starts the pipeline at the wrong
    times. So six fields are sent. Accepted here is what it accepts, and 7 for Sunday. L, W and #, which Python's cron
    libraries know, are not.

    Args:
      cron: minute, hour, day of the month, month, day of the week.
      time_zone: IANA name, such as Asia/Kolkata, that the expression is in.
      cluster_time_zone: the zone that the cluster reads expressions in.

    Raises:
      BadInput: the expression is invalid, never comes true, or cannot be written in the cluster's time zone.
    """
    zone, cluster_zone = _zone(time_zone), _zone(cluster_time_zone)
    fields = cron_fields(cron)
    if next(_starts(fields, zone, datetime.now(timezone.utc)), None) is None:
        raise BadInput(f"the cron expression {cron!r} names a day that never comes; correct the day and month")
    shifts = _shifts_minutes(zone, cluster_zone)
    texts, values = zip(*fields, strict=True)
    ways = {texts} if shifts == {0} else {_shifted(values, shift) for shift in shifts}
    written = ways.pop()
    if ways or written is None:
        raise BadInput(
            f"KFP has one time zone for all schedules, here {cluster_time_zone}, and no expression in it always means "
            f"{cron!r} in {time_zone}; give the hour in {cluster_time_zone}, or change the cluster's time zone "
            "(cronScheduleTimezone in the ConfigMap pipeline-install-config) and pass the new one"
        )
    return Timetable(cron=cron.strip(), time_zone=time_zone, kfp_cron=" ".join(["0", *written]))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; not a name; a folder of the database, such as "Europe"
        raise BadInput(f"there is no time zone {name!r}; give an IANA name such as UTC or Europe/Berlin") from None


def cron_fields(cron: str) -> list[tuple[str, frozenset[int]]]:
    """The text, as robfig/cron accepts it, and the values of each of the five fields.

    Raises:
      BadInput: the expression is invalid.
    """
    texts = cron.lower().split()
    if len(texts) != len(_FIELDS):
        hint = "; leave out the seconds, which are added" if len(texts) == 6 else ""
        raise BadInput(
            f"the cron expression {cron!r} has {len(texts)} field{'s' * (len(texts) != 1)}; expected five (minute, "
            f"hour, day of the month, month, day of the week), such as '0 3 * * *'{hint}"
        )
    found = []
    for text, field in zip(texts, _FIELDS, strict=True):
        try:
            values = frozenset().union(*(_values(part, field) for part in text.split(",")))
        except ValueError as error:
            raise BadInput(f"the cron expression {cron!r} is invalid: {field.name} {text!r} {error}") from None
        # robfig/cron has no 7; to people it is Sunday.
        rewritten = field is _WEEKDAY and re.search(r"(?<![/\d])7(?!\d)", text)
        found.append((",".join(map(str, sorted(values))) if rewritten else text, values))
    if found[2][0] != "*" and found[4][0] != "*":
        raise BadInput(
            f"the cron expression {cron!r} limits both the day of the month and the day of the week, which some "
            "programs read as `or` and others as `and`; leave one of the two at *"
        )
    return found


def as_list(values: Iterable[int], bounds: range, dash: str, name: Callable[[int], str] = str) -> str:
    """The values of a field as text: `*`, or a list of values and ranges such as `1,5-7`.

    Args:
      bounds: every value that it could allow.
      dash: what stands between the first and the last value of a range.
      name: how a value is written.
    """
    ordered = sorted(values)
    if len(ordered) == len(bounds):
        return "*"
    runs = [list(run) for _, run in itertools.groupby(enumerate(ordered), lambda at: at[1] - at[0])]
    ranges = [(run[0][1], run[-1][1]) for run in runs]
    return ",".join(name(first) if first == last else f"{name(first)}{dash}{name(last)}" for first, last in ranges)


def _values(part: str, field: _Field) -> frozenset[int]:
    """The values of a part of a field, as robfig/cron reads it: `N/step` continues to the last value."""
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError("is not a value, a range (1-5) or a step (*/15)")
    step = int(match["step"] or 1)
    if step == 0:
        raise ValueError("has a step of 0")
    if match["any"]:
        return frozenset(range(field.low, field.high + 1, step))
    highest = 7 if field is _WEEKDAY else field.high
    low = _number(match["low"], field)
    high = _number(match["high"], field) if match["high"] else field.high if match["step"] else low
    if low < field.low or max(low, high) > highest:
        raise ValueError(f"is not within {field.low} to {field.high}")
    if low > high:
        raise ValueError("ends before it begins")
    return frozenset(value % 7 if field is _WEEKDAY else value for value in range(low, high + 1, step))


def _number(text: str, field: _Field) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if not text.isdecimal():
        raise ValueError("is not a value, a range (1-5) or a step (*/15)")
    return int(text)


def _starts(fields: list[tuple[str, frozenset[int]]], zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Times after `after`, within nine years: so far apart may two 29 February be.

    Times that a change of clocks leaves out are left out.
    """
    minutes, hours, days, months, weekdays = (values for _, values in fields)
    first = after.astimezone(zone).date()
    for date in (first + timedelta(days=number) for number in range(9 * 366)):
        if date.day not in days or date.month not in months or date.isoweekday() % 7 not in weekdays:
            continue
        for hour, minute in itertools.product(sorted(hours), sorted(minutes)):
            start = datetime(date.year, date.month, date.day, hour, minute, tzinfo=zone)
            exists = start.astimezone(timezone.utc).astimezone(zone).hour == hour
            if start > after and exists:
                yield start


def _shifts_minutes(zone: ZoneInfo, cluster_zone: ZoneInfo) -> set[int]:
    """How far the cluster's clocks are ahead within the next five years; several values if clocks change."""
    if zone.key == cluster_zone.key:
        return {0}
    now = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    moments = (now + timedelta(hours=hour) for hour in range(5 * 366 * 24))
    return {_offset_minutes(moment, cluster_zone) - _offset_minutes(moment, zone) for moment in moments}


def _offset_minutes(moment: datetime, zone: ZoneInfo) -> int:
    return round((moment.astimezone(zone).utcoffset() or timedelta()).total_seconds() / 60)


def _shifted(fields: tuple[frozenset[int], ...], shift_minutes: int) -> tuple[str, ...] | None:
    """The five fields for clocks that are ahead by this many minutes; None: five fields cannot express it."""
    minutes, hours, days, months, weekdays = fields
    times = {hour * 60 + minute + shift_minutes for hour in hours for minute in minutes}
    day_shifts = {time // _DAY_MINUTES for time in times}
    new_hours = frozenset(time % _DAY_MINUTES // 60 for time in times)
    new_minutes = frozenset(time % 60 for time in times)
    if {hour * 60 + minute for hour in new_hours for minute in new_minutes} != {time % _DAY_MINUTES for time in times}:
        return None
    every_date = len(days) == 31 and len(months) == 12
    if every_date and len(weekdays) < 7 and len(day_shifts) == 1:
        weekdays = frozenset((weekday + min(day_shifts)) % 7 for weekday in weekdays)
    elif day_shifts != {0} and not (every_date and len(weekdays) == 7):
        return None
    new = (new_minutes, new_hours, days, months, weekdays)
    return tuple(
        "*" if len(values) == field.high - field.low + 1 else ",".join(map(str, sorted(values)))
        for values, field in zip(new, _FIELDS, strict=True)
    )
