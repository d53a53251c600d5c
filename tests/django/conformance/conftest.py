"""Each test of the suite is run for each backend."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from pgq_sync.testing import drain
from tests.django.conformance.backends import Backend
from tests.django.tasks_of_django import Task, task_backends

_PICKLES = hasattr(Task, "_reconstruct")  # from Django 6.1 on
ALL = ("pgq", "immediate", "dummy")


@pytest.fixture(params=ALL)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend to examine."""
    if request.param == "pgq":
        finish = partial(drain, request.getfixturevalue("pgq"))
        can = dict.fromkeys(("defers", "reads_results", "pickles", "is_strict"), True)
        yield Backend(name="pgq", alias="default", second="second", finish=finish, **can)
    elif request.param == "immediate":
        yield Backend(name="immediate", alias="immediate", second="immediate_second", runs_at_once=True, pickles=_PICKLES)
    else:
        clear: Any = task_backends["dummy"].clear
        clear()
        yield Backend(name="dummy", alias="dummy", second="dummy_second", runs=False, defers=True, pickles=_PICKLES)


@pytest.fixture
def running(backend: Backend) -> Backend:
    """The backend, if it runs tasks."""
    if not backend.runs:
        pytest.skip(f"{backend.name} runs no tasks")
    return backend


@pytest.fixture
def reading(backend: Backend) -> Backend:
    """The backend, if results are read from it by anybody."""
    if not backend.reads_results:
        pytest.skip(f"{backend.name} has no results for others")
    return backend
