"""What guards a server, read from its `firewall_uses`; querysets for specs and answers fetch them.

A server with several firewalls lets pass what any of them lets pass.
"""

from __future__ import annotations

from networks.firewalls.rules import merged
from networks.spec import FirewallSpec
from vms.models import VM


def effective_firewall(vm: VM) -> FirewallSpec | None:
    """The rules of all firewalls of the server, first applied first; None if it has none."""
    firewalls = {use.firewall_id: use.firewall for use in vm.firewall_uses.all()}
    if not firewalls:
        return None
    return merged(firewall.rules for firewall in firewalls.values())


def firewall_states(vm: VM) -> dict[int, bool]:
    """The server's firewalls by id: whether its host has applied them as they are now."""
    return {
        use.firewall_id: use.generation <= vm.applied_generation for use in vm.firewall_uses.all()
    }
