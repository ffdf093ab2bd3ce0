"""The admin: a door for operators. Everything it changes goes through the actions modules."""

from django.contrib import admin

from cloud.admin import access, activity, audit, hosts
from cloud.admin.login import ThrottledForm

admin.site.index_title = "Overview"
admin.site.login_form = ThrottledForm
admin.site.index_template = "cloud/admin/dashboard.html"

__all__ = ["access", "activity", "audit", "hosts"]
