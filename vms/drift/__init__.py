"""Drift: what hosts really have, beside what the inventory says that they should have."""
