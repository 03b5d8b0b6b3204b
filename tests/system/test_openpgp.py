"""Lists signed with OpenPGP arrive through the daemon, its sandbox included: detached and inline, and with new keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.openpgp import Gpg, time_of, user
from tests.signer import Signer
from tests.system.daemon import Daemon
from tests.system.test_operations import reload
from tests.system.test_own_process import jobs_run


@pytest.fixture
def gpg(tmp_path: Path) -> Iterator[Gpg]:
    made = Gpg()
    for name in ("old", "new"):
        made.generate(name)
        (tmp_path / f"{name}.asc").write_bytes(made.public(name))
    yield made
    made.close()


def config(folder: Path, **verify: object) -> dict[str, object]:
    source = {
        "url": f"file:{folder}/list.txt",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "openpgp", "key": "old.asc", **verify},
    }
    return {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}}


def live(daemon: Daemon, token: str) -> set[str]:
    return {json.loads(line)["value"] for line in daemon.snapshot("national", token).splitlines()}


class Hotline:
    """Publishes a list and its signature; `at` is the time of signing."""

    def __init__(self, folder: Path, gpg: Gpg) -> None:
        self._body, self._signature, self._gpg = folder / "list.txt", folder / "list.txt.asc", gpg

    def publish(self, name: str, at: str, key: str = "old") -> tuple[bytes, bytes]:
        body = f"{name}.example\n".encode()
        return self.serve(body, self._gpg.sign(key, body, "--armor", at=at))

    def serve(self, body: bytes, signature: bytes) -> tuple[bytes, bytes]:
        self._body.write_bytes(body)
        self._signature.write_bytes(signature)
        return body, signature


def test_a_hotline_changes_its_key(tmp_path: Path, gpg: Gpg) -> None:
    """With both keys configured for a time, no pull fails, and no old body comes back at any step."""
    hotline = Hotline(tmp_path, gpg)
    first = hotline.publish("one", "20260201T000000")
    with Daemon(tmp_path, config(tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        unseen = hotline.publish("unseen", "20260202T000000")

        def keys(*names: str) -> None:
            daemon.config["sources"]["hotline"]["verify"]["key"] = list(names)
            daemon.write_config()
            reload(daemon)

        def is_refused(served: tuple[bytes, bytes]) -> None:
            hotline.serve(*served)
            assert "an old body is served again" in daemon.pull("hotline")["reason"]

        def is_accepted(name: str) -> None:
            assert daemon.pull("hotline")["outcome"] == "published"
            assert live(daemon, token) == {f"{name}.example"}

        hotline.publish("two", "20260203T000000", "new")
        assert "signed by the OpenPGP key" in daemon.pull("hotline")["reason"]
        keys("old.asc", "new.asc")
        is_accepted("two")
        is_refused(first)
        is_refused(unseen)
        second = hotline.publish("three", "20260204T000000")
        is_accepted("three")
        third = hotline.publish("four", "20260205T000000", "new")
        is_accepted("four")
        is_refused(second)
        keys("new.asc")
        hotline.serve(*second)
        assert "signed by the OpenPGP key" in daemon.pull("hotline")["reason"]
        hotline.serve(*third)
        assert daemon.pull("hotline")["outcome"] == "unchanged"
        hotline.publish("two", "20260206T000000", "new")
        is_accepted("two")
        is_refused(third)
        body, signature = hotline.publish("five", "20260207T000000", "new")
        hotline.serve(body + b"evil.example\n", signature)
        assert "does not fit the body" in daemon.pull("hotline")["reason"]
        assert live(daemon, token) == {"two.example"}


@pytest.mark.parametrize("how", ["--sign", "--clearsign"])
def test_an_inline_signature(tmp_path: Path, gpg: Gpg, how: str) -> None:
    body = tmp_path / "list.txt"
    names = "".join(f"n{number}.example\n" for number in range(20_000)).encode()

    def publish(content: bytes, at: str) -> bytes:
        signed = gpg.sign("old", content, how, at=at)
        body.write_bytes(b"evil.example\n" + signed + b"evil.example\n" if how == "--clearsign" else signed)
        return body.read_bytes()

    first = publish(names, "20260201T000000")
    with Daemon(tmp_path, config(tmp_path, signature="inline")) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        assert live(daemon, token) == set(names.decode().split())
        publish(names + b"more.example\n", "20260202T000000")
        assert daemon.pull("hotline")["outcome"] == "published"
        body.write_bytes(first)
        assert "an old body is served again" in daemon.pull("hotline")["reason"]
        body.write_bytes(names)
        assert "not a signed OpenPGP message" in daemon.pull("hotline")["reason"]
        assert live(daemon, token) == {*names.decode().split(), "more.example"}


# -- encrypted to us ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path: Path, gpg: Gpg) -> str:
    gpg.generate("ours", "default", "default")
    gpg.generate("theirs", "default", "default")
    (tmp_path / "our-secret.asc").write_bytes(gpg.secret("ours"))
    (tmp_path / "our-secret.asc").chmod(0o600)
    return "our-secret.asc"


def encrypt(gpg: Gpg, body: bytes, *options: str, to: str = "ours") -> bytes:
    return gpg.run("--trust-model", "always", "--armor", "--recipient", user(to), "--encrypt", *options, data=body)


METHODS: dict[str, dict[str, object]] = {
    "openpgp": {"method": "openpgp", "key": "old.asc"},
    "inside": {"method": "openpgp", "key": "old.asc", "signature": "inline"},
    "cleartext inside": {"method": "openpgp", "key": "old.asc", "signature": "inline"},
    "minisign": {"method": "minisign", "key": "minisign/hotline.pub"},
    "none": {"method": "none"},
}


@pytest.mark.parametrize("how", METHODS)
def test_a_list_arrives_encrypted(tmp_path: Path, gpg: Gpg, ours: str, how: str) -> None:
    body, minisign = tmp_path / "list.txt", Signer(tmp_path / "minisign")

    def publish(*names: str, at: str, to: str = "ours") -> bytes:
        content = "".join(f"{name}.example\n" for name in names).encode()
        inside = ["--sign", "--local-user", user("old")] if how == "inside" else []
        if how == "cleartext inside":
            content = gpg.sign("old", content, "--clearsign", at=at)
        body.write_bytes(encrypt(gpg, content, *time_of(at), *inside, to=to))
        (tmp_path / "list.txt.asc").write_bytes(gpg.sign("old", body.read_bytes(), at=at))
        minisign.sign(body)
        return body.read_bytes()

    settings = config(tmp_path)
    source = settings["sources"]["hotline"]  # type: ignore[index]
    source |= {"verify": METHODS[how], "decrypt": {"openpgp": {"file": ours}}}
    first = publish("one", at="20260201T000000")
    with Daemon(tmp_path, settings) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        assert live(daemon, token) == {"one.example"}
        publish("one", "two", at="20260202T000000")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live(daemon, token) == {"one.example", "two.example"}
        assert jobs_run(daemon, "prove") == 2, "the job that parses does not have the key"
        if how in ("inside", "cleartext inside"):
            body.write_bytes(first)
            assert "an old body is served again" in daemon.pull("hotline")["reason"]
        publish("three", at="20260203T000000", to="theirs")
        assert "none of which is in `decrypt`" in daemon.pull("hotline")["reason"]
        content = b"four.example\n"
        body.write_bytes(content)
        (tmp_path / "list.txt.asc").write_bytes(gpg.sign("old", content))
        minisign.sign(body)
        assert "not an encrypted OpenPGP message" in daemon.pull("hotline")["reason"]
        if how != "none":
            body.write_bytes(encrypt(gpg, content))
            assert daemon.pull("hotline")["outcome"] == "failed", "encrypted to us, and not signed"
        assert live(daemon, token) == {"one.example", "two.example"}
    secret = gpg.secret("ours").decode().splitlines()[3]
    assert secret not in daemon.log


@pytest.mark.parametrize("how", ["detached", "inline", "inside"])
def test_a_kept_list_is_read_again_after_its_key_was_stolen(tmp_path: Path, gpg: Gpg, ours: str, how: str) -> None:
    """Also a list that is wrapped in its signature or encrypted: the evidence has the bytes as they arrived."""
    body = tmp_path / "list.txt"

    def publish(*names: str, at: str) -> None:
        content = "".join(f"{name}.example\n" for name in names).encode()
        signed = ["--sign", "--local-user", user("old")]
        if how == "inside":
            content = encrypt(gpg, content, *time_of(at), *signed)
        elif how == "inline":
            content = gpg.sign("old", content, "--sign", at=at)
        body.write_bytes(content)
        (tmp_path / "list.txt.asc").write_bytes(gpg.sign("old", content, "--armor", at=at))

    settings = config(tmp_path, **({} if how == "detached" else {"signature": "inline"}))
    if how == "inside":
        settings["sources"]["hotline"]["decrypt"] = {"openpgp": {"file": ours}}  # type: ignore[index]
    publish("one", at="20260131T000000")
    with Daemon(tmp_path, settings) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        publish("one", "two", at="20260201T000000")
        assert daemon.pull("hotline")["outcome"] == "published"
        stolen = datetime.now(UTC).isoformat()
        publish("one", "two", "forged", at="20260202T000000")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert len(daemon.ask("source evidence", source="hotline").json) == 3
        for sealed in (tmp_path / "state" / "sealed").glob("??/*"):
            if b"two.example" in sealed.read_bytes() and b"forged" not in sealed.read_bytes():
                sealed.unlink()  # as a sweep does, once no row names them
        key = daemon.ask("source show", source="hotline").json["key"]
        answer = daemon.ask("source distrust", source="hotline", key=key, since=stolen, why="stolen")
        assert answer.status == 200, answer.body
        done = answer.json
        assert (done["bodies"], done["entries"]) == (1, 2)
        (held,) = daemon.ask("candidate list").json
        assert (held["added"], held["removed"]) == (0, 1)
        assert daemon.approve(held["id"])["released"]
        assert live(daemon, token) == {"one.example", "two.example"}


def test_check_config_warns_of_a_key_that_verifies_nothing(tmp_path: Path, gpg: Gpg) -> None:
    gpg.generate("short", expires="2d")
    (tmp_path / "short.asc").write_bytes(gpg.public("short"))
    daemon = Daemon(tmp_path, config(tmp_path, key=["old.asc", "short.asc"]))
    checked = daemon.cli("check-config", "-c", str(daemon.path))
    assert b"short.asc: the OpenPGP key has expired: ask the hotline" in checked.stdout + checked.stderr
    assert b"old.asc" not in checked.stdout + checked.stderr


def test_check_config_refuses_a_secret_key_that_cannot_decrypt(tmp_path: Path, gpg: Gpg, ours: str) -> None:
    gpg.run("--passphrase", "hunter2", "--quick-gen-key", user("locked"), "default", "default", "0")
    settings = config(tmp_path)
    source = settings["sources"]["hotline"]  # type: ignore[index]
    daemon = Daemon(tmp_path, settings)
    for text, expected in (
        (
            gpg.run("--passphrase", "hunter2", "--export-secret-keys", user("locked")),
            b"which has a passphrase: remove it",
        ),
        (gpg.public("ours"), b"which has no secret key that decrypts: expected the result of"),
        (gpg.secret("ours"), b""),
    ):
        (tmp_path / ours).write_bytes(text)
        source["decrypt"] = {"openpgp": {"file": ours}}
        daemon.write_config()
        checked = daemon.cli("check-config", "-c", str(daemon.path), check=False)
        assert expected in checked.stdout + checked.stderr
        assert (checked.returncode == 0) is not bool(expected)
