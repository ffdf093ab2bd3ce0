"""Make an administrator, or give one a new password."""

import os
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from cloud.audit import changing


class Command(BaseCommand):
    help = "Make an administrator with the password in CUMULET_ADMIN_PASSWORD. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user")

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("CUMULET_ADMIN_PASSWORD", "")
        model = get_user_model()
        user = model.objects.filter(username=options["user"]).first() or model(
            username=options["user"]
        )
        try:
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(f"CUMULET_ADMIN_PASSWORD: {' '.join(error.messages)}") from error
        with transaction.atomic(), changing(user):
            user.is_staff = user.is_superuser = True
            if not user.check_password(password):
                user.set_password(password)
            user.save()
        self.stdout.write(f"administrator {user}")
