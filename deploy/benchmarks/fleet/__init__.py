"""`deploy/bench --faults many`: a control plane with hundreds of simulated hosts.

The hosts are played (`hosts.py`): documents of the wire contract, under each host's own broker
user, at the intervals of a real monitor. Everything that is measured is real: PostgreSQL,
RabbitMQ, the worker, beat and the web server (`stage.py`, `measure.py`).
"""
