"""The pages. What takes time, or may fail, is enqueued; the pages show how far it is."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from orders.following import export_state, receipt_state
from orders.models import DailyReport, Export, Order, Product
from orders.tasks import export_orders, send_receipt
from pgq_sync.contrib.django import pgq


class OrderForm(forms.ModelForm):
    """An order, as a customer fills it in."""

    class Meta:
        model = Order
        fields = ("product", "quantity", "email")


def shop(request: HttpRequest) -> HttpResponse:
    form = OrderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        # Both or neither: without the order there is no job, and without the job no order. The worker starts after the commit.
        with transaction.atomic():
            order = form.save()
            order.receipt_job = send_receipt.enqueue(order.pk)
            order.save(update_fields=["receipt_job"])
        return redirect("order", order.pk)
    return render(request, "orders/shop.html", {"form": form, "products": Product.objects.all()})


@require_safe
def orders(request: HttpRequest) -> HttpResponse:
    return render(request, "orders/orders.html", {"orders": Order.objects.select_related("product")[:50]})


@require_safe
def order(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Order.objects.select_related("product"), pk=pk)
    return render(request, "orders/order.html", {"order": found, "state": receipt_state(found)})


@require_safe
def receipt(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse(receipt_state(get_object_or_404(Order, pk=pk)).as_json())


@require_POST
def send_again(request: HttpRequest, pk: int) -> HttpResponse:
    with transaction.atomic():
        found = get_object_or_404(Order.objects.select_for_update(), pk=pk)
        found.receipt_sent_at = None
        found.receipt_job = send_receipt.enqueue(found.pk)
        found.save(update_fields=["receipt_sent_at", "receipt_job"])
    return redirect("order", pk)


def exports(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        with transaction.atomic():
            made = Export.objects.create()
            made.job = export_orders.enqueue(made.pk)
            made.save(update_fields=["job"])
        return redirect("export", made.pk)
    return render(request, "orders/exports.html", {"exports": Export.objects.defer("content")[:20]})


@require_safe
def export(request: HttpRequest, pk: int) -> HttpResponse:
    found = _export(pk)
    return render(request, "orders/export.html", {"export": found, "state": export_state(found)})


@require_safe
def progress(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse(export_state(_export(pk)).as_json())


@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    found = _export(pk)
    if found.job is not None:
        pgq.jobs.cancel([found.job])
    return redirect("export", pk)


@require_safe
def download(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Export, pk=pk)
    if found.finished_at is None:
        raise Http404("This export is not ready.")
    name = f'attachment; filename="orders-{found.pk}.csv"'
    return HttpResponse(found.content, content_type="text/csv", headers={"Content-Disposition": name})


def reports(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        try:
            pgq.schedules.run_now("nightly_report")
            messages.success(request, "The report is being made; look again in a moment.")
        except ValueError:  # a worker that starts writes the schedules into the database
            messages.error(request, "The schedule is not known yet: start a worker first.")
        return redirect("reports")
    return render(request, "orders/reports.html", {"reports": DailyReport.objects.all()[:31]})


def _export(pk: int) -> Export:
    """The export without its file, which may be long."""
    return get_object_or_404(Export.objects.defer("content"), pk=pk)
