"""What the ASGI server serves: Django, in a pool of threads.

Django's own ASGI handler runs each request in a new thread and so on a new database connection,
which costs more than most of our requests.
"""

from a2wsgi import WSGIMiddleware

from cloud.wsgi import application as django

application = WSGIMiddleware(django, workers=16)  # type: ignore[arg-type]  # an HttpResponse is iterable
