"""What the suite's tasks do. Each test makes tasks of the functions in them, for the backend that it examines."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.django.tasks_of_django import TaskContext, task


@task
def add(one: int, other: int = 1) -> int:
    return one + other


@task
def echo(value: Any = None, **others: Any) -> Any:
    return [value, others] if others else value


@task
def fail(told: str) -> None:
    raise LookupError(told)


@task
def leave() -> None:
    raise SystemExit(3)


@task
def no_json() -> Any:
    return {1, 2}


@task(takes_context=True)
def attempt(context: TaskContext, word: str) -> list[Any]:
    result = context.task_result
    return [context.attempt, result.attempts, result.id, str(result.status), result.args, word]


@task
async def add_later(one: int, other: int = 1) -> int:
    await asyncio.sleep(0)
    return one + other


@task
async def fail_later(told: str) -> None:
    await asyncio.sleep(0)
    raise LookupError(told)


@task
def declared(one: int) -> int:
    return one


@task(priority=5, queue_name="mail", backend="default")
def declared_with_options(one: int) -> int:
    return one


def undeclared() -> None:
    """No task stands under its name."""
