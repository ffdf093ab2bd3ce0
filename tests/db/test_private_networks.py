"""Private networks on a real database: who is in them, at which address, and which host is told."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from cloud import celery
from cloud.models import Action, Host
from cloud.wire import decode
from networks.models import PrivateNetwork, Replica
from networks.spec import NetworkRemoval, NetworkReport, NetworkSpec, NicSpec
from tests import factories as make
from vms import reconcile, reports
from vms.actions import create_vm, delete_vm
from vms.attachments import PublicNet
from vms.dispatch import spec_of
from vms.models import VM, Nic, PrivateAddress
from vms.private import replication
from vms.private.actions import (
    NetworkOrder,
    RouteOrder,
    SubnetOrder,
    add_route,
    change_ip_range,
    create_network,
    delete_network,
    update_network,
)
from vms.private.reports import network_report
from vms.private.servers import attach_to_network, change_alias_ips, detach_from_network

pytestmark = pytest.mark.django_db
