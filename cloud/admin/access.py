"""Who may use the cloud: projects, their API tokens, administrators; and where it is: locations."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display
from unfold.forms import UserChangeForm, UserCreationForm

from cloud.admin.base import FactsAdmin
from cloud.admin.display import Tone, ago, badge, link, list_url, stacked
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Card, Fact, Page
from cloud.admin.recording import PasswordForm, RecordedForms
from cloud.admin.secret import Secret, show_secret
from cloud.models import ApiToken, Location, Project
from cloud.tokens import issue_token, revoke_token

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class AdministratorAdmin(RecordedForms, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    """People who log in here; the API knows projects and tokens only."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = PasswordForm
    list_display = ("username", "email", "is_active", "is_superuser", "seen")
    list_filter = ("is_active", "is_superuser")

    @display(description="Last login", ordering="last_login")
    def seen(self, user: User) -> SafeString:
        return ago(user.last_login)


class CatalogueAdmin(RecordedForms, ModelAdmin):
    """Rows that describe the cloud and have no state of their own, so a form may save them.

    The database refuses to delete one that is in use.
    """

    change_list_template = "cloud/admin/list.html"
    list_per_page = 50
    empty_list: tuple[str, str, str] = ("Nothing here yet", "", "")
    add_label = ""
    list_reload_seconds = 0
    show_add_link = False
    actions = None
    compressed_fields = False


