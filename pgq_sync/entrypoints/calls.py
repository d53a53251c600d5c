"""How a job becomes the call of a user's function: each kind of entrypoint has a `Call` of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pgq_sync.entrypoints.context import Context
from pgq_sync.models import Job


class Call(Protocol):
    """Calls a function with what it takes of a job. A value, so that another process can make the same call."""

    @property
    def func(self) -> Callable[..., Any]:
        """The user's function."""

    @property
    def context_parameter(self) -> str | None:
        """By which name it wants the context; None: not at all."""

    def __call__(self, job: Job, context: Context) -> Any:
        """What the function returns."""


@dataclass(frozen=True, slots=True)
class JobCall:
    """Calls a function with the job itself."""

    func: Callable[..., Any]
    context_parameter: str | None

    def __call__(self, job: Job, context: Context) -> Any:
        return call_with(self.func, self.context_parameter, job, context)


def call_with(func: Callable[..., Any], context_parameter: str | None, subject: Any, context: Context) -> Any:
    """Calls `func` with `subject`, and with the context if it wants that."""
    if context_parameter is None:
        return func(subject)
    return func(subject, **{context_parameter: context})
