"""The admin, and the shop."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("favicon.ico", RedirectView.as_view(url=static("orders/icon.svg"))),  # the admin's pages name none
    path("", include("orders.urls")),
]
