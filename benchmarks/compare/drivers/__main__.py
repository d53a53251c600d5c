"""`python -m benchmarks.compare.drivers MODULE CONFIGURATION COMMAND ...`: a scenario's way to a driver.

Commands: `describe`; `install DSN`; `fill DSN LOAD`; `work DSN WORK DIRECTORY`; `produce DSN`, which then reads requests
from its standard input, one JSON object a line, and answers each with a line.
"""

from __future__ import annotations

import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from itertools import count
from typing import Any

from benchmarks.compare.drivers.base import PAYLOAD, Driver, Load, Producer, Work, slices
from benchmarks.compare.drivers.tally import Tally, stamped

_CONNECTING = 30.0  # seconds


def main(module: str, configuration: str, command: str, *arguments: str) -> None:
    driver = import_module(f"benchmarks.compare.drivers.{module}").DRIVERS[configuration]
    _COMMANDS[command](driver, *arguments)


def _describe(driver: Driver) -> None:
    own = {"label": driver.label, "configuration": driver.configuration, "unfinished": driver.unfinished}
    versions = {"Python": platform.python_version(), **{name: version(name) for name in driver.about.packages}}
    _answer({**own, "refuses": dict(driver.refuses), "about": asdict(driver.about), "versions": versions})


def _install(driver: Driver, dsn: str) -> None:
    driver.install(dsn)


def _fill(driver: Driver, dsn: str, load: str) -> None:
    driver.fill(dsn, Load(**json.loads(load)))


def _work(driver: Driver, dsn: str, work: str, directory: str) -> None:
    driver.work(dsn, Work(**json.loads(work)), Tally(directory))


def _produce(driver: Driver, dsn: str) -> None:
    with driver.produce(dsn) as producer:
        producer.enqueue_many([])  # whatever is made lazily, is made
        _answer("ready")
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "pace":
                _answer(_pace(driver, dsn, **request["with"]))
            else:
                _answer(_REQUESTS[request["do"]](producer, **request["with"]))


def _single(producer: Producer, jobs: int, per_transaction: int) -> float:
    """Enqueues one by one, so many in each transaction; the seconds that it took."""
    started = time.perf_counter()
    for _ in range(jobs // per_transaction):
        with producer.transaction():
            for _ in range(per_transaction):
                producer.enqueue(PAYLOAD)
    return time.perf_counter() - started


def _batches(producer: Producer, jobs: int, batch: int) -> float:
    """Enqueues in batches; the seconds that it took."""
    payloads = [PAYLOAD] * jobs
    started = time.perf_counter()
    for stretch in slices(payloads, batch):
        producer.enqueue_many(stretch)
    return time.perf_counter() - started


def _pace(driver: Driver, dsn: str, rate: float, jobs: int, connections: int) -> float:
    """Enqueues single stamped jobs at a steady rate, from so many threads; the seconds that it took, without connecting."""
    numbers, moments = count(), list[float]()
    begin = threading.Barrier(connections, lambda: moments.append(time.monotonic()), timeout=_CONNECTING)

    def run() -> None:
        with driver.produce(dsn) as producer:
            producer.enqueue_many([])  # whatever is made lazily, is made
            begin.wait()
            while (number := next(numbers)) < jobs:
                time.sleep(max(moments[0] + number / rate - time.monotonic(), 0))
                producer.enqueue(stamped())
            moments.append(time.monotonic())

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(moments) != connections + 1:
        raise RuntimeError("a thread that enqueues has failed")
    return max(moments) - moments[0]


def _answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


_COMMANDS: Mapping[str, Callable[..., None]] = {
    "describe": _describe,
    "install": _install,
    "fill": _fill,
    "work": _work,
    "produce": _produce,
}
_REQUESTS: Mapping[str, Callable[..., float]] = {"single": _single, "batches": _batches}

if __name__ == "__main__":
    main(*sys.argv[1:])
