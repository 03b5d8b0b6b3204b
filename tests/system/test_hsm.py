"""The online key and a root key on a PKCS #11 token: SoftHSM, with keys that pkcs11-tool made."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers import peer, unchecked
from tests.system.test_key_rotation import Publisher, on_a_terminal

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "a pin of the tests"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a token with three P-256 keys, of the ids 2, 3 and 4."""
    if importlib.util.find_spec("pkcs11") is None:
        unchecked("python-pkcs11 is not installed: pip install -r requirements-hsm.lock")
    if not MODULE.exists():
        unchecked(f"{MODULE} is not installed: apt-get install softhsm2")
    tool, util = peer("pkcs11-tool", "opensc"), peer("softhsm2-util", "softhsm2")
    (tokens := tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(MODULE))
    made = [util, "--init-token", "--free", "--label", "publisher", "--pin", PIN, "--so-pin", "another pin"]
    subprocess.run(made, check=True, capture_output=True)
    login = [tool, "--module", str(MODULE), "--token-label", "publisher", "--login", "--pin", PIN]
    for number in ("02", "03", "04"):
        key = [*login, "--keypairgen", "--key-type", "EC:prime256v1", "--id", number]
        subprocess.run(key, check=True, capture_output=True)
    (tmp_path / "pin").write_text(f"{PIN}\n")
    return tokens


def public_of(number: int) -> str:
    """The public key of the token, in PEM, as another process reads it."""
    code = (
        "import sys; from blocklistd.signing.pem import import_from_token, public_pem; "
        "print(public_pem(import_from_token(sys.argv[1], str)))"
    )
    words = [sys.executable, "-c", code, f"hsm:{number}?label=publisher"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_online_key_moves_to_a_token_and_to_the_next_one(tmp_path: Path, token: Path) -> None:
    publisher = Publisher(tmp_path)
    for name in ("second", "third"):  # lists are signed side by side, a token takes one login
        publisher.config["lists"][name] = {"sources": ["hotline"]}
    publisher.write_config()
    with publisher:
        publisher.first_pull("hotline")
        first = publisher.newest_root()
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)
        publisher.config["keys"] |= {"next": "hsm:2?label=publisher", "pin": {"file": "wrong"}}
        (tmp_path / "wrong").write_text("wrong")
        publisher.write_config()
        publisher.cli("reload", "-c", str(publisher.path))
        said = publisher.refusal("rotate", "online", *publisher.signed_by(0, 1))
        assert "keys.next hsm:2?label=publisher: PinIncorrect" in said
        publisher.config["keys"]["pin"] = {"file": "pin"}
        publisher.write_config()
        publisher.cli("reload", "-c", str(publisher.path))
        publisher.keys("rotate", "online", *publisher.signed_by(0, 1))
        publisher.followed(client, first)
        shown = json.loads(publisher.keys("show", "--json").stdout)["online"]
        assert (shown["scheme"], shown["place"]) == ("ecdsa-sha2-nistp256", "keys.next")
        publisher.kill()
        publisher.start()
        publisher.followed(client, first)

        publisher.config["keys"] |= {"online": "hsm:2?label=publisher", "next": "hsm:3?label=publisher"}
        publisher.write_config()
        publisher.cli("reload", "-c", str(publisher.path))
        (tmp_path / "list").write_text("one.example\nsecond.example\n")
        assert publisher.pull("hotline")["outcome"] == "published"
        publisher.followed(client, first)
        publisher.keys("rotate", "online", *publisher.signed_by(0, 1))
        for _ in range(2):  # after a start, the signature tells which of the two keys is the one in root.json
            publisher.followed(client, first)
            assert json.loads(publisher.keys("show", "--json").stdout)["online"]["place"] == "keys.next"
            publisher.kill()
            publisher.start()
        publisher.stop()

        # the token is away: the start serves what was signed, and an alarm says what is not
        publisher.config["keys"] |= {"online": "hsm:3?label=publisher"}
        del publisher.config["keys"]["next"]
        publisher.write_config()
        token.rename(tmp_path / "away")
        token.mkdir()
        publisher.start()
        publisher.followed(client, first)
        (tmp_path / "list").write_text("one.example\nsecond.example\nthird.example\n")
        pulled = publisher.pull("hotline")
        assert pulled["outcome"] == "failed"
        assert "keys.online hsm:3?label=publisher: " in pulled["reason"]
        publisher.followed(client, first)
        token.rmdir()
        (tmp_path / "away").rename(token)
        publisher.stop()
        publisher.start()
        publisher.followed(client, first)
        assert b"third.example" in publisher.snapshot("national", publisher.token)
    shown_to_people = publisher.log + json.dumps(shown)
    assert PIN not in shown_to_people
    i = publisher.log.find("Traceback")
    assert i < 0, publisher.log[max(0, i - 600) : i + 4000]


def test_a_publisher_begins_with_a_token(tmp_path: Path, token: Path) -> None:
    """`keys init` with a signer URI, and a root key on the token, whose PIN the terminal asks for."""
    with Publisher(tmp_path, online="hsm:4?label=publisher", pin={"file": "pin"}) as publisher:
        publisher.first_pull("hotline")
        first = publisher.newest_root()
        (tmp_path / "token.pub").write_text(public_of(3))
        change = ("--add-key", str(tmp_path / "token.pub"), "--threshold", "3")
        publisher.keys("rotate", "root", *change, "--out", str(tmp_path / "next.json"), *publisher.signed_by(0, 1))
        (tmp_path / "newest.json").write_bytes(first)
        sign = ["keys", "sign", str(tmp_path / "next.json"), "--root", str(tmp_path / "newest.json")]
        output, code = on_a_terminal([*sign, "--root-key", "hsm:3?label=publisher"], ["y\n", f"{PIN}\n"])
        assert (code, "complete" in output) == (0, True), output
        assert PIN not in output
        publisher.keys("adopt", str(tmp_path / "next.json"))
        (client := tmp_path / "client").mkdir()
        publisher.followed(client, first)
        said = publisher.refusal("rotate", "online", *publisher.signed_by(0, 1))
        assert "name the next one in keys.next" in said


def test_a_uri_with_a_pin_is_no_configuration(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, online="hsm:4?label=publisher&pin=1234")
    said = publisher.cli("check-config", "-c", str(publisher.path), check=False).stderr.decode()
    assert "found a URI with a PIN in it" in said
    assert "1234" not in said
