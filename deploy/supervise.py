"""Keeps the processes of one cloud running: one supervisord per instance.

`Program` says what must run; `Supervisor.apply` makes the running set match, restarting just
what changed; start order and readiness are the caller's. supervisord is the child subreaper of
everything below it, so a guest or a daemon whose parent ended leaves no zombie behind.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from cloud import shell
from cloud.errors import CumuletError
from deploy import processes
from deploy.state import CHECKOUT, Instance, load, make_private, write_private

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RUNS = ("STARTING", "RUNNING", "BACKOFF")  # supervisord starts what is in BACKOFF by itself
_ENDED = ("EXITED", "FATAL", "BACKOFF")
_ALIVE = ("STARTING", "RUNNING", "STOPPING")
_STOP_SECONDS = 120.0  # more than any program has before supervisord kills it
# How long after its first end a program may still come up; supervisord tries some five times.
_RETRY_SECONDS = 15.0


class ServiceFailed(CumuletError):
    """A program of the cloud does not run."""

    code: ClassVar[str] = "service_failed"


class Refused(CumuletError):
    """supervisord did not do what it was asked; `fault`: a number of supervisor.xmlrpc.Faults."""

    code: ClassVar[str] = "supervisor_refused"

    def __init__(self, request: str, fault: xmlrpc.client.Fault) -> None:
        super().__init__(f"supervisord refused {request} ({fault.faultString}): see its log")
        self.fault = fault.faultCode


class NoCloud(CumuletError):
    """The state directory has no cloud that runs."""

    code: ClassVar[str] = "no_cloud"


@dataclass(frozen=True)
class Program:
    """One process that must run.

    `user` None: who started the cloud. `netns`: the network namespace that it is started in.
    `bare`: neither it nor anything that it starts ever has a capability; the user's groups stay.

    `log`: the directory of its log (None: the instance's). `configuration`: the text of files it
    reads at its start; another text is a change.

    `stop_signal` asks it to end, also if supervisord itself is killed; after `stop_seconds`
    its process group is killed.
    """

    name: str
    argv: Sequence[str | Path]
    directory: Path
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    configuration: str = ""
    netns: Path | None = None
    bare: bool = False
    log: Path | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    stop_group: bool = False

    def command(self) -> list[str]:
        command = ["nsenter", f"--net={self.netns}"] if self.netns else []
        command += ["setpriv", "--pdeathsig", self.stop_signal]
        if self.user:
            groups = "--init-groups" if self.bare else "--clear-groups"
            command += ["--reuid", self.user, "--regid", self.user, groups]
        if self.bare:
            command += ["--inh-caps", "-all", "--no-new-privs"]
        if self.bare and self.user:  # to shrink this set is itself a privilege
            command += ["--bounding-set", "-all"]
        return [*command, *map(str, self.argv)]

    def section(self, log: Path) -> str:
        """The program's part of supervisord's configuration."""
        digest = hashlib.sha256(self.configuration.encode()).hexdigest()[:16]
        env = {**self.env, "CUMULET_CONFIGURATION": digest}
        environment = ",".join(f"{key}={_quoted(text)}" for key, text in sorted(env.items()))
        lines = [
            f"[program:{self.name}]",
            f"command={_escaped(shlex.join(self.command()))}",
            f"directory={self.directory}",
            f"environment={environment}",
            "autostart=false",
            "autorestart=true",
            "startretries=10",
            f"stopsignal={self.stop_signal}",
            f"stopwaitsecs={self.stop_seconds}",
            f"stopasgroup={str(self.stop_group).lower()}",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_escaped(str((self.log or log) / self.name))}.log",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=2",
        ]
        return "\n".join(lines) + "\n"


class Supervisor:
    """The running supervisord of an instance, reached over its socket."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._socket = instance.run / "supervisor.sock"
        self._config = instance.run / "supervisord.conf"
        self._programs = instance.run / "programs"

    def _call(self, method: str, *arguments: Any) -> Any:
        """One request on a fresh connection: one that failed once stays unusable.

        Raises Refused, and OSError or HTTPException if nobody answers.
        """
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with closing(transport):
            # The address is never used: the transport goes to the socket.
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                raise Refused(f"{method} {' '.join(map(str, arguments))}".strip(), fault) from fault

    def _change(self, method: str, name: str, *, unless: int) -> None:
        """Without waiting; the fault `unless` says that the program came to be so by itself."""
        try:
            self._call(method, name, False)
        except Refused as refused:
            if refused.fault != unless:
                raise

    def running(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, Refused):
            return False

    def ensure(self, python: str) -> None:
        """Start supervisord if it does not answer."""
        if self.running():
            return
        self._instance.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        make_private(self._instance.log)
        write_private(self._config, self._head())
        clean = ["env", "-i", f"PATH={SYSTEM_PATH}", "LANG=C.UTF-8", f"PYTHONPATH={CHECKOUT}"]
        clean += ["PYTHONDONTWRITEBYTECODE=1", f"{processes.MARK}={self._instance.id}"]
        shell.spawn(
            [*clean, python, "-m", "deploy.reaper", "-n", "-c", self._config],
            log=self._instance.log / "supervisord.out",
        ).wait()
        deadline = time.monotonic() + 15
        while not self.running():
            if time.monotonic() > deadline:
                raise ServiceFailed(f"supervisord does not answer: see {self._instance.log}")
            time.sleep(0.05)

    def apply(self, programs: Iterable[Program]) -> list[str]:
        """Make these programs known; one that changed is stopped. Returns what was stopped."""
        make_private(self._programs)
        for program in programs:
            write_private(
                self._programs / f"{program.name}.conf", program.section(self._instance.log)
            )
        return self._reload()

    def _reload(self) -> list[str]:
        added, changed, removed = self._call("reloadConfig")[0]
        self.stop(*changed, *removed)
        for name in (*changed, *removed):
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)
        return [*changed, *removed]

    def states(self) -> dict[str, str]:
        return {info["name"]: info["statename"] for info in self._call("getAllProcessInfo")}

    def start(self, *names: str) -> None:
        """Start what does not run yet, without waiting."""
        states = self.states()
        for name in names:
            if states[name] not in _RUNS:
                self._change("startProcess", name, unless=Faults.ALREADY_STARTED)

    def stop(self, *names: str) -> None:
        """Stop programs at the same time, all to their end; those that do not end are killed."""
        self.halt(*names)
        self.wait_ended(*names, seconds=_STOP_SECONDS)

    def halt(self, *names: str) -> None:
        """Let programs end without waiting for it; they are not started again."""
        states = self.states()
        for name in names:
            if states.get(name, "STOPPED") not in ("STOPPED", "EXITED", "FATAL", "STOPPING"):
                self._change("stopProcess", name, unless=Faults.NOT_RUNNING)

    def wait_ended(self, *names: str, seconds: float) -> None:
        """Wait until none of the programs has a process; raises ServiceFailed."""
        deadline = time.monotonic() + seconds
        while alive := [n for n, s in self.states().items() if n in names and s in _ALIVE]:
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{', '.join(alive)} did not end: look for hung storage")
            time.sleep(0.05)

    def pid(self, name: str) -> int:
        return int(self._call("getProcessInfo", name)["pid"])

    def listens(self, name: str, port: int) -> bool:
        """Whether it is this program that answers on the TCP port, and not a stranger."""
        try:
            program = psutil.Process(self.pid(name))
            family = [program, *program.children(recursive=True)]
            sockets = [one for process in family for one in process.net_connections("tcp")]
        except psutil.NoSuchProcess:
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)

    def signal(self, name: str, signal: str) -> None:
        self._call("signalProcess", name, signal)

    def wait(self, name: str, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready` says so; raises ServiceFailed with the end of the log.

        A program that ends may come up at a later try of supervisord's, for `_RETRY_SECONDS`.
        """
        now = time.monotonic()
        deadline, given_up = now + seconds, now + seconds
        while not ready():
            state, now = self.states()[name], time.monotonic()
            if state in _ENDED:
                given_up = min(given_up, now + _RETRY_SECONDS)
            ended = state == "FATAL" or (state in _ENDED and now > given_up)
            if ended or now > deadline:
                why = f"is {state}" if ended else f"is not ready after {seconds:g} s"
                raise ServiceFailed(f"{name} {why}. The end of its log:\n{self._tail(name)}")
            time.sleep(0.1)

    def shutdown(self, *, seconds: float) -> None:
        """Stop every program (all at once) and supervisord; returns when it is gone."""
        try:
            supervisord = psutil.Process(self._call("getPID"))
            self._call("stopAllProcesses")
            self._call("shutdown")
        except (OSError, http.client.HTTPException, Refused, psutil.NoSuchProcess):
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and processes.alive(supervisord):
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        try:
            log = Path(self._call("getProcessInfo", name)["stdout_logfile"])
            lines = log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(lines[-25:]) or "(empty)"

    def _head(self) -> str:
        return (
            f"[unix_http_server]\nfile={self._socket}\nchmod=0600\n\n"
            f"[supervisord]\nlogfile={_escaped(str(self._instance.log))}/supervisord.log\n"
            f"pidfile={self._instance.run}/supervisord.pid\ndirectory=/\nuser={os.geteuid()}\n"
            "logfile_maxbytes=10MB\nlogfile_backups=1\nminfds=4096\n\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\n"
            f"[include]\nfiles={_escaped(str(self._programs))}/[a-z]*.conf\n"
        )


def running_instance(directory: Path) -> Instance:
    """The cloud of a state directory; raises NoCloud unless it runs."""
    instance = load(directory)
    if instance is None:
        raise NoCloud(f"there is no cloud in {directory}: start one with deploy/up")
    if not Supervisor(instance).running():
        raise NoCloud(f"the cloud in {directory} is stopped: start it with deploy/up")
    return instance


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
