"""What guards a server, read from its `firewall_uses`; querysets for specs and answers fetch them.

A server with several firewalls lets pass what any of them lets pass.
"""

from __future__ import annotations

from cloud.labels import meets, parse_selector
from networks.firewalls.rules import merged
from networks.models import FirewallSelector
from networks.spec import FirewallSpec
from vms.models import VM, FirewallUse


def effective_firewall(vm: VM) -> FirewallSpec | None:
    """The rules of all firewalls of the server, first applied first; None if it has none."""
    firewalls = {use.firewall_id: use.firewall for use in vm.firewall_uses.all()}
    if not firewalls:
        return None
    return merged(firewall.rules for firewall in firewalls.values())


def firewall_states(vm: VM) -> dict[int, bool]:
    """The server's firewalls by id: whether its host has applied them as they are now.

    A host that is in user mode since then enforces none, whatever it once applied.
    """
    return {use.firewall_id: is_applied(use, vm) for use in vm.firewall_uses.all()}


def is_applied(use: FirewallUse, vm: VM) -> bool:
    return use.generation <= vm.applied_generation and not vm.host.in_user_mode


def selectors_met(project_id: int, labels: dict[str, str]) -> dict[int, FirewallSelector]:
    """The selectors of the project's firewalls that a server with these labels meets."""
    selectors = FirewallSelector.objects.filter(firewall__project=project_id)
    return {one.pk: one for one in selectors if meets(labels, parse_selector(one.selector))}
