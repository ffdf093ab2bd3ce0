"""Servers in private networks: membership, what hosts are told of it, and the doors."""
