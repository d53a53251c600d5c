"""The shop's tests: jobs run in the test's own thread and transaction, without a worker."""

from __future__ import annotations

import smtplib
from datetime import datetime, timedelta, timezone
from unittest import mock

from django.core import mail
from django.test import TestCase, override_settings

from orders.models import DailyReport, Export, Order, Product
from orders.tasks import export_orders, send_receipt
from pgq_sync import testing
from pgq_sync.contrib.django import pgq

BUSY = smtplib.SMTPResponseException(451, "please try again later")
UNKNOWN = smtplib.SMTPRecipientsRefused({"ada@example.com": (550, b"no such mailbox")})


class ShopTestCase(TestCase):
    """Each test has a product, and the queue in its transaction."""

    def setUp(self) -> None:
        self.pen = Product.objects.create(name="Pen", price="12.50")
        jobs = testing.on_connection(pgq, "default")
        jobs.__enter__()
        self.addCleanup(jobs.__exit__, None, None, None)

    def place_order(self) -> Order:
        self.client.post("/", {"product": self.pen.pk, "quantity": 2, "email": "ada@example.com"})
        return Order.objects.get()


class ReceiptTests(ShopTestCase):
    def test_an_order_is_followed_by_a_receipt(self) -> None:
        order = self.place_order()
        testing.assert_enqueued(pgq, send_receipt, arguments=(order.pk,), count=1)
        testing.drain(pgq)
        self.assertIn("2 x Pen: 25.00 EUR", mail.outbox[0].body)
        self.assertContains(self.client.get(f"/orders/{order.pk}/"), "The receipt is sent.")

    def test_an_order_that_is_not_valid_leaves_no_job(self) -> None:
        self.client.post("/", {"product": self.pen.pk, "quantity": 0, "email": "ada@example.com"})
        testing.assert_not_enqueued(pgq, send_receipt)

    def test_a_busy_mail_server_is_tried_again(self) -> None:
        with testing.clock(pgq) as clock, mock.patch("orders.tasks.send_mail", side_effect=[BUSY, 1]):
            order = self.place_order()
            self.assertEqual(testing.drain(pgq).counts, {"retried": 1})
            self.assertIn("please try again later", self.client.get(f"/orders/{order.pk}/receipt/").json()["text"])
            clock.advance(timedelta(seconds=2))
            self.assertEqual(testing.drain(pgq).counts, {"succeeded": 1})

    def test_an_unknown_address_is_not_tried_again(self) -> None:
        with mock.patch("orders.tasks.send_mail", side_effect=UNKNOWN):
            order = self.place_order()
            self.assertEqual(testing.drain(pgq).counts, {"failed": 1})
        self.assertTrue(self.client.get(f"/orders/{order.pk}/receipt/").json()["done"])

    def test_impatient_customers_get_one_mail(self) -> None:
        order = self.place_order()
        for _ in range(3):
            self.client.post(f"/orders/{order.pk}/send-again/")
        testing.drain(pgq)
        self.assertEqual(len(mail.outbox), 1)

    def test_a_receipt_that_was_sent_is_not_sent_twice(self) -> None:
        order = self.place_order()
        for _ in range(2):
            testing.run_job(pgq, send_receipt, arguments=(order.pk,))
        self.assertEqual(len(mail.outbox), 1)


@override_settings(EXPORT_PAUSE=0)
class ExportTests(ShopTestCase):
    def test_an_export_has_a_line_for_each_order(self) -> None:
        for number in range(15):
            Order.objects.create(product=self.pen, email=f"customer{number}@example.com")
        self.client.post("/exports/")
        export = Export.objects.get()
        testing.assert_enqueued(pgq, export_orders, arguments=(export.pk,))
        self.assertEqual(self.client.get(f"/exports/{export.pk}/orders.csv").status_code, 404)
        testing.drain(pgq)
        self.assertEqual(len(self.client.get(f"/exports/{export.pk}/orders.csv").content.splitlines()), 16)

    def test_a_cancelled_export_never_runs(self) -> None:
        self.client.post("/exports/")
        export = Export.objects.get()
        self.client.post(f"/exports/{export.pk}/cancel/")
        self.assertFalse(testing.drain(pgq).counts)
        self.assertTrue(self.client.get(f"/exports/{export.pk}/progress/").json()["done"])


class ReportTests(ShopTestCase):
    def test_each_night_has_its_report(self) -> None:
        order = Order.objects.create(product=self.pen, quantity=3, email="ada@example.com")
        Order.objects.filter(pk=order.pk).update(created_at=datetime(2031, 5, 17, 12, tzinfo=timezone.utc))
        with testing.clock(pgq, datetime(2031, 5, 17, 12, tzinfo=timezone.utc)) as clock:
            clock.advance(timedelta(days=2))
            testing.tick(pgq)
            testing.drain(pgq)
        days = {(str(report.day), report.orders, str(report.revenue)) for report in DailyReport.objects.all()}
        self.assertEqual(days, {("2031-05-17", 1, "37.50"), ("2031-05-18", 0, "0.00")})
