"""pgq-sync: a job queue for synchronous Python on PostgreSQL. These are its public names."""

from pgq_sync.app import PgQueuer
from pgq_sync.engine.watcher import CompletionWatcher
from pgq_sync.engine.worker import Worker, WorkReport
from pgq_sync.entrypoints.backoff import RetryWithBackoffEntrypointExecutor
from pgq_sync.entrypoints.context import Context
from pgq_sync.entrypoints.database_retry import DatabaseRetry, DatabaseRetryEntrypointExecutor
from pgq_sync.entrypoints.executors import AbstractEntrypointExecutor, EntrypointExecutor, EntrypointExecutorParameters
from pgq_sync.entrypoints.process.executor import ProcessExecutor
from pgq_sync.entrypoints.schedules import Schedule, ScheduleContext
from pgq_sync.entrypoints.tasks import ContextTask, Task
from pgq_sync.errors import (
    Cancelled,
    ConfigError,
    DuplicateJob,
    Hold,
    JobFailed,
    JobNotFound,
    JobTimeout,
    MaxRetriesExceeded,
    MaxTimeExceeded,
    PayloadTooLarge,
    PgqError,
    ProcessCrashed,
    RemoteError,
    RemoteTraceback,
    Retry,
    SchemaError,
    StoreUnavailable,
    WaitEnded,
)
from pgq_sync.models import (
    CancelResult,
    Completion,
    DeleteResult,
    Job,
    JobId,
    JobRecord,
    LimitRecord,
    NewJob,
    Progress,
    QueueExecutionMode,
    RequeueResult,
    ScheduleRecord,
)
from pgq_sync.settings import Settings
from pgq_sync.version import __version__

__all__ = [
    "AbstractEntrypointExecutor",
    "CancelResult",
    "Cancelled",
    "Completion",
    "CompletionWatcher",
    "ConfigError",
    "Context",
    "ContextTask",
    "DatabaseRetry",
    "DatabaseRetryEntrypointExecutor",
    "DeleteResult",
    "DuplicateJob",
    "EntrypointExecutor",
    "EntrypointExecutorParameters",
    "Hold",
    "Job",
    "JobFailed",
    "JobId",
    "JobNotFound",
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
    "Progress",
    "QueueExecutionMode",
    "RemoteError",
    "RemoteTraceback",
    "RequeueResult",
    "Retry",
    "RetryWithBackoffEntrypointExecutor",
    "Schedule",
    "ScheduleContext",
    "ScheduleRecord",
    "SchemaError",
    "Settings",
    "StoreUnavailable",
    "Task",
    "WaitEnded",
    "WorkReport",
    "Worker",
    "__version__",
]
