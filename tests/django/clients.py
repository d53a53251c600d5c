"""Users of the admin, with the permissions of a test's choice."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

VIEW = ("view_unfinishedjob", "view_finishedjob", "view_worker", "view_schedule")
STEER = ("change_unfinishedjob", "change_finishedjob", "delete_unfinishedjob", "delete_finishedjob")


def client(permissions: Iterable[str] | None = None, **options: Any) -> Client:
    """A browser in which a user of the staff has logged in; None: with every permission."""
    name = f"user{User.objects.count()}"
    user = User.objects.create_user(name, is_staff=True, is_superuser=permissions is None)
    user.user_permissions.set(Permission.objects.filter(codename__in=list(permissions or ())))
    made = Client(**options)
    made.force_login(user)
    return made


def listing(model: str) -> str:
    return reverse(f"admin:pgq_sync_{model}_changelist")


def page(model: str, key: Any) -> str:
    return reverse(f"admin:pgq_sync_{model}_change", args=[key])


def text(response: Any) -> str:
    """What a page says."""
    assert response.status_code == 200, response.status_code
    return html.unescape(response.content.decode())
