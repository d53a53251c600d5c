"""The options that an entrypoint is declared with: their types, their defaults, and what is refused of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, get_args

from pgq_sync.durations import in_seconds
from pgq_sync.entrypoints.database_retry import DatabaseRetry
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgq_sync.models import Limit, LimitScope, OnFailure
from pgq_sync.storage.declaring import ScheduleOptions
from pgq_sync.storage.intake import check_name, refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

ExecutorFactory = Callable[[EntrypointExecutorParameters], AbstractEntrypointExecutor]


class CommonOptions(TypedDict, total=False):
    """The options that every decorator takes; `PgQueuer.entrypoint` documents them."""

    concurrency_limit: int
    requests_per_second: float
    burst: float | None
    limit_scope: LimitScope
    timeout: timedelta | float | None
    retry: DatabaseRetry | None
    on_failure: OnFailure
    executor_factory: ExecutorFactory | None
    transactional: bool
    store_result: bool
    keep_history: bool


class HandlerOptions(CommonOptions, total=False):
    """The options of a function that gets its job or its tick."""

    accepts_context: bool | None


class TickOptions(ScheduleOptions, HandlerOptions, total=False):
    """The options of a scheduled function."""

    clean_old: bool


class TaskOptions(CommonOptions, total=False):
    """The options of a task, apart from those of its jobs."""

    queue: str | None


class EntrypointOptions(HandlerOptions, total=False):
    """The options of an entrypoint."""

    queue: str | None


DEFAULTS: EntrypointOptions = {
    "queue": None,
    "concurrency_limit": 0,
    "requests_per_second": math.inf,
    "burst": None,
    "limit_scope": "fleet",
    "timeout": None,
    "retry": None,
    "on_failure": "fail",
    "executor_factory": None,
    "accepts_context": None,
    "transactional": False,
    "store_result": False,
    "keep_history": True,
}

_LONGEST_TIMEOUT = timedelta(days=365_000)  # a deadline in ten thousand years is no date any more
_MOST_AT_ONCE = 2**31 - 1  # PostgreSQL's integer


def complete(options: CommonOptions) -> EntrypointOptions:
    """`options` with the defaults of those that are not given.

    Raises:
        TypeError, ValueError: one of them is unknown, or its value cannot be used.
    """
    refuse_unknown(options, DEFAULTS)
    given: EntrypointOptions = {**DEFAULTS, **options}
    if (retry := given["retry"]) is not None and not isinstance(retry, DatabaseRetry):
        raise ValueError(f"retry={retry!r}: a DatabaseRetry is accepted, as in DatabaseRetry(max_attempts=3)")
    if (factory := given["executor_factory"]) is not None and not callable(factory):
        raise TypeError(f"executor_factory={factory!r}: a subclass of AbstractEntrypointExecutor is accepted")
    if isinstance(factory, type) and not issubclass(factory, AbstractEntrypointExecutor):
        raise TypeError(
            f"executor_factory={factory!r}: a subclass of AbstractEntrypointExecutor is accepted; "
            "an Executor of concurrent.futures as functools.partial(ProcessExecutor, pool=...)"
        )
    if given["accepts_context"] not in (None, True, False):
        raise ValueError(f"accepts_context={given['accepts_context']!r}: True, False or None is accepted")
    return given


def parted(given: TickOptions) -> tuple[dict[str, Any], HandlerOptions]:
    """The options of a schedule, and those of its function.

    Raises:
        TypeError: there is no such option.
    """
    refuse_unknown(given, TickOptions.__annotations__)
    of_function: Any = {name: value for name, value in given.items() if name in HandlerOptions.__annotations__}
    return {name: value for name, value in given.items() if name not in of_function}, of_function


def parameters(name: str, **options: Unpack[EntrypointOptions]) -> dict[str, Any]:
    """What `EntrypointExecutorParameters` tell of an entrypoint that was declared with these complete options.

    Raises:
        TypeError, ValueError: the name or one of the options cannot be used; the message names it and its value.
    """
    queue = options["queue"]
    switches = {option: options[option] for option in ("transactional", "store_result", "keep_history")}
    _check_switches(switches)
    return {
        **switches,
        "name": check_name("entrypoint", name),
        "queue": None if queue is None else check_name("queue", queue),
        "on_failure": check_on_failure(options["on_failure"]),
        "timeout": check_timeout(options["timeout"]),
        "limit": check_limit(
            *(options["concurrency_limit"], options["requests_per_second"], options["burst"], options["limit_scope"])
        ),
    }


def check_limit(concurrency_limit: Any, requests_per_second: Any, burst: Any, limit_scope: Any) -> Limit | None:
    """The limit that these options declare, or None if they leave the entrypoint unlimited.

    Raises:
        TypeError, ValueError: one of them cannot be used; the message names it and its value.
    """
    _check_concurrency(concurrency_limit)
    rate = _number("requests_per_second", requests_per_second)
    if not rate > 0:
        raise ValueError(f"requests_per_second={requests_per_second!r}: a number above 0 is accepted, or infinity for no limit")
    if limit_scope not in get_args(LimitScope):
        raise ValueError(f"limit_scope={limit_scope!r}: 'fleet' or 'worker' is accepted")
    if burst is not None:
        _check_burst(burst, rate)
    if not concurrency_limit and math.isinf(rate):
        return None
    return Limit(
        concurrency_limit=concurrency_limit,
        requests_per_second=rate,
        burst=max(1.0, rate) if burst is None else float(burst),
        scope=limit_scope,
    )


def check_timeout(timeout: Any) -> float | None:
    """`timeout`, a timedelta or seconds, in seconds.

    Raises:
        TypeError, ValueError: it cannot be used.
    """
    if timeout is None:
        return None
    return in_seconds("timeout", timeout, positive=True, most=_LONGEST_TIMEOUT, otherwise=", or None for no timeout")


def check_on_failure(on_failure: Any) -> OnFailure:
    """`on_failure`, which must be one of its two words.

    Raises:
        ValueError: it is not.
    """
    if on_failure not in get_args(OnFailure):
        raise ValueError(f"on_failure={on_failure!r}: 'fail' or 'hold' is accepted")
    checked: OnFailure = on_failure
    return checked


def _check_switches(switches: Mapping[str, object]) -> None:
    for option, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{option}={value!r}: True or False is accepted")


def _check_concurrency(limit: Any) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"concurrency_limit={limit!r}: a whole number is accepted, 0 for no limit")
    if not 0 <= limit <= _MOST_AT_ONCE:
        raise ValueError(f"concurrency_limit={limit!r}: a whole number from 0 to {_MOST_AT_ONCE:,} is accepted, 0 for no limit")


def _check_burst(burst: Any, rate: float) -> None:
    if not 1 <= _number("burst", burst) < math.inf:
        raise ValueError(f"burst={burst!r}: a number from 1 up is accepted, or None for one second's worth")
    if math.isinf(rate):
        raise ValueError(f"burst={burst!r} without requests_per_second: give the rate that it is a burst of")


def _number(option: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{option}={value!r}: a number is accepted, not a {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{option} has more than 300 digits: a number that a float can hold is accepted") from None