@admin.register(Location)
class LocationAdmin(CatalogueAdmin):
    list_display = ("title", "city", "country", "hosts", "network_zone")
    search_fields = ("name", "city", "description")
    fields = ("name", "description", "city", "country", "network_zone")
    empty_list = (
        "No locations yet",
        "A location groups hosts that share a place and its networks.",
        "manage.py location_add NAME --city CITY",
    )
    add_label = "Add a location"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Location]:
        return Location.objects.annotate(host_count=Count("hosts"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    @display(description="Location", ordering="name")
    def title(self, location: Location) -> SafeString:
        return stacked(location.name, location.description)

    @display(description="Hosts", ordering="host_count")
    def hosts(self, location: Any) -> int:
        return int(location.host_count)


@admin.register(Project)
class ProjectAdmin(CatalogueAdmin):
    list_display = ("name", "servers", "ssh_keys", "tokens", "made")
    search_fields = ("name",)
    fields = ("name",)
    empty_list = (
        "No projects yet",
        "A project owns servers, keys and addresses; its tokens see nothing of other projects.",
        "manage.py token_add PROJECT TOKEN",
    )
    add_label = "Add a project"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        return Project.objects.annotate(
            vm_count=Count("vms", distinct=True),
            key_count=Count("ssh_keys", distinct=True),
            token_count=Count("tokens", distinct=True),
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Deleting one would take its actions and the names in the address ledger along.
        return False

    @display(description="Servers", ordering="vm_count")
    def servers(self, project: Any) -> int:
        return int(project.vm_count)

    @display(description="SSH keys", ordering="key_count")
    def ssh_keys(self, project: Any) -> int:
        return int(project.key_count)

    @display(description="Tokens", ordering="token_count")
    def tokens(self, project: Any) -> int:
        return int(project.token_count)

    @display(description="Created", ordering="created")
    def made(self, project: Project) -> SafeString:
        return ago(project.created)


class TokenForm(OrderForm):
    project = forms.ModelChoiceField(Project.objects.all(), empty_label=None)
    name = forms.CharField(
        max_length=128,
        help_text="Says later who or what uses it.",
        widget=forms.TextInput(attrs={"placeholder": "laptop of Ada"}),
    )
    read_only = forms.BooleanField(
        required=False, help_text="May look at everything of the project and change nothing."
    )
    operator = forms.BooleanField(required=False, help_text="May also see the hosts.")
    requests_per_hour = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**31 - 1,
        help_text="Its own limit. Empty: as all other tokens.",
    )


def _revoke(token: ApiToken) -> str:
    revoke_token(token)
    return f"Token {token} is revoked: requests with it are refused from now on."


@admin.register(ApiToken)
class TokenAdmin(FactsAdmin):
    list_display = ("title", "state", "rights", "used", "made")
    list_filter = (("project", RelatedDropdownFilter),)
    search_fields = ("name", "project__name")
    search_help_text = "Token or project"
    list_select_related = ("project",)
    empty_list = (
        "No API tokens yet",
        "A token lets a client use one project through the API. It is shown once.",
        "manage.py token_add PROJECT TOKEN",
    )
    add_label = "Issue a token"
    operations = (
        Operation(
            name="revoke",
            verb="Revoke",
            icon="block",
            permission="cloud.change_apitoken",
            explanation="Requests with the token are refused at once. This cannot be undone.",
            effect=lambda token: Effect(
                "is revoked already" if token.revoked_at else "stops working", Tone.BAD
            ),
            run=_revoke,
            offered=lambda token: token.revoked_at is None,
            dangerous=True,
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("cloud.add_apitoken")

    @display(description="Token", ordering="name")
    def title(self, token: ApiToken) -> SafeString:
        return stacked(token.name, token.project)

    @display(description="State", ordering="revoked_at")
    def state(self, token: ApiToken) -> SafeString:
        return _token_badge(token)

    @display(description="Rights")
    def rights(self, token: ApiToken) -> str:
        return _rights(token)

    @display(description="Last used", ordering="last_used")
    def used(self, token: ApiToken) -> SafeString | str:
        return ago(token.last_used) if token.last_used else "never"

    @display(description="Issued", ordering="created")
    def made(self, token: ApiToken) -> SafeString:
        return ago(token.created)

    def page(self, request: HttpRequest, row: ApiToken) -> Page:
        return Page(
            title=row.name,
            icon="vpn_key",
            badges=[_token_badge(row)],
            subtitle=link(row.project),
            cards=[
                Card(
                    "Token",
                    [
                        Fact("Rights", _rights(row)),
                        Fact("Requests an hour", row.requests_per_hour or "as all tokens"),
                        Fact("Issued", ago(row.created)),
                        Fact("Last used", ago(row.last_used) if row.last_used else "never"),
                        Fact("Revoked", ago(row.revoked_at) if row.revoked_at else "no"),
                    ],
                    icon="vpn_key",
                    note="Only a digest of the token is stored, so it can never be shown again.",
                )
            ],
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        page = FormPage(
            title="Issue an API token",
            sections=(
                Section("Token", ("project", "name", "read_only", "operator", "requests_per_hour")),
            ),
            button="Issue",
            permission="cloud.add_apitoken",
            submit=lambda data: self._issued(request, data),
            back=list_url(ApiToken),
            icon="vpn_key",
        )
        return answer_form(self, request, TokenForm(request.POST or None), page)

    def _issued(self, request: HttpRequest, data: dict[str, Any]) -> HttpResponse:
        project, name = data["project"], data["name"]
        secret = issue_token(
            project,
            name,
            read_only=data["read_only"],
            operator=data["operator"],
            requests_per_hour=data["requests_per_hour"],
        )
        token = ApiToken.objects.get(project=project, name=name)
        self.log_addition(request, token, "Issued.")
        return show_secret(
            self,
            request,
            Secret(
                title=f"Token {name} of {project}",
                name="HCLOUD_TOKEN",
                value=secret,
                explanation="Give it to the client now. It is stored as a digest only and is not"
                " shown again.",
                onward=list_url(ApiToken),
                onward_label="Back to the tokens",
            ),
        )


def _token_badge(token: ApiToken) -> SafeString:
    return badge("revoked", Tone.IDLE) if token.revoked_at else badge("valid", Tone.GOOD)


def _rights(token: ApiToken) -> str:
    return ("read" if token.read_only else "read and write") + (
        ", sees hosts" if token.operator else ""
    )
