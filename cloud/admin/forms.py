"""Forms that order something: their `submit` calls an actions module, errors land at the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.forms.models import ModelChoiceIteratorValue
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold import widgets

from cloud.errors import CumuletError

_WIDGETS: dict[type[forms.Widget], type[forms.Widget]] = {
    forms.TextInput: widgets.UnfoldAdminTextInputWidget,
    forms.NumberInput: widgets.UnfoldAdminIntegerFieldWidget,
    forms.Textarea: widgets.UnfoldAdminTextareaWidget,
    forms.Select: widgets.UnfoldAdminSelectWidget,
    forms.CheckboxInput: widgets.UnfoldBooleanSwitchWidget,
}


class OrderForm(forms.Form):
    """A plain form in the theme's clothes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            themed = _WIDGETS.get(type(field.widget))
            if themed is not None:
                choices = getattr(field, "choices", None)
                field.widget = themed(attrs=dict(field.widget.attrs))
                if choices is not None:
                    field.widget.choices = choices
                field.widget.is_required = field.required
                field.widget.attrs.update(field.widget_attrs(field.widget))

    def refuse(self, error: CumuletError) -> None:
        """Show the error at the fields that it names, else above the form."""
        named = [part for part in _named_fields(error) if part["name"] in self.fields]
        for part in named:
            self.add_error(part["name"], part.get("messages") or error.message)
        if not named:
            self.add_error(None, error.message)


def _named_fields(error: CumuletError) -> list[dict[str, Any]]:
    return list((error.details or {}).get("fields", []))


class Cards(forms.RadioSelect):
    """Choices as cards: `describe` answers the small line below a choice's name."""

    template_name = "cloud/admin/cards.html"

    def __init__(self, describe: Callable[[Any], str]) -> None:
        super().__init__()
        self.describe = describe

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        if isinstance(value, ModelChoiceIteratorValue):
            option["details"] = self.describe(value.instance)  # type: ignore[attr-defined]
        return option


class Ticks(forms.CheckboxSelectMultiple):
    """Several choices, each a line with a box; `none` answers what to say if there are none."""

    template_name = "cloud/admin/ticks.html"

    def __init__(self, none: Callable[[], str]) -> None:
        super().__init__()
        self.none = none

    def get_context(self, *args: Any) -> dict[str, Any]:
        return {**super().get_context(*args), "none": self.none()}


class LabelsField(forms.CharField):
    """Labels, one `key=value` per line. Their rules are checked by the action."""

    def __init__(self) -> None:
        super().__init__(
            required=False,
            widget=forms.Textarea(attrs={"rows": 2, "placeholder": "environment=test"}),
            help_text="One key=value per line.",
        )

    def to_python(self, value: Any) -> dict[str, str]:  # type: ignore[override]
        labels = {}
        for line in filter(None, (line.strip() for line in (value or "").splitlines())):
            key, equals, text = line.partition("=")
            if not equals:
                raise ValidationError(f"“{line}” is not of the form key=value.")
            labels[key.strip()] = text.strip()
        return labels

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return "\n".join(f"{key}={text}" for key, text in sorted(value.items()))
        return value


@dataclass(frozen=True)
class Section:
    """A group of a form's fields."""

    title: str
    fields: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class FormPage:
    """A page with one form. `submit` gets the cleaned data and answers where to go, or a page."""

    title: str
    sections: tuple[Section, ...]
    button: str
    permission: str
    submit: Callable[[dict[str, Any]], HttpResponse]
    back: str
    icon: str = "check"
    note: str = ""
    tabs: Sequence[dict[str, Any]] = ()
    tabs_label: str = ""
    # Why the form cannot succeed at all yet; each says what to do first.
    blockers: Sequence[str] = ()


def answer_form(admin: Any, request: HttpRequest, form: OrderForm, page: FormPage) -> HttpResponse:
    """Show the form, or submit it; a refused order comes back with the reason."""
    if not request.user.has_perm(page.permission):
        raise PermissionDenied
    if form.is_bound and form.is_valid():
        try:
            return page.submit(form.cleaned_data)
        except CumuletError as error:
            form.refuse(error)
        except ValidationError as error:
            form.add_error(None, error.messages)
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.model._meta,
        "title": page.title,
        "form": form,
        "form_page": page,
        "sections": [(part, [form[name] for name in part.fields]) for part in page.sections],
    }
    return TemplateResponse(request, "cloud/admin/form.html", context)


def done(request: HttpRequest, message: str, url: str) -> HttpResponse:
    messages.success(request, message)
    return HttpResponseRedirect(url)
