"""Sets a project up in a process that did not start by `manage.py`."""

from __future__ import annotations

import django
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from pgq_sync.errors import ConfigError

APP = "pgq_sync.contrib.django"


def setup() -> None:
    """Loads the project's apps, unless that is done already or going on.

    Raises:
        ConfigError: there is no project, or pgq-sync is none of its apps.
    """
    try:
        if not apps.ready and not apps.loading:
            django.setup()
        installed = apps.is_installed(APP)
    except ImproperlyConfigured as error:
        raise ConfigError(f"the Django project cannot be set up: {error}") from error
    if not installed:
        raise ConfigError(f'INSTALLED_APPS lacks "{APP}": add it to the settings of the Django project')
