"""pgq-sync: a job queue for synchronous Python on PostgreSQL. These are its public names."""

from pgq_sync.app import PgQueuer
from pgq_sync.engine.worker import Worker, WorkReport
from pgq_sync.entrypoints.backoff import RetryWithBackoffEntrypointExecutor
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.database_retry import DatabaseRetry, DatabaseRetryEntrypointExecutor
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutor, EntrypointExecutorParameters
from pgq_sync.entrypoints.processes import ProcessExecutor
from pgq_sync.entrypoints.schedules import Schedule
from pgq_sync.errors import (
    Cancelled,
    ConfigError,
    DuplicateJob,
    Hold,
    JobTimeout,
    MaxRetriesExceeded,
    MaxTimeExceeded,
    PayloadTooLarge,
    PgqError,
    ProcessCrashed,
    RemoteError,
    Retry,
    SchemaError,
    StoreUnavailable,
)
from pgq_sync.models import (
    CancelResult,
    DeleteResult,
    Job,
    JobId,
    JobRecord,
    LimitRecord,
    NewJob,
    QueueExecutionMode,
    RequeueResult,
)
from pgq_sync.settings import Settings
from pgq_sync.version import __version__

__all__ = [
    "AbstractEntrypointExecutor",
    "CancelResult",
    "Cancelled",
    "ConfigError",
    "Context",
    "DatabaseRetry",
    "DatabaseRetryEntrypointExecutor",
    "DeleteResult",
    "DuplicateJob",
    "EntrypointExecutor",
    "EntrypointExecutorParameters",
    "Hold",
    "Job",
    "JobId",
    "JobRecord",
    "JobTimeout",
    "LimitRecord",
    "MaxRetriesExceeded",
    "MaxTimeExceeded",
    "NewJob",
    "PayloadTooLarge",
    "PgQueuer",
    "PgqError",
    "ProcessCrashed",
    "ProcessExecutor",
    "QueueExecutionMode",
    "RemoteError",
    "RequeueResult",
    "Retry",
    "RetryWithBackoffEntrypointExecutor",
    "Schedule",
    "SchemaError",
    "Settings",
    "StoreUnavailable",
    "WorkReport",
    "Worker",
    "__version__",
]
