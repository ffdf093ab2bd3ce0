"""`deploy/bench`: how fast a server is there, beside plain QEMU and libvirt on the same machine.

A run starts a cloud of its own (deployment.py) and lets three contenders make the same guest in
turns, so that a noisy machine harms all alike: the cloud's API (first_vm.py), a shell loop
(shell_loop.py) and libvirt (libvirt.py). Then it weighs what runs while nothing happens
(footprint.py). statistics.py and verdicts.py judge, report.py says it.
"""
