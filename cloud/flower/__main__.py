"""`python -m cloud.flower`: the installed Flower with our pages, read only.

Takes Flower's own options, from the command line or from FLOWER_* variables, where passwords
belong (FLOWER_BASIC_AUTH, FLOWER_BROKER_API). It logs as every process of the cloud does.
"""

from __future__ import annotations

import sys

from django.conf import settings
from flower.urls import settings as flower_settings

from cloud.celery import app
from cloud.flower.pages import Templates

# The arguments name the server and the request; the defaults would show the task's UUID. What is
# logged is for CUMULET_LOG_LEVEL to say.
_OPTIONS = ("--read_only", "--logging=none")
_COLUMNS = "--tasks_columns=name,args,kwargs,state,received,runtime,worker"


def main() -> None:
    admin = f"{settings.PUBLIC_URL.rstrip('/')}/admin/cloud/action/"
    flower_settings["template_loader"] = Templates({"admin_url": admin})
    app.start(["flower", *_OPTIONS, _COLUMNS, *sys.argv[1:]])


if __name__ == "__main__":
    main()
