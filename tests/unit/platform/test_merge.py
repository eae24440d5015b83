"""What a registration writes, and what it leaves: field by field, by what was written last."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.merge import Fields, Merge, agree, merge, remember

SAID = {"active": {"said": False, "there": False}}


@pytest.mark.parametrize(
    ("last", "theirs", "ours", "updates", "kept"),
    [
        ({}, {}, {"active": False}, {"active": False}, set()),
        (SAID, {"active": False}, {"active": False}, {}, set()),
        (SAID, {"active": False}, {"active": True}, {"active": True}, set()),
        (SAID, {"active": True}, {"active": False}, {}, {"active"}),
        (SAID, {"active": True}, {"active": True}, {}, set()),
        # It left the file: it goes if nobody touched it.
        (SAID, {"active": False}, {}, {"active": None}, set()),
        (SAID, {"active": True}, {}, {}, {"active"}),
        # A person took it away.
        (SAID, {}, {"active": False}, {}, {"active"}),
        # Nothing is remembered: what is set may be a person's.
        ({}, {"active": True}, {"active": False}, {}, {"active"}),
        # Never ours.
        ({}, {"paused": True}, {}, {}, set()),
    ],
)
def test_what_a_person_set_stays_when_the_file_says_otherwise(
    last: dict[str, Fields], theirs: dict[str, Any], ours: dict[str, Any], updates: dict[str, Any], kept: set[str]
) -> None:
    merged = merge("x", ours, theirs, last)
    assert (merged.updates, merged.kept) == (updates, kept)


def test_a_field_follows_the_file_again_when_a_person_puts_it_back() -> None:
    there = {"interval": 60.0, "anchor_date": "a"}
    last = remember(Merge(), {"schedule": {"interval": 60}}, {"schedule": there}, {})
    # The anchor is the server's to choose, and a person's to change.
    moved = merge("x", {"schedule": {"interval": 60}}, {"schedule": there | {"anchor_date": "b"}}, last)
    assert (moved.kept, moved.changes) == ({"schedule"}, [])
    last = remember(moved, {"schedule": {"interval": 60}}, {"schedule": there | {"anchor_date": "b"}}, last)
    later: dict[str, Any] = {"schedule": {"interval": 90}}
    assert merge("x", later, {"schedule": there | {"anchor_date": "b"}}, last).kept == {"schedule"}
    assert merge("x", later, {"schedule": there}, last).updates == later


def test_a_value_agrees_when_the_server_only_adds_to_it() -> None:
    assert agree({"cron": "0 3 * * *", "timezone": "UTC", "day_or": True}, {"cron": "0 3 * * *"})
    assert not agree({"cron": "0 4 * * *", "timezone": "UTC"}, {"cron": "0 3 * * *"})
    assert not agree(None, {"cron": "0 3 * * *"})
