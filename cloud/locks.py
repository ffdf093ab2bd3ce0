"""The one order in which transactions lock rows, so that none ever waits in a circle.

Hosts; projects; servers by number; public IPs; pools, in the order in which they are asked;
addresses by number. Who needs several of them begins with the first. Rows that others refer to by
foreign key are locked without their key (`no_key`): whoever just refers to them then passes.
"""

from __future__ import annotations

from cloud.models import Project


def hold_project(project_id: int) -> None:
    """Let nobody else count or change what is guarded by this until the transaction ends.

    That is how many public IPs the project has, and which firewalls guard its servers.
    """
    Project.objects.select_for_update(no_key=True).get(pk=project_id)
