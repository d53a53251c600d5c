"""pgq-sync's tables as models, for the admin and for reports. They are read here, and changed through `pgq.jobs` and the like.

Unmanaged: the migrations make them by pgq-sync's own SQL.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from pgq_sync.contrib.django.tables import table

UNFINISHED = [("queued", "queued"), ("running", "running"), ("held", "held")]
FINISHED = [("succeeded", "succeeded"), ("failed", "failed"), ("cancelled", "cancelled"), ("deleted", "deleted")]
_MAY_SEE = [("view_payload", "Can see payloads, headers, results and tracebacks")]


class AnyJob(models.Model):
    """What unfinished and finished jobs have in common."""

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
        permissions = _MAY_SEE


class FinishedJob(AnyJob):
    """A job in history."""

    status = models.TextField(choices=FINISHED)
    attempts = models.IntegerField()
    finished_at = models.DateTimeField()
    requeued_as = models.BigIntegerField(null=True, help_text="The job that took its place.")
    result = models.JSONField(null=True)

    class Meta:
        managed = False
        db_table = table("history")
        verbose_name = "finished job"
        ordering = ("-id",)
        permissions = _MAY_SEE


class Worker(models.Model):
    """A running process of the fleet."""

    worker_id = models.UUIDField(primary_key=True)
    name = models.TextField()
    host = models.TextField()
    pid = models.IntegerField()
    version = models.TextField()
    queues = ArrayField(models.TextField(), null=True, help_text="None: all of them.")
    entrypoints = ArrayField(models.TextField())
    slots = models.IntegerField()
    state = models.TextField()
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField(help_text="Its last sign of life.")

    class Meta:
        managed = False
        db_table = table("worker")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Schedule(models.Model):
    """One cron expression of a schedule."""

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

    def __str__(self) -> str:
        return f"{self.name} {self.expression}"
