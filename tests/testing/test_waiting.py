"""wait_until: gives what came true, and tells what did not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgq_sync.testing import wait_until


def test_it_returns_the_first_true_value() -> None:
    values = iter([0, "", None, [7], [8]])
    assert wait_until(lambda: next(values)) == [7]


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
def test_in_the_end_it_tells_what_it_has_seen_last(timeout: float | timedelta) -> None:
    with pytest.raises(AssertionError, match=r"the mail is out did not come true within 0\.05 s: at last it was \[\]"):
        wait_until(list, timeout, message="the mail is out")
    with pytest.raises(AssertionError, match=r"<lambda> did not come true within 0\.05 s: at last it was 0"):
        wait_until(lambda: 0, timeout)


def test_a_condition_may_assert() -> None:
    values = iter([1, 2, 3])

    def condition() -> bool:
        value = next(values)
        assert value == 3, f"{value} is not 3"
        return True

    assert wait_until(condition)

    def never() -> bool:
        raise AssertionError("not yet")

    with pytest.raises(AssertionError, match="at last it was AssertionError: not yet"):
        wait_until(never, 0.02)


def test_any_other_error_ends_the_wait() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0)
