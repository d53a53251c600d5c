"""How values are shown. Everything that came from a job is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join

_MOST = 20_000  # characters
_EXCERPT = 512  # bytes of what is no text


def span(duration: timedelta | None) -> str:
    """A duration, as precise as it is of use."""
    if duration is None:
        return "-"
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = divmod(int(seconds), 3600)[1] // 60, int(seconds) // 3600
    if hours < 48:
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds) % 60} s"
    return f"{hours // 24} days {hours % 24} h"


def preformatted(text: str) -> str:
    """Text as it is, its end cut off where it is very long."""
    cut = f"{text[:_MOST]}\n... {len(text) - _MOST:,} characters more" if len(text) > _MOST else text
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">{}</pre>', cut)


def as_json(value: Any) -> str:
    """A JSON value, indented."""
    return "-" if value is None else preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def payload(value: Any) -> str:
    """A payload: JSON and text as such, anything else by its size and its first bytes in hex."""
    if value is None:
        return "-"
    data = bytes(value)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable() or (data and not text):
        more = " ..." if len(data) > _EXCERPT else ""
        return preformatted(f"{len(data):,} bytes: {data[:_EXCERPT].hex(' ')}{more}")
    try:
        return as_json(json.loads(text)) if text[:1] in ("{", "[") else preformatted(text)
    except (ValueError, RecursionError):
        return preformatted(text)


def failures(entries: Iterable[Mapping[str, Any]] | None) -> str:
    """Each failed attempt with its traceback, the latest first."""
    rows = [entry for entry in entries or [] if isinstance(entry, Mapping)]
    if not rows:
        return "-"
    return format_html_join(
        "",
        "<details{}><summary>attempt {}: <b>{}</b>: {}</summary>{}</details>",
        (
            (
                " open" if number == 0 else "",
                entry.get("attempt", "-"),
                entry.get("type", "?"),
                entry.get("message", ""),
                preformatted(str(entry.get("traceback") or "without a traceback")),
            )
            for number, entry in enumerate(reversed(rows))
        ),
    )


def link(site: str, model: str, key: Any, text: str | None = None) -> str:
    """A link to the page of a row."""
    if key is None:
        return "-"
    try:
        target = reverse(f"{site}:pgq_sync_{model}_change", args=[key])
    except NoReverseMatch:
        return text or str(key)
    return format_html('<a href="{}">{}</a>', target, text or key)
