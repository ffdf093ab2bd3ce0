"""Firewalls of the contract: named lists of rules, and the label selectors that they follow."""
