"""Models that are only read, from the database of PGQ_SYNC."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from pgq_sync.contrib.django.configuration import Configuration, configuration
from pgq_sync.errors import ConfigError, PgqError


class ReadOnly(PgqError, TypeError):
    """A model was to be saved or deleted. Nothing was changed."""


def queue_alias() -> str:
    """PGQ_SYNC["DATABASE"]; "default" where PGQ_SYNC cannot be used, of which the system checks tell."""
    try:
        return configuration().database
    except ConfigError:
        return str(Configuration.__dataclass_fields__["database"].default)


def _refuse(model: type[models.Model], what: str) -> NoReturn:
    raise ReadOnly(f"{model.__name__}.{what}: the model is only read; {getattr(model, 'changed_by', 'pgq')} changes these rows")


class ReadingQuerySet(models.QuerySet):
    """Refuses whatever writes."""

    def create(self, **kwargs: Any) -> NoReturn:
        _refuse(self.model, "create")

    def get_or_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self.model, "get_or_create")

    def update_or_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self.model, "update_or_create")

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self.model, "bulk_create")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self.model, "bulk_update")

    def update(self, **kwargs: Any) -> NoReturn:
        _refuse(self.model, "update")

    def delete(self) -> NoReturn:
        _refuse(self.model, "delete")


class ReadingManager(models.Manager.from_queryset(ReadingQuerySet)):  # type: ignore[misc]
    """Reads from the queue's database, unless another one is asked for."""

    def get_queryset(self) -> Any:
        queryset = super().get_queryset()
        return queryset if self._db else queryset.using(queue_alias())


class ReadingModel(models.Model):
    """A row of a table that pgq-sync itself writes."""

    changed_by = "pgq"

    objects = ReadingManager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(type(self), "save")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(type(self), "delete")
