"""The web server: `python -m cloud.asgi --port 8000` serves Django from a pool of threads.

Django's own ASGI handler runs each request in a new thread and so on a new database connection,
which costs more than most of our requests. The server's own lines come in our format, which its
command line does not offer.
"""

from argparse import ArgumentParser

import uvicorn
from a2wsgi import WSGIMiddleware

from cloud.wsgi import application as django

# Longer than clients keep an idle connection (httpx 5 s, Go 90 s at most by default): the end that
# may still send must be the one that closes, or a request meets a connection that is just ending.
_IDLE_SECONDS = 95

application = WSGIMiddleware(django, workers=16)  # type: ignore[arg-type]  # an HttpResponse is iterable


def main() -> None:
    parser = ArgumentParser(prog="python -m cloud.asgi", description="Serve the API and the admin.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(
        application,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
    )


if __name__ == "__main__":
    main()
