"""Types of columns that Django has no field for, or only in an app that need not be installed. Read, never written."""

from __future__ import annotations

from typing import Any

from django.db import models


class PlainJSONField(models.JSONField):
    """A column of the type json. It keeps what was stored as it was written, and knows none of jsonb's lookups."""

    def db_type(self, connection: Any) -> str:
        return "json"

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        # As text under every driver: some decode json by themselves, and the field decodes what comes.
        return f"{sql}::text", params


class TextArrayField(models.Field):
    """A column of the type text[]."""

    def db_type(self, connection: Any) -> str:
        return "text[]"
