"""What the worker does for the shop. pgq-sync imports the tasks.py of every installed app.

Jobs run at least once: a worker may die after its work and before its word about it. So each task here may run twice.
"""

from __future__ import annotations

import csv
import io
import smtplib
from datetime import datetime, time, timedelta

import tenacity
from django.conf import settings
from django.core.mail import send_mail
from django.db.models import Count, F, Sum
from django.utils import timezone

from orders.models import DailyReport, Export, Order
from pgq_sync import Context, DatabaseRetry, Schedule
from pgq_sync.contrib.django import pgq

CHUNK = 10  # orders between two words about the progress

# A server that is busy takes the mail later; an address that it does not know is for a person to mend.
UNTIL_SENT = DatabaseRetry(
    max_attempts=6,
    initial_delay=timedelta(seconds=2),
    retry=tenacity.retry_if_not_exception_type(smtplib.SMTPRecipientsRefused),
)


# Whoever clicks "Send it again" three times wants one mail: while a job for this order waits or runs, enqueuing another one
# gives the id of the first. And the mail server takes twenty mails a second, from all workers together.
@pgq.task(
    retry=UNTIL_SENT,
    dedupe_key=lambda order_id: f"receipt:{order_id}",
    on_conflict="existing",
    requests_per_second=20,
)
def send_receipt(order_id: int) -> str:
    """Sends the receipt of an order, unless it is sent already.

    A mail is in no transaction: if the worker dies between the two last statements, the customer gets a second one.
    """
    order = Order.objects.select_related("product").get(pk=order_id)
    if order.receipt_sent_at is not None:
        return "it was sent before"
    send_mail(
        f"Your order {order.pk}",
        f"Thank you!\n\n{order.quantity} x {order.product}: {order.total} EUR\n",
        "Paper & Ink <shop@example.com>",
        [order.email],
    )
    Order.objects.filter(pk=order_id).update(receipt_sent_at=timezone.now())
    return f"sent to {order.email}"


# One export reads all orders; several at once would only take the database from the customers.
@pgq.task(concurrency_limit=1, timeout=timedelta(minutes=10))
def export_orders(context: Context, export_id: int) -> int:
    """Writes all orders as CSV, and tells how far it is. Cancelling it ends it at the next chunk."""
    orders = Order.objects.order_by("id").select_related("product")
    number = orders.count()
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["order", "created", "email", "product", "quantity", "total"])
    for done, order in enumerate(orders.iterator(chunk_size=CHUNK), 1):
        writer.writerow([order.pk, order.created_at.isoformat(), order.email, order.product.name, order.quantity, order.total])
        if done % CHUNK == 0:
            context.progress(min(done / number, 1), f"{done} of {number} orders")
            context.sleep(settings.EXPORT_PAUSE)  # ends at once if the job is cancelled, or the worker stops
    # One statement at the end: a run that is cut off leaves nothing half done, and the next one starts afresh.
    Export.objects.filter(pk=export_id).update(content=file.getvalue(), finished_at=timezone.now())
    return number


# on_missed="all": a night in which no worker ran gets its report later, each for its own day.
@pgq.schedule("nightly_report", "5 0 * * *", timezone=settings.TIME_ZONE, on_missed="all")
def nightly_report(schedule: Schedule) -> None:
    """Sums up the day that has ended when the schedule was due. Run again, it writes the same row again."""
    today = timezone.localtime(schedule.due_at).date()
    day = today - timedelta(days=1)
    start, end = (timezone.make_aware(datetime.combine(date, time.min)) for date in (day, today))
    sales = Order.objects.filter(created_at__gte=start, created_at__lt=end).aggregate(
        orders=Count("id"), revenue=Sum(F("quantity") * F("product__price"), default=0)
    )
    DailyReport.objects.update_or_create(day=day, defaults=sales)
