"""RabbitMQ: the exchanges and queues of the cloud, and a broker user for every host.

Control declares everything. A host's user may read its own queues and publish to the reports
exchange, there under its own key, nothing else: so one host's credentials say nothing about another
host. What each host reports waits in a lane of its own, which takes no more than it can hold, and
control's workers serve all lanes in turns (`cloud.lanes`): however much one host says, others wait
no longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import httpx
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from cloud.errors import CumuletError
from cloud.hostconfig import report_key

HOSTS_EXCHANGE = "hosts"
REPORTS = "reports"
# Reports of hosts of before there were lanes. A host's permission for the exchange is one for every
# queue of the same name, which it could then bind to an exchange of its own and fill with anything.
LANELESS = "laneless-reports"
DEAD = "dead"

# How often a message may be redelivered before it goes to the dead-letter queue.
DELIVERY_LIMIT = 5
_USER = "host-"
# What a lane holds: hours of a quiet host's reports, or one each of more servers than it can have.
_LANE = {"max-length": 10_000, "max-length-bytes": 64 * 2**20, "overflow": "reject-publish"}
# A flood of dead letters, or nobody who reads them, must not fill the broker's disk: the oldest go.
_DEAD = {"max-length": 10_000, "max-length-bytes": 64 * 2**20, "overflow": "drop-head"}
# Milliseconds that a host's work waits: it is a hint, and the sweep gives it again to a host that
# speaks. What is sent to one that is silent must not fill the broker's disk.
_WORK = {"message-ttl": 300_000}
# Celery's mailboxes, which hosts declare as they like; one that nobody reads goes.
_MAILBOX = {"max-length-bytes": 2**20, "expires": 60_000}
# What hosts answer to `inspect` and `manage.py trace`.
_ANSWERS = {"max-length-bytes": 64 * 2**20}


class BrokerRefused(CumuletError):
    """RabbitMQ could not be reached, or did not do what was asked."""

    code: ClassVar[str] = "broker_unavailable"
    status: ClassVar[int] = 503
    retryable: ClassVar[bool] = True


def quorum() -> dict[str, Any]:
    """Arguments of a durable, replicated queue that ends poison messages in the dead queue."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD,
    }


def dead_queue() -> Queue:
    """Where messages end that nobody could take; it has no dead-letter queue of its own.

    How long it may grow is in a policy: arguments of a queue that is there cannot be changed.
    """
    return Queue(DEAD, Exchange(DEAD, "topic"), "#", queue_arguments={"x-queue-type": "quorum"})


def broker_user(host: str) -> str:
    return f"{_USER}{host}"


def host_of(user: str) -> str:
    """The host whose broker user this is; "" if it is nobody's."""
    return user.removeprefix(_USER) if user.startswith(_USER) else ""


def lane(host: str) -> str:
    """The queue in which the host's reports wait."""
    return f"{REPORTS}.{host}"


def lane_queue(host: str) -> Queue:
    exchange = Exchange(REPORTS, "topic")
    return Queue(lane(host), exchange, report_key(host), queue_arguments=quorum())


def is_host(user: str) -> bool:
    """Whether a broker user is a host's."""
    return bool(host_of(user))


def control_queue() -> Queue:
    return Queue("control", Exchange("control", "topic"), "control", queue_arguments=quorum())


def laneless_queue() -> Queue:
    """`alias`: how workers may still be told to serve it."""
    exchange = Exchange(REPORTS, "topic")
    return Queue(LANELESS, exchange, "report", queue_arguments=quorum(), alias=REPORTS)


def user_of(url: str) -> str:
    """Whom a broker URL logs in as: what RabbitMQ holds against a message's `user_id`."""
    return unquote(urlsplit(url).username or "guest")


def declare_cloud(url: str) -> None:
    """Make the exchanges and control's own queues. Safe to repeat. Raises BrokerRefused."""
    with _connected(url) as connection:
        channel = connection.default_channel
        Exchange(HOSTS_EXCHANGE, "topic", channel=channel).declare()
        dead_queue()(channel).declare()
        control_queue()(channel).declare()
        laneless_queue()(channel).declare()


def declare_host(url: str, host: str) -> None:
    """Make the host's queues and bind them. Safe to repeat. Raises BrokerRefused."""
    exchange = Exchange(HOSTS_EXCHANGE, "topic")
    with _connected(url) as connection:
        for name in (f"host.{host}", f"host.{host}.bulk"):
            queue = Queue(name, exchange, name, queue_arguments=quorum())
            queue(connection.default_channel).declare()
        lane_queue(host)(connection.default_channel).declare()


