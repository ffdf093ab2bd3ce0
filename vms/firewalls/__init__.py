"""Firewalls at servers: which guard which, and their doors."""
