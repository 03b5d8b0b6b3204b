"""Which roots are served, and what is said of those that expire or are missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Root

from blocklistd.config import load
from blocklistd.errors import SigningError
from blocklistd.limits import ROOT_ALARM_DAYS
from blocklistd.signing import ceremony, keys
from blocklistd.signing.online import OnlineSigner, Place
from blocklistd.signing.pem import private_pem, read_private_key
from blocklistd.signing.trust import load_trust

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CONFIG = """
state_dir: state
sources: {one: {url: "file:list", format: text, defaults: {type: domain}, verify: {method: none}}}
lists: {one: {sources: [one]}}
feed: {listen: ["127.0.0.1:8443"]}
control: {socket: c.sock}
"""


class Folder:
    """A publisher's folder, with a root of one root key; `rotate` adds a root with another online key."""

    def __init__(self, path: Path) -> None:
        (path / "list").write_text("")
        (path / "blocklistd.yaml").write_text(CONFIG)
        self.path = path
        self.config = load(path / "blocklistd.yaml")
        keys.init(self.config, path / "root", 1, 1, NOW)
        self.roots = path / "state/root"
        self.holder = read_private_key(path / "root/root-1.pem")

    def rotate(self) -> None:
        trust = load_trust(self.config)
        online = CryptoSigner.generate_ed25519()
        new = ceremony.next_root(trust.newest, NOW + timedelta(days=365))
        ceremony.replace_online_key(new.signed, online.public_key)
        ceremony.add_signature(trust.newest, new, self.holder, "root-1.pem")
        (self.roots / f"{new.signed.version}.root.json").write_bytes(new.to_bytes())
        (self.path / "keys/online.pem").write_bytes(private_pem(online))

    def sign_again(self, version: int) -> None:
        """Gives the present root of a version another signature, by a key that no root names."""
        path = self.roots / f"{version}.root.json"
        found: Metadata[Root] = Metadata.from_bytes(path.read_bytes())
        found.sign(CryptoSigner.generate_ed25519())
        path.write_bytes(found.to_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_root_is_served_beside_signatures_that_it_names(folder: Folder) -> None:
    first = load_trust(folder.config).online.public_key.keyid
    folder.rotate()
    second = load_trust(folder.config)
    folder.rotate()
    trust = load_trust(folder.config)
    assert list(trust.roots_of(first)) == [1]
    assert list(trust.roots_of(second.online.public_key.keyid)) == [1, 2]
    assert trust.roots_of(trust.online.public_key.keyid) == trust.roots
    assert trust.roots_of("of nobody") == {}


def test_the_alarm_begins_60_days_before(folder: Folder) -> None:
    trust = load_trust(folder.config)
    begins = trust.expires - timedelta(days=ROOT_ALARM_DAYS)
    assert trust.alarm(begins) is None
    assert trust.alarm(begins + timedelta(hours=1)) == (
        "root.json expires in 59 days: renew it with `blocklistd keys renew root`"
    )
    assert "has expired" in str(trust.alarm(trust.expires))


def test_a_chain_with_a_gap_is_an_alarm_and_serves(folder: Folder) -> None:
    folder.rotate()
    folder.rotate()
    assert load_trust(folder.config).broken is None
    body = (folder.roots / "2.root.json").read_bytes()
    for damage in (b"{}", b"", None):
        if damage is None:
            (folder.roots / "2.root.json").unlink()
        else:
            (folder.roots / "2.root.json").write_bytes(damage)
        trust = load_trust(folder.config)
        assert trust.version == 3
        assert "2.root.json: missing or damaged: clients of older roots can't follow" in str(trust.alarm(NOW))
    (folder.roots / "2.root.json").write_bytes(body)
    folder.sign_again(2)
    assert "2.root.json: " in str(load_trust(folder.config).broken)


def test_a_signature_that_does_not_verify_is_not_used() -> None:
    """A signer URI that leads to another key than root.json names."""
    named, other = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ecdsa()

    class Other(CryptoSigner):
        def sign(self, payload: bytes) -> Signature:
            return Signature(named.public_key.keyid, other.sign(payload).signature)

    signer = OnlineSigner(Other(named._private_key), Place("keys.online", "hsm:2"))
    with pytest.raises(SigningError, match="hsm:2: UnverifiedSignatureError"):
        signer.try_out()


def test_a_root_key_is_no_online_key(folder: Folder) -> None:
    trust = load_trust(folder.config)
    new = ceremony.next_root(trust.newest, NOW + timedelta(days=1))
    ceremony.replace_online_key(new.signed, folder.holder.public_key)
    new.sign(folder.holder)
    with pytest.raises(SigningError, match=r"one online key .* that is no root key"):
        ceremony.accept(trust.newest, new, "the file", NOW)


def test_signatures_that_count_for_neither_root_are_removed(folder: Folder) -> None:
    trust = load_trust(folder.config)
    new = ceremony.next_root(trust.newest, NOW + timedelta(days=1))
    new.sign(CryptoSigner.generate_ed25519(), append=True)
    ceremony.add_signature(trust.newest, new, folder.holder, "root-1.pem")
    assert list(ceremony.accept(trust.newest, new, "the file", NOW).signatures) == [folder.holder.public_key.keyid]
