"""What a guest's agent says is read with the distrust that a guest deserves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vms.host import guestagent

MAC = "02:00:00:00:00:07"


def interface(mac: str, *addresses: str) -> dict[str, Any]:
    kinds = [{"ip-address": one, "ip-address-type": "ipv4", "prefix": 24} for one in addresses]
    return {"name": "eth0", "hardware-address": mac, "ip-addresses": kinds}


def test_the_addresses_of_the_asked_interface_count_that_others_could_call() -> None:
    answer = [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
        interface(MAC.upper(), "10.0.0.7", "fe80::ff:fe00:7", "2001:db8::7"),
        interface("02:00:00:00:00:08", "10.0.0.8"),
        {"name": "down", "hardware-address": MAC},
    ]
    assert guestagent.usable(answer, MAC) == ("10.0.0.7", "2001:db8::7")


@pytest.mark.parametrize(
    "answer",
    ["yes", [{"hardware-address": 7}], [interface(MAC, "10.0.0.300")], [interface(MAC, "x; y")]],
)
def test_an_answer_that_is_none_is_refused_whole(answer: object) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError)):
        guestagent.usable(answer, MAC)
