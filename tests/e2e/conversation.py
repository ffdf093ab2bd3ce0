"""An open TCP connection into a guest that echoes: how much came back, and the longest silence."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyroute2 import netns

# What a guest runs to take part.
PORT = 7
ECHO = f"#!/bin/sh\nnc -ll -p {PORT} -e cat &\n"

_EVERY_SECONDS = 0.1
_WORD = 8
_PATIENCE_SECONDS = 30.0


@dataclass
class Conversation:
    """`sent` and `heard` count words; `broken`: what ended it early. Seconds."""

    sent: int = 0
    heard: int = 0
    longest_gap: float = 0.0
    broken: str = ""


@contextmanager
def talking(address: str, port: int, *, namespace: str | None = None) -> Iterator[Conversation]:
    """A word every 0.1 s on one connection meanwhile, each of which has to come back in order."""
    caller = _connected(address, port, namespace)
    conversation, done = Conversation(), threading.Event()
    both = [
        threading.Thread(target=part, args=(caller, conversation, done)) for part in (_talk, _hear)
    ]
    with caller:
        for thread in both:
            thread.start()
        try:
            yield conversation
        finally:
            done.set()
            for thread in both:
                thread.join()


def _connected(address: str, port: int, namespace: str | None) -> socket.socket:
    """Until the guest's script has begun to listen."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        caller = _socket(namespace)
        caller.settimeout(_PATIENCE_SECONDS)
        try:
            caller.connect((address, port))
            caller.sendall(bytes(_WORD))
            if caller.recv(_WORD, socket.MSG_WAITALL) == bytes(_WORD):
                return caller
        except OSError:
            pass
        caller.close()
        assert time.monotonic() < deadline, f"nobody echoes at {address} port {port}"
        time.sleep(0.2)


def _socket(namespace: str | None) -> socket.socket:
    if namespace is None:
        return socket.socket()
    netns.pushns(namespace)
    try:
        return socket.socket()
    finally:
        netns.popns()


def _talk(caller: socket.socket, conversation: Conversation, done: threading.Event) -> None:
    while not done.wait(_EVERY_SECONDS) and not conversation.broken:
        try:
            caller.sendall((conversation.sent + 1).to_bytes(_WORD, "big"))
        except OSError as error:
            conversation.broken = f"word {conversation.sent + 1} could not be sent: {error}"
            return
        conversation.sent += 1


def _hear(caller: socket.socket, conversation: Conversation, done: threading.Event) -> None:
    """Everything that was sent is waited for, also after the end."""
    last = time.monotonic()
    while not conversation.broken:
        if done.is_set() and conversation.heard == conversation.sent:
            return
        try:
            caller.settimeout(_EVERY_SECONDS * 5 if done.is_set() else _PATIENCE_SECONDS)
            word = caller.recv(_WORD, socket.MSG_WAITALL)
        except OSError as error:
            if done.is_set() and conversation.heard == conversation.sent:
                return
            conversation.broken = f"after {conversation.heard} words: {error}"
            return
        if int.from_bytes(word, "big") != conversation.heard + 1:
            conversation.broken = f"{word!r} came instead of word {conversation.heard + 1}"
            return
        conversation.heard += 1
        now = time.monotonic()
        conversation.longest_gap = max(conversation.longest_gap, now - last)
        last = now
