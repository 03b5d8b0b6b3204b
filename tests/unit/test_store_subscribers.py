"""Registration of subscribers: an accepted request can be used by every part of the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklistd.daemon import plans
from blocklistd.errors import SubscriberError
from blocklistd.store import subscribers
from blocklistd.store.subscribers import Registration
from tests.versions_of import LIST, NOW, Versions


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    made = Versions(tmp_path)
    yield made
    made.close()


def add(versions: Versions, name: str) -> None:
    with versions.database.write() as connection:
        subscribers.add(connection, Registration(name, (LIST,)), lists=[LIST], zones=[], now=NOW, created_by="alice")


def test_the_longest_id_gives_a_valid_key_name(versions: Versions) -> None:
    add(versions, "a" * subscribers.LONGEST_ID)
    with versions.database.read() as connection:
        (known,) = subscribers.load(connection).values()
    assert plans.peer(known).keys[0].name[0] == 63, "one label of the maximum length"


@pytest.mark.parametrize("name", ["", "-a", "A", "a.b", "a" * (subscribers.LONGEST_ID + 1), "a" * 10_000])
def test_an_invalid_id_is_refused(versions: Versions, name: str) -> None:
    with pytest.raises(SubscriberError, match="an id of a-z") as refused:
        add(versions, name)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_an_ipv4_mapped_prefix_becomes_ipv4(text: str, meant: str) -> None:
    assert str(subscribers.network(text)) == meant


@pytest.mark.parametrize("text", ["", "x", "192.0.2.1/24", "192.0.2.0/33", "ns.example", "::ffff:192.0.2.1/120"])
def test_an_invalid_prefix_is_refused(text: str) -> None:
    with pytest.raises(SubscriberError, match="--address"):
        subscribers.network(text)


@pytest.mark.parametrize("digits", [32, 40])
def test_an_id_that_looks_like_a_hash_is_refused(versions: Versions, digits: int) -> None:
    with pytest.raises(SubscriberError, match="taken for the hash of a file"):
        add(versions, "ab" * (digits // 2))
    add(versions, "abc")


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "192.0.0.0/23", "::/0", "2001:db8::/47", "::ffff:192.0.0.0/119"])
def test_a_wide_prefix_needs_the_option_wide(versions: Versions, prefix: str) -> None:
    zone = "rpz.blocklist.example"

    def register(name: str, *, prefix: str, wide: bool = False) -> None:
        registration = Registration(name, zones=(zone,), addresses=(prefix,), wide=wide)
        with versions.database.write() as connection:
            subscribers.add(connection, registration, lists=[], zones=[zone], now=NOW, created_by="alice")

    with pytest.raises(SubscriberError, match=r"--address .*everybody there .*or --wide"):
        register("isp", prefix=prefix)
    register("isp", prefix=prefix, wide=True)
    for number, narrow in enumerate(("192.0.2.0/24", "2001:db8::/48", "192.0.2.1", "::ffff:192.0.2.0/120")):
        register(f"narrow-{number}", prefix=narrow)


def test_the_id_of_a_revoked_subscriber_can_be_given_again_without_its_rights(
    versions: Versions,
) -> None:
    add(versions, "isp")
    with pytest.raises(
        SubscriberError,
        match="exists already: choose another id, or revoke it first: `blocklistd subscriber revoke isp`",
    ):
        add(versions, "isp")
    with versions.database.read() as connection:
        (old,) = subscribers.load(connection)
    with versions.database.write() as connection:
        subscribers.revoke(connection, "isp", now=NOW, revoked_by="alice")
    with versions.database.write() as connection:
        registration = Registration("isp", (), ("rpz.example",))
        subscribers.add(connection, registration, lists=[LIST], zones=["rpz.example"], now=NOW, created_by="bob")
    with versions.database.read() as connection:
        ((token, new),) = subscribers.load(connection).items()
    assert token != old
    assert (new.lists, new.zones) == (frozenset(), frozenset({"rpz.example"}))
    assert (new.revoked, new.created_by) == (None, "bob")
    assert len(new.keys) == 1
