"""The shop's own admin; that of the jobs comes with pgq-sync."""

from django.contrib import admin

from orders.models import DailyReport, Export, Order, Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "price")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "email", "product", "quantity", "created_at", "receipt_sent_at")
    list_select_related = ("product",)
    readonly_fields = ("created_at", "receipt_job", "receipt_sent_at")
    search_fields = ("email",)


@admin.register(Export)
class ExportAdmin(admin.ModelAdmin):
    list_display = ("id", "created_at", "finished_at", "job")


@admin.register(DailyReport)
class DailyReportAdmin(admin.ModelAdmin):
    list_display = ("day", "orders", "revenue")
