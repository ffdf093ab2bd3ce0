#!/usr/bin/env python3
"""Django's command line for the control plane."""

import os
import sys

from django.core.management import execute_from_command_line

from cloud import requestid
from cloud.actor import account, acting

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")
    with requestid.bound(requestid.fresh()), acting(account()):
        execute_from_command_line(sys.argv)
