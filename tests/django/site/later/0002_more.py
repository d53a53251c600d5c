"""What a second version of the tables would bring."""

from __future__ import annotations

from django.db import migrations

from pgq_sync.contrib.django.installing import BringUpToDate


class Migration(migrations.Migration):
    """The second."""

    dependencies = [("pgq_sync", "0001_initial")]
    operations = [BringUpToDate(2)]
