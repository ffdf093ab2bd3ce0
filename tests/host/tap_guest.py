"""`python tap_guest.py TAP ADDRESS ASKED`: a guest in a few lines, run by an ordinary user.

It opens the TAP, answers ARP and pings for its one address, sends everything to its gateway, pings
ASKED once in a while and prints who answered. Standard library only, because it is started alone.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
GATEWAY = "172.31.1.1"
MAC, BROADCAST = bytes.fromhex("020000000007"), b"\xff" * 6
ARP, IPV4, ICMP = 0x0806, 0x0800, 1
REPLY, REQUEST = 0, 8


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def arp(operation: int, own: bytes, to_mac: bytes, to: bytes) -> bytes:
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + MAC + own + to_mac + to
    return (to_mac if operation == 2 else BROADCAST) + MAC + struct.pack("!H", ARP) + body


def icmp(kind: int, own: bytes, to_mac: bytes, to: bytes, rest: bytes) -> bytes:
    message = struct.pack("!BBH", kind, 0, 0) + rest
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 1, 0, 64, ICMP, 0) + own + to
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return to_mac + MAC + struct.pack("!H", IPV4) + header + message


def main() -> None:
    name, own, asked = sys.argv[1], socket.inet_aton(sys.argv[2]), socket.inet_aton(sys.argv[3])
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    gateway: bytes | None = None
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            due += 0.2
            os.write(tap, arp(1, own, b"\0" * 6, socket.inet_aton(GATEWAY)))
            if gateway:
                os.write(tap, icmp(REQUEST, own, gateway, asked, struct.pack("!HH", 7, 7)))
        if not select.select([tap], [], [], 0.05)[0]:
            continue
        frame = os.read(tap, 2048)
        sender, kind = frame[6:12], struct.unpack("!H", frame[12:14])[0]
        if kind == ARP and frame[38:42] == own:
            if frame[21] == 1:
                os.write(tap, arp(2, own, sender, frame[28:32]))
            elif frame[28:32] == socket.inet_aton(GATEWAY):
                gateway = sender
        elif kind == IPV4 and frame[23] == ICMP and frame[30:34] == own:
            length = struct.unpack("!H", frame[16:18])[0]
            if frame[34] == REQUEST:
                rest = frame[38 : 14 + length]
                os.write(tap, icmp(REPLY, own, sender, frame[26:30], rest))
            elif frame[34] == REPLY:
                print(socket.inet_ntoa(frame[26:30]), flush=True)


if __name__ == "__main__":
    main()
