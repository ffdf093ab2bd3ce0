"""What failures of the database look like to a caller."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, OperationalError, transaction

from cloud.api.errors import translated
from cloud.models import Action, Project

pytestmark = pytest.mark.django_db


def test_a_lost_race_may_be_tried_again() -> None:
    Project.objects.create(name="one")
    with pytest.raises(IntegrityError) as raised, transaction.atomic():
        Project.objects.create(name="one")
    error = translated(raised.value)
    assert (error.status, error.code, error.retryable) == (409, "conflict", True)


def test_a_broken_rule_of_the_inventory_is_a_defect_and_stays_one() -> None:
    with pytest.raises(IntegrityError) as raised, transaction.atomic():
        Action.objects.create(
            project=Project.objects.create(name="one"),
            status="success",
            deadline="2026-01-01T00:00Z",
            generation=1,
        )
    assert translated(raised.value).code == "server_error"


def test_a_database_that_is_away_is_unavailable() -> None:
    error = translated(OperationalError("connection refused"))
    assert (error.status, error.code, error.retryable) == (503, "unavailable", True)


def test_errors_of_models_and_of_django_keep_their_meaning() -> None:
    refused = translated(ValidationError({"name": "too long"}))
    assert refused.code == "invalid_input"
    assert refused.details == {"fields": [{"name": "name", "messages": ["too long"]}]}
    assert translated(PermissionDenied()).code == "forbidden"
    assert translated(RuntimeError("secret")).code == "server_error"
