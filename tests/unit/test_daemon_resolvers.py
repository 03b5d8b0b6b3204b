"""Configurations to paste: BIND's own checker takes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from blocklistd.config import Address, Zone
from blocklistd.daemon.resolvers import POLICIES, bind
from blocklistd.model import ListId
from tests.peers import peer

TSIG = {"name": "isp-0a1b2c3d", "algorithm": "hmac-sha256", "secret": "c2VjcmV0"}


@pytest.mark.parametrize("count", [1, POLICIES, POLICIES + 2])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("host", ["::", "192.0.2.1", "2001:db8::1"])
def test_bind_takes_what_is_printed(tmp_path: Path, count: int, signed: bool, host: str) -> None:
    zones = [Zone(name=f"z{number}.rpz.example", list=ListId("national")) for number in range(count)]
    text = bind(zones, Address(host, 53), TSIG, signed=signed)
    (tmp_path / "named.conf").write_text(text)
    command = [peer("/usr/bin/named-checkconf", "bind9-utils"), str(tmp_path / "named.conf")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert all(f'zone "{zone.name}" {{\n' in text for zone in zones)
    assert text.count("is left out") == max(0, count - POLICIES)
