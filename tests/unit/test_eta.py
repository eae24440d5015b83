"""What is said of the time that is left."""

from __future__ import annotations

import pytest

from tasks_lib.eta import remaining_seconds


@pytest.mark.parametrize(
    ("elapsed", "share", "typical", "left"),
    [
        (0, 0, None, None),
        (5, 0.01, None, None),
        (5, 0.5, None, 5),
        (0, 0, 60, 60),
        (45, 0, 60, 15),
        (90, 0, 60, 0),
        # As usual: both say the same.
        (30, 0.5, 60, 30),
        (6, 0.1, 60, 54),
        # Twice as slow as usual: believed the more, the further it is.
        (12, 0.1, 60, 59.4),
        (60, 0.5, 60, 45),
        (108, 0.9, 60, 11.4),
        (50, 1, 60, 0),
    ],
)
def test_time_left_follows_history_first_and_the_task_itself_later(
    elapsed: float, share: float, typical: float | None, left: float | None
) -> None:
    assert remaining_seconds(elapsed, share, typical) == (None if left is None else pytest.approx(left))
