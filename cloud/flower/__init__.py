"""Flower, the monitor of tasks, as this cloud shows it: every task with its request."""
