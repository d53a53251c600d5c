"""Actions: what users of the admin do to jobs and schedules, by pgq-sync's own means. Each tells what became of what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from pgq_sync.contrib.django.application import pgq

_SHOWN = 20  # ids in a message


def chosen(request: Any) -> list[int]:
    """The ids that were ticked. "All" of a list that shows the latest alone would be a guess, and is none."""
    given = request.POST.getlist(ACTION_CHECKBOX_NAME)
    if request.POST.get("select_across") == "1":
        messages.error(request, "Only jobs that are ticked are changed, not all of a list: nothing was done.")
        return []
    return [int(each) for each in given if each.isdecimal() and 0 < int(each) < 2**63]


def listed(ids: Iterable[Any]) -> str:
    """Ids in a sentence."""
    known = [str(each) for each in ids]
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return ("job " if len(known) == 1 else "jobs ") + ", ".join(known[:_SHOWN]) + more


def say(request: Any, level: int, ids: Sequence[Any], what: str) -> None:
    """One message about some jobs, if there are any."""
    if ids:
        messages.add_message(request, level, f"{listed(ids)[0].upper()}{listed(ids)[1:]}: {what}.")


def note(request: Any, objects: Sequence[Any], what: str, flag: int = CHANGE) -> None:
    """Writes into the admin's history what was done to these."""
    if objects:
        LogEntry.objects.log_actions(request.user.pk, objects, flag, what)


class Steering:
    """What both pages of jobs can do."""

    @admin.action(description="Requeue: have failed or held jobs run again", permissions=["steer"])
    def requeue(self, request: Any, queryset: Any) -> HttpResponse | None:
        found = self._rows(request)
        done = pgq.jobs.requeue(found)
        held = [old for old, new in done.requeued.items() if old == new]
        anew = [f"{old} (now {new})" for old, new in done.requeued.items() if old != new]
        before = [f"{old} (as {new})" for old, new in done.already.items()]
        say(request, messages.SUCCESS, held, "put back, its attempts count from 1 again")
        say(request, messages.SUCCESS, anew, "put back under a new id")
        say(request, messages.WARNING, before, "was put back before; it is the new one that can be put back")
        say(request, messages.WARNING, done.conflicts, "its dedupe key is taken by another unfinished job; left as it is")
        say(request, messages.WARNING, done.unknown, "neither held nor failed; left as it is")
        note(request, [found[old] for old in done.requeued if found[old]], "Requeued.")
        return self._back(request)

    @admin.action(description="Delete: end jobs that wait, forget finished ones", permissions=["erase"])
    def erase(self, request: Any, queryset: Any) -> HttpResponse | None:
        found = self._rows(request)
        done = pgq.jobs.delete(found)
        say(request, messages.SUCCESS, done.deleted, "deleted")
        say(request, messages.WARNING, done.refused, "it runs, and is not deleted: cancel asks it to end")
        say(request, messages.WARNING, done.unknown, "there is no such job any more")
        note(request, [found[each] for each in done.deleted if found[each]], "Deleted.", DELETION)
        return self._back(request)

    def _rows(self, request: Any) -> dict[int, Any]:
        """The chosen ids with their rows, as far as these are here; a job may have gone elsewhere."""
        ids = chosen(request)
        rows = self.model.objects.only("id", "entrypoint").in_bulk(ids)  # type: ignore[attr-defined]
        return {each: rows.get(each) for each in ids}

    def _back(self, request: Any) -> HttpResponse | None:
        """To the job's page, if it is there that the action was asked for."""
        ids = chosen(request) if "_from_page" in request.POST else []
        if not ids:
            return None
        me: Any = self
        name = f"{me.admin_site.name}:pgq_sync_{me.opts.model_name}"
        there = pgq.jobs.get(ids[0]) is not None
        return HttpResponseRedirect(reverse(f"{name}_change", args=[ids[0]]) if there else reverse(f"{name}_changelist"))


class SteeringUnfinished(Steering):
    """What can be done to unfinished jobs."""

    @admin.action(description="Cancel: end jobs that wait, ask running ones to end", permissions=["steer"])
    def cancel(self, request: Any, queryset: Any) -> HttpResponse | None:
        found = self._rows(request)
        done = pgq.jobs.cancel(found)
        say(request, messages.SUCCESS, done.ended, "cancelled, and will not run")
        say(request, messages.SUCCESS, done.asked, "it runs, and was asked to end")
        say(request, messages.WARNING, done.unknown, "finished already, or never there")
        note(request, [found[each] for each in (*done.ended, *done.asked) if found[each]], "Cancelled.")
        return self._back(request)

    @admin.action(description="Pause the entrypoints of these jobs", permissions=["steer"])
    def pause_entrypoint(self, request: Any, queryset: Any) -> HttpResponse | None:
        return self._switch(request, pgq.limits.pause, "paused: no worker starts its jobs", "was paused already")

    @admin.action(description="Resume the entrypoints of these jobs", permissions=["steer"])
    def resume_entrypoint(self, request: Any, queryset: Any) -> HttpResponse | None:
        return self._switch(request, pgq.limits.resume, "resumed", "was not paused")

    def _switch(self, request: Any, switch: Callable[..., bool], done: str, idle: str) -> HttpResponse | None:
        rows = [row for row in self._rows(request).values() if row]
        for entrypoint in sorted({row.entrypoint for row in rows}):
            changed = switch(entrypoint=entrypoint)
            level = messages.SUCCESS if changed else messages.WARNING
            messages.add_message(request, level, f"Entrypoint {entrypoint}: {done if changed else idle}.")
            if changed:
                note(request, [row for row in rows if row.entrypoint == entrypoint][:1], f"Entrypoint {entrypoint} {done}.")
        return self._back(request)


class SteeringSchedules:
    """What can be done to schedules."""

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: Any, queryset: Any) -> None:
        self._each(request, lambda name, expression: "paused" if pgq.schedules.pause(name, expression) else None, "was paused")

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: Any, queryset: Any) -> None:
        self._each(request, lambda name, expression: "resumed" if pgq.schedules.resume(name, expression) else None, "goes on")

    @admin.action(description="Run now: enqueue one job", permissions=["steer"])
    def run_now(self, request: Any, queryset: Any) -> None:
        self._each(request, lambda name, expression: f"enqueued as job {pgq.schedules.run_now(name, expression)}", "")

    @admin.action(description="Remove; one of the code comes back when a worker starts", permissions=["erase"])
    def remove(self, request: Any, queryset: Any) -> None:
        self._each(
            request, lambda name, expression: "removed" if pgq.schedules.remove(name, expression) else None, "gone", DELETION
        )

    def _each(self, request: Any, act: Callable[[str, str], str | None], idle: str, flag: int = CHANGE) -> None:
        """Does it to each chosen schedule.

        Args:
            request: with the choice.
            act: tells what was done; None: nothing.
            idle: what is said then.
            flag: of the admin's history.
        """
        rows = self.model.objects.in_bulk(chosen(request))  # type: ignore[attr-defined]
        for row in rows.values():
            try:
                what = act(row.name, row.expression)
            except ValueError as error:  # removed meanwhile
                messages.error(request, f"Schedule {row}: {error}.")
                continue
            messages.add_message(
                request, messages.SUCCESS if what else messages.WARNING, f"Schedule {row}: {what or idle + ' already'}."
            )
            if what:
                note(request, [row], f"{what[0].upper()}{what[1:]}.", flag)
