"""The keys of what is served: bounds of connections, trusted proxies, the operators' socket."""

from __future__ import annotations

import grp
import ipaddress
import os
from pathlib import Path

import pytest

from blocklistd.config import ConnectionBounds, RateLimit, check, control_socket
from blocklistd.daemon.start import changes_for_a_restart

from .configuring import VALID, places, problems, read

FEED = "  connections: {per_address: 7, total: 20}\n  trusted_proxies: [192.0.2.1, 2001:db8::/32]\n"


def test_bounds_and_proxies_are_read_and_changed_by_a_reload(tmp_path: Path) -> None:
    plain = read(tmp_path, VALID)
    assert plain.feed.connections == ConnectionBounds(per_address=128, per_subscriber=256, total=4096)
    assert plain.feed.trusted_proxies == ()
    zones = (
        "zones: {rpz.example: {list: national}}\ndns: {listen: ['127.0.0.1:53'], connections: {per_subscriber: 3}}\n"
    )
    made = read(tmp_path, VALID + FEED + zones)
    assert made.feed.connections == ConnectionBounds(per_address=7, per_subscriber=256, total=20)
    assert made.feed.trusted_proxies == (ipaddress.ip_network("192.0.2.1/32"), ipaddress.ip_network("2001:db8::/32"))
    assert made.serves_dns is not None
    assert made.serves_dns.connections.per_subscriber == 3
    without = read(tmp_path, VALID + zones.replace(", connections: {per_subscriber: 3}", ""))
    assert changes_for_a_restart(without, made) == []


def test_the_rate_of_requests(tmp_path: Path) -> None:
    for line, rate in (
        ("", RateLimit(600, 60)),
        ("  rate_limit: off\n", None),
        ("  rate_limit: 5/s\n", RateLimit(5, 1)),
        ("  rate_limit: 9000/h\n", RateLimit(9000, 3600)),
    ):
        found = read(tmp_path, VALID + line).feed.rate_limit
        assert found == rate
        assert rate is None or not line or line.endswith(f" {rate}\n")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        *((f"  rate_limit: {wrong}", "feed.rate_limit") for wrong in ("0/m", "600", "600/d", "1.5/s", "-1/s", "no")),
        ("  connections: {per_address: 0}", "feed.connections.per_address"),
        ("  connections: {total: many}", "feed.connections.total"),
        ("  connections: {per_host: 1}", "feed.connections.per_host"),
        ("  trusted_proxies: [192.0.2.1/24]", "feed.trusted_proxies"),
        ("  trusted_proxies: [proxy.example]", "feed.trusted_proxies"),
        ("control: {group: no-such-group}", "control.group"),
        ("control: {socket: status.sock}", "control.socket"),
        (f"control: {{socket: {'/' + 'x' * 100}/c}}", "control.socket"),
    ],
)
def test_one_wrong_key(tmp_path: Path, line: str, key: str) -> None:
    assert places(tmp_path, f"{VALID}{line}\n") == [(12, key)]


def test_the_operators_socket_has_everybodys_beside_it(tmp_path: Path) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    made = read(tmp_path, f"{VALID}control: {{socket: run/c.sock, group: {own}}}\n")
    assert made.control.group == own
    assert made.status_socket == tmp_path / "run" / "status.sock"
    assert control_socket(tmp_path / "blocklistd.yaml") == tmp_path / "run" / "c.sock"


def test_the_folder_of_the_static_tree(tmp_path: Path) -> None:
    own = grp.getgrgid(os.getgid()).gr_name

    def text(path: str, group: str = own) -> str:
        return f"{VALID}  public_dir: {{path: {path}, group: {group}}}\nstate_dir: state\n"

    made = read(tmp_path, f"{VALID}  public_dir: {{path: public, group: {own}}}\n").feed.public_dir
    assert made is not None
    assert (made.path, made.group) == (tmp_path / "public", own)
    assert read(tmp_path, f"{VALID}  public_dir: off\n").feed.public_dir is None
    (tmp_path / "file").write_text("")
    for right in ("public", "state/public", "state/public/a"):
        assert read(tmp_path, text(right)).feed.public_dir is not None
    assert places(tmp_path, text("public", "no-such-group")) == [(12, "feed.public_dir.group")]
    for wrong in ("state", ".", "state/sealed", "..", "file", "file/public"):
        assert places(tmp_path, text(wrong)) == [(12, "feed.public_dir.path")], wrong
    assert places(tmp_path, f"{VALID}  public_dir: {{path: public}}\n") == [(12, "feed.public_dir.group")]


def test_a_static_tree_whose_folder_is_not_there_is_named(tmp_path: Path) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    text = f"{VALID}  public_dir: {{path: {tmp_path}/srv/feed, group: {own}}}\nstate_dir: state\n"
    (problem,) = problems(tmp_path, text)
    assert f"{tmp_path}/srv/feed: there is no folder {tmp_path}/srv" in str(problem)
    (tmp_path / "srv").mkdir()
    assert read(tmp_path, text).feed.public_dir is not None


@pytest.mark.parametrize(
    ("rate", "warns"),
    [("5/m", True), ("1/s", True), ("100/h", True), ("20/m", False), ("600/m", False), ("off", False)],
)
def test_a_limit_that_no_client_can_keep_is_a_warning(tmp_path: Path, rate: str, warns: bool) -> None:
    path = tmp_path / "blocklistd.yaml"
    path.write_text(f"{VALID}  rate_limit: {rate}\n")
    found = [str(one) for one in check(path).warnings]
    assert [f"found {rate}, expected at least 20/m" in one for one in found] == [True] * warns
