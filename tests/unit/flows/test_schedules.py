"""Which times a schedule has, also where clocks change, and which of late ones are made."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows.schedules import Mark, due_times, key_of, latest_of, next_times, schedule_of, spoken, why_not

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTLY = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "day_or": True}
INTERVAL = {"interval": 86400.0, "anchor_date": "2026-01-01T02:30:00+01:00", "timezone": "Europe/Berlin"}
RULE = {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0", "timezone": "Europe/Berlin"}


def day(text: str, zone: Any = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize("schedule", [NIGHTLY, INTERVAL, RULE])
@pytest.mark.parametrize("first", ["2026-03-26", "2026-10-22"])
@pytest.mark.parametrize("minutes", [7, 60])
def test_each_night_has_one_time_when_clocks_change_and_it_is_looked_at_in_pieces(
    schedule: dict[str, Any], first: str, minutes: int
) -> None:
    start = day(first, BERLIN).astimezone(UTC)
    end = start + timedelta(days=6)
    whole = [time.astimezone(UTC) for time in due_times(schedule, start, end)]
    assert len(whole) == len(set(whole)) == 6
    assert len({time.astimezone(BERLIN).date() for time in whole}) == 6
    # The pieces that an hour around the change is looked at in, as `maintenance` does.
    pieces, looked = [], whole[3] - timedelta(hours=2)
    until = whole[3] + timedelta(hours=4)
    while looked < until:
        step = min(looked + timedelta(minutes=minutes), until)
        pieces += [time.astimezone(UTC) for time in due_times(schedule, looked, step)]
        looked = step
    assert pieces == [whole[3]]


def test_every_time_is_found_when_an_outage_was_long() -> None:
    start = day("2026-01-01T00:00")
    minutely = {"cron": "* * * * *", "timezone": "UTC", "day_or": True}
    found = due_times(minutely, start, start + timedelta(days=3))
    assert len(found) == 3 * 1440
    assert (found[0], found[-1]) == (start + timedelta(minutes=1), start + timedelta(days=3))
    assert latest_of(minutely, start, start + timedelta(seconds=330)) == start + timedelta(minutes=5)
    assert latest_of(minutely, start, start + timedelta(seconds=30)) == start


def test_the_key_names_its_schedule() -> None:
    (time,) = due_times(NIGHTLY, day("2026-06-01T12:00"), day("2026-06-02T12:00"))
    key = key_of("a", "b", time)
    # As Prefect's scheduler writes it, so that one time cannot have two runs.
    assert key == "scheduled a b 2026-06-02 02:30:00+02:00"
    assert schedule_of(key) == "b"
    assert schedule_of("somebody's own key of four words") is None
    assert schedule_of(None) is None


@pytest.mark.parametrize(
    ("late", "passed_since", "expected"),
    [
        ("0:04", "0:03", None),
        ("3:12", "0:00", None),
        ("3:12", "2:00", "missed, because its run could not start until .* is made instead"),
        ("30:00", "0:00", "missed, because its run could not start until .*; it is 1 d 6 h late"),
    ],
)
def test_only_the_latest_time_is_made_when_it_is_late(late: str, passed_since: str, expected: str | None) -> None:
    (hours, minutes), (h, m) = late.split(":"), passed_since.split(":")
    now = day("2026-06-02T12:00")
    planned = now - timedelta(hours=int(hours), minutes=int(minutes))
    latest = planned + timedelta(hours=int(h), minutes=int(m))
    reason = why_not(planned, latest, now, None)
    assert (reason is None) == (expected is None)
    if expected:
        assert re.match(expected, str(reason))


def test_the_reason_names_the_outage_when_there_was_one() -> None:
    now = day("2026-06-02T12:00")
    down = now - timedelta(hours=5)
    planned = now - timedelta(hours=4)
    reason = why_not(planned, now - timedelta(hours=1), now, Mark(NIGHTLY, True, down))
    assert reason == (
        "missed, because the platform was down from 2026-06-02 07:00 UTC to 2026-06-02 12:00 UTC; "
        "2026-06-02 11:00 UTC is made instead"
    )


def test_a_duration_is_told_in_two_units() -> None:
    told = {43: "43 s", 60: "1 min", 3 * 3600 + 12 * 60 + 5: "3 h 12 min", 90000: "1 d 1 h", 86400 + 60: "1 d"}
    assert {seconds: spoken(timedelta(seconds=seconds)) for seconds in told} == told


def test_a_schedule_that_is_none_is_refused() -> None:
    assert len(next_times(NIGHTLY, 3)) == 3
    with pytest.raises(ValueError, match="cron"):
        next_times({"cron": "never"}, 3)
