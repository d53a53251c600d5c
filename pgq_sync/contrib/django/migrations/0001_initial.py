"""The tables of version 1, by pgq-sync's own SQL, and the models by which Django sees them."""

from __future__ import annotations

from django.db import migrations, models

from pgq_sync.contrib.django.fields import PlainJSONField, TextArrayField
from pgq_sync.contrib.django.installing import BringUpToDate
from pgq_sync.contrib.django.tables import table

FINISHED = [(each, each) for each in ("succeeded", "failed", "cancelled", "deleted")]
UNFINISHED = [(each, each) for each in ("queued", "running", "held")]


class Migration(migrations.Migration):
    """The first."""

    initial = True

    operations = [
        BringUpToDate(1),
        migrations.CreateModel(
            name="FinishedJob",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("queue", models.TextField()),
                ("entrypoint", models.TextField()),
                ("priority", models.SmallIntegerField()),
                ("execute_after", models.DateTimeField(help_text="Not before.")),
                ("created_at", models.DateTimeField()),
                ("claimed_at", models.DateTimeField(help_text="When its latest attempt began.", null=True)),
                ("worker_id", models.UUIDField(null=True)),
                ("fence", models.BigIntegerField(null=True)),
                ("dedupe_key", models.TextField(null=True)),
                ("dedupe_until", models.TextField(null=True)),
                ("payload", models.BinaryField(null=True)),
                ("headers", models.JSONField(null=True)),
                ("errors", models.JSONField(help_text="One entry per failed attempt.", null=True)),
                ("requeued_from", models.BigIntegerField(help_text="The failed job whose place it took.", null=True)),
                (
                    "status",
                    models.TextField(choices=FINISHED),
                ),
                ("attempts", models.IntegerField()),
                ("finished_at", models.DateTimeField()),
                ("requeued_as", models.BigIntegerField(help_text="The job that took its place.", null=True)),
                ("result", PlainJSONField(null=True)),
            ],
            options={
                "verbose_name": "finished job",
                "db_table": table("history"),
                "ordering": ("-id",),
                "default_permissions": ("view", "change", "delete"),
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Schedule",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("expression", models.TextField()),
                ("timezone", models.TextField()),
                ("entrypoint", models.TextField()),
                ("queue", models.TextField()),
                ("priority", models.SmallIntegerField()),
                ("payload", models.BinaryField(null=True)),
                ("on_missed", models.TextField()),
                ("jitter", models.DurationField(null=True)),
                ("next_at", models.DateTimeField()),
                ("last_at", models.DateTimeField(null=True)),
                ("paused_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": table("schedule"),
                "default_permissions": ("view", "change", "delete"),
                "ordering": ("name", "expression"),
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="UnfinishedJob",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("queue", models.TextField()),
                ("entrypoint", models.TextField()),
                ("priority", models.SmallIntegerField()),
                ("execute_after", models.DateTimeField(help_text="Not before.")),
                ("created_at", models.DateTimeField()),
                ("claimed_at", models.DateTimeField(help_text="When its latest attempt began.", null=True)),
                ("worker_id", models.UUIDField(null=True)),
                ("fence", models.BigIntegerField(null=True)),
                ("dedupe_key", models.TextField(null=True)),
                ("dedupe_until", models.TextField(null=True)),
                ("payload", models.BinaryField(null=True)),
                ("headers", models.JSONField(null=True)),
                ("errors", models.JSONField(help_text="One entry per failed attempt.", null=True)),
                ("requeued_from", models.BigIntegerField(help_text="The failed job whose place it took.", null=True)),
                ("status", models.TextField(choices=UNFINISHED)),
                ("attempt", models.IntegerField()),
                ("rescues", models.SmallIntegerField(help_text="How many workers have died while it ran.")),
            ],
            options={
                "verbose_name": "unfinished job",
                "db_table": table("job"),
                "ordering": ("-id",),
                "default_permissions": ("view", "change", "delete"),
                "permissions": (("view_payload", "Can see payloads, headers, results, dedupe keys and tracebacks"),),
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("worker_id", models.UUIDField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("host", models.TextField()),
                ("pid", models.IntegerField()),
                ("version", models.TextField()),
                ("queues", TextArrayField(help_text="None: all of them.", null=True)),
                ("entrypoints", TextArrayField()),
                ("slots", models.IntegerField()),
                ("state", models.TextField()),
                ("liveness_limit", models.DurationField(help_text="Of silence, after which its jobs are taken over.")),
                ("started_at", models.DateTimeField()),
                ("beat_at", models.DateTimeField(help_text="Its last sign of life.")),
            ],
            options={
                "db_table": table("worker"),
                "default_permissions": ("view",),
                "ordering": ("name",),
                "managed": False,
            },
        ),
    ]
