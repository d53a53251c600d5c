"""`manage.py stock`: fills an empty shop."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from orders.models import Order, Product

PRODUCTS = [
    ("Fountain pen", "Steel nib, medium. Takes cartridges, and refills of your own.", "34.90"),
    ("Ink, midnight blue", "50 ml, made to be legible in a hundred years.", "12.50"),
    ("Notebook", "192 dotted pages that open flat.", "16.00"),
    ("Pencils, a dozen", "HB, from cedar.", "9.80"),
]
ORDERS = 120


class Command(BaseCommand):
    """Makes products, orders of the last days, and whoever may enter the admin. A shop that has products is left alone."""

    help = "Fills an empty shop: products, orders of the last days, and the admin user admin (password: admin)."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        if Product.objects.exists():
            return
        products = [Product.objects.create(name=name, description=text, price=Decimal(price)) for name, text, price in PRODUCTS]
        now = timezone.now()
        for number in range(ORDERS):
            order = Order.objects.create(
                product=random.choice(products), quantity=random.randint(1, 5), email=f"customer{number}@example.com"
            )
            when = now - timedelta(hours=ORDERS - number)
            Order.objects.filter(pk=order.pk).update(created_at=when, receipt_sent_at=when)
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", password="admin")
