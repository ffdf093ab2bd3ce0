"""Runs several management commands in one process, each with its output captured.

Django takes a second to load; a new cloud needs a dozen commands. Reads a JSON list of
argument lists from standard input, writes a JSON list of outputs. Part of the release:
`deploy.control` starts it as the control user.
"""

from __future__ import annotations

import io
import json
import os
import sys

from cloud import requestid
from cloud.actor import account, acting


def main() -> None:
    import django
    from django.core.management import call_command

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")
    django.setup()
    outputs = []
    for name, *arguments in json.load(sys.stdin):
        output = io.StringIO()
        try:
            with requestid.bound(requestid.fresh()), acting(account()):
                call_command(name, *arguments, stdout=output, stderr=sys.stderr, no_color=True)
        except Exception as error:
            sys.exit(f"manage.py {name}: {error}")
        outputs.append(output.getvalue().strip())
    json.dump(outputs, sys.stdout)


if __name__ == "__main__":
    main()
