"""The shop's pages."""

from django.urls import path

from orders import views

urlpatterns = [
    path("", views.shop, name="shop"),
    path("orders/", views.orders, name="orders"),
    path("orders/<int:pk>/", views.order, name="order"),
    path("orders/<int:pk>/receipt/", views.receipt, name="receipt"),
    path("orders/<int:pk>/send-again/", views.send_again, name="send_again"),
    path("exports/", views.exports, name="exports"),
    path("exports/<int:pk>/", views.export, name="export"),
    path("exports/<int:pk>/progress/", views.progress, name="progress"),
    path("exports/<int:pk>/cancel/", views.cancel, name="cancel"),
    path("exports/<int:pk>/orders.csv", views.download, name="download"),
    path("reports/", views.reports, name="reports"),
]
