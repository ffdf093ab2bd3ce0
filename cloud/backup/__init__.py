"""The whole inventory as one file, and back: for `manage.py backup` and `manage.py restore`.

The file holds everything that is in the database, secrets included: password hashes, digests of
tokens, users' scripts, and the key of the cloud's certificate authority. Whoever reads it can be
the authority. It holds no disk of a server, no image, and no password of the broker.
"""
