"""The first one, as it is."""

from __future__ import annotations

from importlib import import_module

Migration = import_module("pgq_sync.contrib.django.migrations.0001_initial").Migration
