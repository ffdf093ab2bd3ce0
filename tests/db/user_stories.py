"""Stories of servers on hosts in user mode; see `tests.db.stories`."""

from __future__ import annotations

from tests import factories as make
from tests.db.stories import story
from vms import forwarding
from vms.forwarding import change_forwarded_ports
from vms.ports import Forward
from vms.reports import vm_report

MODULES = (forwarding,)


@story("nic.change_forwarded_ports", change_forwarded_ports)
def _() -> None:
    make.user_host()
    vm = make.ordered().vm
    vm_report(make.report(vm), "host-u1")
    change_forwarded_ports(vm, [Forward("tcp", 80)])
