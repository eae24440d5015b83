"""When jobs at providers are looked at."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import fmean

import pytest

from tasks_lib.providers.patience import Patience


def looks(patience: Patience, seconds: float) -> list[float]:
    """The ages at which a job that takes so long is looked at; at the last one it is seen to be done."""
    ages = [0.0]
    while ages[-1] < seconds:
        ages.append(ages[-1] + patience.pause("a model", ages[-1]))
    return ages[1:]


def took(patience: Patience, ages: list[float]) -> None:
    """Tell what the looks at a job have seen."""
    patience.took("a model", [0.0, *ages][-2], ages[-1])


@pytest.mark.parametrize("seconds", [0.3, 2, 30, 50])
def test_result_waits_a_tenth_of_the_age_at_most_when_nothing_is_known(seconds: float) -> None:
    found = looks(Patience(0.2), seconds)
    assert found[-1] <= max(1.1 * seconds, seconds + 0.2) + 1e-6


@pytest.mark.parametrize("seconds", [2, 30, 50])
def test_few_looks_find_it_soon_when_others_took_as_long(seconds: float) -> None:
    patience = Patience(0.2)
    first = looks(patience, seconds)
    took(patience, first)
    for _ in range(20):
        found = looks(patience, seconds)
        took(patience, found)
        assert found[-1] <= 1.15 * seconds
    assert found[-1] <= 1.05 * seconds
    # Pauses have a longest one, too.
    assert len(found) <= 4 + seconds // 10 < len(first)


@pytest.mark.parametrize("seconds", [5, 40])
def test_results_wait_little_when_jobs_are_somewhat_alike(seconds: float) -> None:
    patience, chance = Patience(0.2), Random(1)
    late, number = [], []
    for _ in range(500):
        took_seconds = seconds * chance.uniform(0.9, 1.1)
        found = looks(patience, took_seconds)
        took(patience, found)
        late.append(found[-1] - took_seconds)
        number.append(len(found))
    assert fmean(late) < 0.04 * seconds
    assert max(late[50:]) < 0.15 * seconds
    assert fmean(number) < 8


def test_looks_come_earlier_when_jobs_become_quicker() -> None:
    patience = Patience(0.2)
    patience.took("a model", 9.8, 10)
    for _ in range(15):
        found = looks(patience, 5)
        took(patience, found)
    assert found[-1] <= 6


def test_looks_spread_when_jobs_are_not_alike() -> None:
    patience, chance = Patience(0.2), Random(1)
    late, number = [], []
    for _ in range(300):
        seconds = chance.uniform(20, 40)
        found = looks(patience, seconds)
        took(patience, found)
        late.append(found[-1] - seconds)
        number.append(len(found))
    assert fmean(late) < 3
    assert fmean(number) < 6


def test_pauses_grow_again_when_a_job_is_late() -> None:
    patience = Patience(0.2)
    patience.took("a model", 1.9, 2)
    found = looks(patience, 60)
    assert len(found) < 40
    assert max(later - earlier for earlier, later in pairwise(found)) <= 10.001
