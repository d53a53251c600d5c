"""What the engine does not have yet. A fault that needs it is not tried; it is from the day on which it is there."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from pgq_sync import PgQueuer, Settings
from pgq_sync.storage.jobs import JobBook


def _missing(condition: bool, feature: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(condition, reason=f"{feature} is not there yet", run=False)


_settings = {field.name for field in dataclasses.fields(Settings)}
_options = inspect.signature(PgQueuer.entrypoint).parameters

rescue = _missing("max_rescues" not in _settings, "the rescue of dead workers' jobs")
limits = _missing("concurrency_limit" not in _options, "limiting entrypoints")
timeouts = _missing("timeout" not in _options, "the timeout of an entrypoint")
cancel = _missing(not hasattr(JobBook, "cancel"), "cancelling jobs")

# These are tried, and fail the suite on the day on which they pass: then this line goes.
reconcile = pytest.mark.xfail(reason="claims whose answer got lost stay with a worker that does not know of them")
deadline = pytest.mark.xfail(reason="a worker that stops waits for ever for a statement that gets no answer")
pooler = pytest.mark.xfail(reason="prepared statements do not exist behind a PgBouncer")