def purge_host(url: str, host: str) -> None:
    """Drop all messages that wait for the host. Safe to repeat. Raises BrokerRefused."""
    with _connected(url) as connection:
        for name in (f"host.{host}", f"host.{host}.bulk"):
            queue = Queue(name, Exchange(HOSTS_EXCHANGE, "topic"), name, queue_arguments=quorum())
            bound = queue(connection.default_channel)
            bound.declare()
            bound.purge()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    try:
        with Connection(url, connect_timeout=5) as connection:
            yield connection
    except OperationalError as error:
        raise BrokerRefused(
            f"RabbitMQ does not answer ({error}): check that it runs, and CUMULET_BROKER_URL"
        ) from error


def permissions(host: str) -> dict[str, str]:
    """RabbitMQ's three patterns for a host's user: the least that Celery works with.

    Beyond its queues and the reports exchange these are Celery's remote control (pidbox) and
    its events (celeryev), which Flower reads.
    """
    name = host.replace(".", r"\.")
    own_pidbox = rf".*@{name}\.celery\.pidbox"
    return {
        "configure": rf"^({own_pidbox}|(reply\.)?celery\.pidbox|celeryev)$",
        "write": rf"^({REPORTS}|{own_pidbox}|reply\.celery\.pidbox|celeryev)$",
        "read": rf"^(host\.{name}(\.bulk)?|{own_pidbox}|celery\.pidbox)$",
    }


def topic_permission(host: str) -> dict[str, str]:
    """Under which keys the host's user may publish reports."""
    return {"exchange": REPORTS, "write": rf"^report(\.{re.escape(host)})?$", "read": "^$"}


class Administration:
    """RabbitMQ's management API, for the virtual host of the broker URL."""

    def __init__(self, api_url: str, broker_url: str) -> None:
        parts = urlsplit(api_url)
        self._auth = (parts.username or "guest", parts.password or "guest")
        self._base = f"{parts.scheme}://{parts.hostname}:{parts.port or 15672}/api"
        self._vhost = quote(urlsplit(broker_url).path[1:] or "/", safe="")

    def ensure_policies(self) -> None:
        """Bound all queues that hosts can fill, or leave full, so that none fills the broker.

        Policies hold for queues that are there already, too. Raises BrokerRefused.
        """
        for name, pattern, limits in (
            # That of the reports exchange's own name is an older release's.
            ("cumulet-lanes", rf"^({LANELESS}|{REPORTS}(\..*)?)$", _LANE),
            ("cumulet-dead", f"^{DEAD}$", _DEAD),
            ("cumulet-work", r"^host\.", _WORK),
            ("cumulet-mailboxes", r"(^|@[^.]+\.)((reply\.)?celery\.pidbox|celeryev)$", _MAILBOX),
            ("cumulet-answers", r"^[^@]+\.reply\.celery\.pidbox$", _ANSWERS),
        ):
            policy = {"pattern": pattern, "apply-to": "queues", "definition": limits}
            self._put(f"/policies/{self._vhost}/{name}", policy)

    def ensure_host_user(self, host: str, password: str) -> None:
        """Make the host's user, or give it this password; raises BrokerRefused."""
        user = quote(broker_user(host), safe="")
        self._put(f"/users/{user}", {"password": password, "tags": ""})
        self.ensure_permissions(host)

    def ensure_permissions(self, host: str) -> None:
        """Let the host's user do what hosts may do, and no more; raises BrokerRefused."""
        user = quote(broker_user(host), safe="")
        self._put(f"/permissions/{self._vhost}/{user}", permissions(host))
        self._put(f"/topic-permissions/{self._vhost}/{user}", topic_permission(host))

    def hosts(self) -> set[str]:
        """Names of all hosts that have a user; raises BrokerRefused."""
        users = (str(one["name"]) for one in self._ask("GET", "/users").json())
        return {host for name in users if (host := host_of(name))}

    def remove_host_user(self, host: str) -> None:
        """Forget the host's user, which ends its connections; raises BrokerRefused."""
        self._ask("DELETE", f"/users/{quote(broker_user(host), safe='')}")

    def _put(self, path: str, body: Mapping[str, object]) -> None:
        self._ask("PUT", path, body)

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> httpx.Response:
        try:
            answer = httpx.request(
                method, self._base + path, json=body, auth=self._auth, timeout=10
            )
            if not (method == "DELETE" and answer.status_code == httpx.codes.NOT_FOUND):
                answer.raise_for_status()
        except httpx.HTTPError as error:
            raise BrokerRefused(
                f"RabbitMQ's management API refused {path} ({error}): check CUMULET_BROKER_API_URL"
                " and that the plugin rabbitmq_management is on"
            ) from error
        return answer
