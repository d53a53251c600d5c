"""What the shop keeps."""

from __future__ import annotations

from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, validators=[MinValueValidator(0)])

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return str(self.name)


class Order(models.Model):
    """One product, some number of times, for one customer."""

    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(99)])
    email = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    receipt_job = models.BigIntegerField(null=True, editable=False, help_text="The id of the job that sends the receipt.")
    receipt_sent_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def total(self) -> Decimal:
        return Decimal(self.quantity * self.product.price)


class Export(models.Model):
    """All orders as CSV. The file is in the database: the web server and the worker need not share a disk."""

    created_at = models.DateTimeField(auto_now_add=True)
    job = models.BigIntegerField(null=True, editable=False)
    content = models.TextField(blank=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"export {self.pk}"


class DailyReport(models.Model):
    """The sales of one day."""

    day = models.DateField(unique=True)
    orders = models.PositiveIntegerField()
    revenue = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        ordering = ("-day",)

    def __str__(self) -> str:
        return f"sales of {self.day}"
