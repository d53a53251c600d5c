"""What the jobs of the tests write to."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order."""

    note = models.TextField(default="")

    def __str__(self) -> str:
        return self.note
