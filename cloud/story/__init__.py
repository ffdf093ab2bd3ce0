"""The whole story of one request: `sources` find its moments, `moments` order, `text` shows them.

`manage.py trace` is the door.
"""
