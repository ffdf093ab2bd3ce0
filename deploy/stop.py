"""Takes a cloud down: guests first and gently, then every process, then the lab.

Afterwards nothing of the instance runs: no process, namespace, link, mount or firewall rule
(rules live inside the namespaces). Works from whatever a killed run or a reboot left.
"""

from __future__ import annotations

import shutil

from deploy import processes
from deploy.lab import Lab
from deploy.state import Instance
from deploy.supervise import Supervisor

_PROGRAM_SECONDS = 45.0


def stop_all(instance: Instance) -> None:
    """Stop the programs, then whatever else of the instance is alive, then remove the lab."""
    lab = Lab(instance.id)
    Supervisor(instance).shutdown(seconds=_PROGRAM_SECONDS)
    # By mark: started for the instance. By namespace: a guest whose environment was emptied.
    left = processes.of_instance(instance.id)
    for namespace in lab.existing():
        left += processes.in_namespace(lab.path(namespace))
    processes.end(left, patience=10)
    lab.remove()
    shutil.rmtree(instance.run, ignore_errors=True)


def remove_all(instance: Instance) -> None:
    """Stop everything and forget the cloud's data."""
    stop_all(instance)
    instance.remove_data()
