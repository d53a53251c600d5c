"""pgq-sync's tables as models, for the admin and for reports. They are read here, and changed through `pgq.jobs` and the like.

Unmanaged: the migrations make them by pgq-sync's own SQL.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from pgq_sync.contrib.django.fields import PlainJSONField, TextArrayField
from pgq_sync.contrib.django.reading import ReadingModel
from pgq_sync.contrib.django.tables import table

UNFINISHED = [("queued", "queued"), ("running", "running"), ("held", "held")]
FINISHED = [("succeeded", "succeeded"), ("failed", "failed"), ("cancelled", "cancelled"), ("deleted", "deleted")]
_MAY_SEE = ("view_payload", "Can see payloads, headers, results, dedupe keys and tracebacks")
_STEERED = ("view", "change", "delete")


class AnyJob(ReadingModel):
    """What unfinished and finished jobs have in common."""

    changed_by = "pgq.jobs"

    id = models.BigIntegerField(primary_key=True)
    queue = models.TextField()
    entrypoint = models.TextField()
    priority = models.SmallIntegerField()
    execute_after = models.DateTimeField(help_text="Not before.")
    created_at = models.DateTimeField()
    claimed_at = models.DateTimeField(null=True, help_text="When its latest attempt began.")
    worker_id = models.UUIDField(null=True)
    fence = models.BigIntegerField(null=True)
    dedupe_key = models.TextField(null=True)
    dedupe_until = models.TextField(null=True)
    payload = models.BinaryField(null=True)
    headers = models.JSONField(null=True)
    errors = models.JSONField(null=True, help_text="One entry per failed attempt.")
    requeued_from = models.BigIntegerField(null=True, help_text="The failed job whose place it took.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.entrypoint} {self.id}"

    @property
    def ended_at(self) -> datetime | None:
        """When it finished; None: it has not."""
        return getattr(self, "finished_at", None)

    @property
    def age(self) -> timedelta:
        """Since it was enqueued, by this machine's clock."""
        return timezone.now() - self.created_at

    @property
    def wait(self) -> timedelta:
        """From due to the latest attempt's beginning; until now where none has begun, zero where it is not due yet."""
        until = self.claimed_at or self.ended_at or timezone.now()
        return max(until - self.execute_after, timedelta())

    @property
    def run_time(self) -> timedelta | None:
        """Of the latest attempt, until now if it runs; None: none has begun, or it is not known when it ended."""
        if self.claimed_at is None:
            return None
        if self.ended_at is not None:
            return self.ended_at - self.claimed_at
        return timezone.now() - self.claimed_at if getattr(self, "status", None) == "running" else None


class UnfinishedJob(AnyJob):
    """A job that waits, runs, or is held for a person."""

    status = models.TextField(choices=UNFINISHED)
    attempt = models.IntegerField()
    rescues = models.SmallIntegerField(help_text="How many workers have died while it ran.")

    class Meta:
        managed = False
        db_table = table("job")
        verbose_name = "unfinished job"
        ordering = ("-id",)
        default_permissions = _STEERED
        # One for all: whoever may see what is in jobs may see it wherever it stands.
        permissions = (_MAY_SEE,)


class FinishedJob(AnyJob):
    """A job in history."""

    status = models.TextField(choices=FINISHED)
    attempts = models.IntegerField()
    finished_at = models.DateTimeField()
    requeued_as = models.BigIntegerField(null=True, help_text="The job that took its place.")
    result = PlainJSONField(null=True)

    class Meta:
        managed = False
        db_table = table("history")
        verbose_name = "finished job"
        ordering = ("-id",)
        default_permissions = _STEERED


class Worker(ReadingModel):
    """A running process of the fleet."""

    worker_id = models.UUIDField(primary_key=True)
    name = models.TextField()
    host = models.TextField()
    pid = models.IntegerField()
    version = models.TextField()
    queues = TextArrayField(null=True, help_text="None: all of them.")
    entrypoints = TextArrayField()
    slots = models.IntegerField()
    state = models.TextField()
    liveness_limit = models.DurationField(help_text="Of silence, after which its jobs are taken over.")
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField(help_text="Its last sign of life.")

    class Meta:
        managed = False
        db_table = table("worker")
        ordering = ("name",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name

    @property
    def silence(self) -> timedelta:
        """Since its last sign of life, by this machine's clock."""
        return max(timezone.now() - self.beat_at, timedelta())


class Schedule(ReadingModel):
    """One cron expression of a schedule."""

    changed_by = "pgq.schedules"

    id = models.BigAutoField(primary_key=True)
    name = models.TextField()
    expression = models.TextField()
    timezone = models.TextField()
    entrypoint = models.TextField()
    queue = models.TextField()
    priority = models.SmallIntegerField()
    payload = models.BinaryField(null=True)
    on_missed = models.TextField()
    jitter = models.DurationField(null=True)
    next_at = models.DateTimeField()
    last_at = models.DateTimeField(null=True)
    paused_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = table("schedule")
        ordering = ("name", "expression")
        default_permissions = _STEERED

    def __str__(self) -> str:
        return f"{self.name} {self.expression}"
