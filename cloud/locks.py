"""The one order in which transactions lock rows, so that none ever waits in a circle.

Hosts; projects; servers by number; public IPs; pools, in the order in which they are asked;
addresses by number; private networks by number, then what their hosts are told. Who needs several
of them begins with the first. Rows that others refer to by
foreign key are locked without their key (`no_key`): whoever just refers to them then passes.
"""

from __future__ import annotations

from cloud.models import Project


def hold_project(project_id: int) -> None:
    """Let nobody else count or change what is guarded by this until the transaction ends.

    That is how many public IPs the project has, which firewalls guard its servers, how its private
    networks are made and which servers join or leave them.
    """
    Project.objects.select_for_update(no_key=True).get(pk=project_id)
