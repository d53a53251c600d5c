"""What all of these pages have in common: they show, ask for permissions, and say so where the tables are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import flatten_fieldsets
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from pgq_sync.contrib.django.reading import queue_alias
from pgq_sync.contrib.django.tables import names
from pgq_sync.errors import ConfigError, SchemaError
from pgq_sync.storage.failures import told

SEE = "pgq_sync.view_payload"


def may_see(request: Any) -> bool:
    """Whether the user may see what is in jobs: payloads, headers, results, dedupe keys, errors and notes."""
    return bool(request.user.has_perm(SEE))


class ReadingAdmin(admin.ModelAdmin):
    """Pages without forms. Who may change or delete rows may use actions that do so by pgq-sync's own means."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by: Sequence[str] = ()
    actions_selection_counter = False  # with it comes "select all": nobody knows how many that would be
    list_per_page = 100
    list_max_show_all = 100

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).using(queue_alias())

    def has_add_permission(self, request: Any) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return any(self._allows(request, what) for what in ("view", "change", "delete"))

    def has_steer_permission(self, request: Any) -> bool:
        return self._allows(request, "change")

    def has_erase_permission(self, request: Any) -> bool:
        return self._allows(request, "delete")

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        # The filters have names of their own. `?payload__contains=` would tell letter by letter what may not be seen.
        return lookup in {spec.parameter_name for spec in self.list_filter}

    def get_readonly_fields(self, request: Any, obj: Any = None) -> Any:
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    def changelist_view(self, request: Any, extra_context: Any = None) -> HttpResponse:
        return self._unless_missing(request, lambda: super(ReadingAdmin, self).changelist_view(request, extra_context))

    def changeform_view(self, request: Any, object_id: Any = None, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        context = {"steering": self._steering(request), "show_close": True, "title": str(self.opts.verbose_name).capitalize()}
        show = super().changeform_view
        return self._unless_missing(request, lambda: show(request, object_id, form_url, context | (extra_context or {})))

    def response_action(self, request: Any, queryset: Any, **more: Any) -> Any:
        if not all(each.isdecimal() for each in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            messages.error(request, "There is something among the choices that is no id: nothing was done.")
            return HttpResponseRedirect(request.get_full_path())
        # The rows of a list have their filters; what is chosen on a job's page may be beyond those. Ids are what counts.
        return super().response_action(request, queryset.none(), **more)

    def _allows(self, request: Any, what: str) -> bool:
        return bool(request.user.has_perm(f"{self.opts.app_label}.{what}_{self.opts.model_name}"))

    def _steering(self, request: Any) -> list[tuple[str, str]]:
        # A tuple in Django 5.2; from 6.1 on an object with attributes.
        actions = self.get_actions(request).items()
        return [(name, str(each[2] if type(each) is tuple else each.description)) for name, each in actions]

    def _unless_missing(self, request: Any, answer: Callable[[], HttpResponse]) -> HttpResponse:
        try:
            if request.method != "GET":
                return answer()
            # A savepoint, where requests are transactions: the page that tells needs one that still works.
            with told(names()), transaction.atomic(using=queue_alias()):
                return answer()
        except (SchemaError, ConfigError) as error:
            said = str(error).partition(": run `")[0]
            messages.error(request, f"pgq-sync cannot be shown: {said}. Run `python manage.py migrate`.")
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:index"))
