"""Cron expressions as people write them and as Kubeflow reads them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from deploy.timetable import timetable
from schemas.errors import BadInput


def sentence(error: pytest.ExceptionInfo[BadInput]) -> str:
    """The message, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("cron", "zone", "cluster_zone", "sent"),
    [
        ("0 3 * * *", "UTC", "UTC", "0 0 3 * * *"),
        ("*/15 8-18 * * mon-fri", "UTC", "UTC", "0 */15 8-18 * * mon-fri"),
        ("0 3 * * 7", "UTC", "UTC", "0 0 3 * * 0"),
        ("0 3 * * 5-7", "UTC", "UTC", "0 0 3 * * 0,5,6"),
        ("0 3 * * 1-5/2,7", "UTC", "UTC", "0 0 3 * * 0,1,3,5"),
        ("0 3 1 JAN *", "UTC", "UTC", "0 0 3 1 jan *"),
        # India is 5:30 ahead of UTC all year, Arizona 7:00 behind.
        ("0 3 * * *", "Asia/Kolkata", "UTC", "0 30 21 * * *"),
        ("0 3 * * mon", "Asia/Kolkata", "UTC", "0 30 21 * * 0"),
        ("0 23 * * mon", "America/Phoenix", "UTC", "0 0 6 * * 2"),
        ("0 9 1 * *", "America/Phoenix", "UTC", "0 0 16 1 * *"),
        # Zones whose clocks change together.
        ("0 3 * * *", "Europe/Berlin", "Europe/Berlin", "0 0 3 * * *"),
        ("0 3 * * *", "Europe/Berlin", "Europe/Lisbon", "0 0 2 * * *"),
        # The same in every hour.
        ("30 * * * *", "Europe/Berlin", "UTC", "0 30 * * * *"),
    ],
)
def test_five_fields_become_six_in_the_zone_of_the_cluster(cron, zone, cluster_zone, sent):
    assert timetable(cron, zone, cluster_zone).kfp_cron == sent


@pytest.mark.parametrize(
    ("cron", "found"),
    [
        ("", "0 fields"),
        ("0 3 * *", "4 fields"),
        ("0 0 3 * * *", "leave out the seconds"),
        ("@daily", "1 field;"),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "6 fields"),
        ("60 3 * * *", "minute '60' is not within 0 to 59"),
        ("0 24 * * *", "hour '24' is not within 0 to 23"),
        ("0 3 0 * *", "day of the month '0' is not within 1 to 31"),
        ("0 3 * 13 *", "month '13' is not within 1 to 12"),
        ("0 3 * * 8", "day of the week '8'"),
        ("0 3 * * fri-mon", "ends before it begins"),
        ("*/0 3 * * *", "step of 0"),
        ("0 3 L * *", "not a value, a range"),
        ("0 3 ? * 1", "not a value, a range"),
        ("0 3 * * 1#2", "not a value, a range"),
        ("0 3,,4 * * *", "not a value, a range"),
        ("a b c d e", "minute 'a'"),
        ("\u0663 3 * * *", "minute"),
        ("0 3 31 2 *", "never comes"),
        ("0 3 13 * 5", "both the day of the month and the day of the week"),
    ],
)
def test_an_invalid_cron_expression_is_one_sentence(cron, found):
    with pytest.raises(BadInput) as error:
        timetable(cron)
    assert found in sentence(error)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "/etc/hostname", "../UTC", "utc+1"])
def test_an_unknown_time_zone_is_one_sentence(zone):
    with pytest.raises(BadInput, match="no time zone") as error:
        timetable("0 3 * * *", zone)
    sentence(error)
    with pytest.raises(BadInput, match="no time zone"):
        timetable("0 3 * * *", "UTC", zone)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("0 3 * * *", "Europe/Berlin"),  # 1 or 2 o'clock UTC
        ("0 23 1 * *", "America/Phoenix"),  # the day after the first of a month is no day of the month
        ("0,30 3,5 * * *", "Asia/Kolkata"),  # 21:30, 22:00, 23:30 and 0:00 are no minutes by hours
    ],
)
def test_a_time_that_kfp_cannot_be_told_is_refused_and_not_rounded(cron, zone):
    with pytest.raises(BadInput, match="one time zone for all schedules") as error:
        timetable(cron, zone)
    assert "cronScheduleTimezone" in sentence(error)


def test_the_next_times_are_those_of_the_zone():
    noon = datetime(2026, 3, 27, 12, tzinfo=timezone.utc)

    def next_times(cron: str, zone: str, count: int = 3) -> list[str]:
        return [one.isoformat() for one in timetable(cron, zone, zone).next_times(count, noon)]

    # 2:30 does not exist on 29 March, when Berlin's clocks go from 2 to 3.
    assert next_times("30 2 * * *", "Europe/Berlin") == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]
    assert next_times("0 0 29 2 *", "UTC", 2) == ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"]
    assert next_times("0 12 * * fri", "UTC", 1) == ["2026-04-03T12:00:00+00:00"]
