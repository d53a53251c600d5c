"""pgq-sync behind Django's own tasks: TASKS = {"default": {"BACKEND": "pgq_sync.contrib.django.backend.PgqBackend"}}."""

from pgq_sync.contrib.django.backend.backend import PgqBackend
from pgq_sync.contrib.django.backend.decorator import task
from pgq_sync.contrib.django.backend.serving import PgqTaskContext
from pgq_sync.contrib.django.backend.task import PgqTask

__all__ = ["PgqBackend", "PgqTask", "PgqTaskContext", "task"]
