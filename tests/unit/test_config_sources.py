from __future__ import annotations

import base64
from pathlib import Path

import pytest

from blocklistd.config import SourceSettings, Tsig
from blocklistd.daemon.plans import source_plans
from blocklistd.model import SourceId, Validators
from tests.unit.configuring import problems, read, source

URL = "axfr://ns.hotline.example/rpz.hotline.example"
AUTH = "{tsig: {name: K.example., algorithm: hmac-sha512, secret: {file: secret}}}"
ZONE = {"url": URL, "format": "", "defaults": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(base64.b64encode(b"a secret").decode() + "\n")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def only(folder: Path, text: str) -> SourceSettings:
    return read(folder, text).sources[SourceId("hotline-a")]


def test_a_zone_transfer_implies_its_format(folder: Path) -> None:
    assert only(folder, source(**ZONE)).body_format == "rpz"
    assert only(folder, source(**ZONE | {"format": "rpz"})).body_format == "rpz"
    (problem,) = problems(folder, source(**ZONE | {"format": "ndjson"}, extra="fields: {value: /v}"))
    assert (problem.key, problem.expected) == (
        "sources.hotline-a.format",
        "`rpz`, as the URL implies, or no such key",
    )


def test_other_urls_need_a_format(folder: Path) -> None:
    (problem,) = problems(folder, source(format=""))
    assert problem.key == "sources.hotline-a.format"
    assert "`rpz`" in problem.expected


def test_the_key_of_a_transfer(folder: Path) -> None:
    text = source(**ZONE | {"verify": "{method: tsig}"}, auth=AUTH)
    auth = only(folder, text).auth
    assert isinstance(auth, Tsig)
    assert "a secret" not in repr(auth)
    plan = source_plans(read(folder, text))[SourceId("hotline-a")]
    key = plan.request(Validators()).tsig
    assert key is not None
    assert (key.name, key.algorithm, key.secret) == ("k.example", "hmac-sha512", b"a secret")
    assert (plan.format, plan.proof, plan.proves_origin) == ("rpz", "tsig", True)


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ({"url": "axfr://ns.example", "format": "rpz"}, "url", "axfr://SERVER/ZONE"),
        ({"verify": "{method: tsig}"}, "verify.method", "`auth.tsig` and an `axfr:` URL beside it"),
        ({"verify": "{method: pinned-tls}"}, "verify.method", "needs a URL over TLS"),
        ({"verify": "{method: tsig, key: secret}", "auth": AUTH}, "verify.key", "no such key with the method"),
        ({"auth": "{bearer: {file: secret}}"}, "auth.bearer", "`auth.tsig`: the URL is a zone transfer"),
        ({"auth": AUTH.replace("sha512", "md5")}, "auth.tsig.algorithm", "`hmac-sha256` or `hmac-sha512`"),
        ({"auth": AUTH.replace("K.example.", "k..example")}, "auth.tsig.name", "a name in the DNS"),
        ({"auth": "{tsig: {name: k.example}}"}, "auth.tsig.secret", "exactly one of {file"),
        ({"pattern": "'*.db'"}, "pattern", "no such key"),
        ({"defaults": "{type: host}"}, "defaults.type", "no such key"),
        ({"fields": "{value: x}"}, "fields", "no such key"),
        ({"options": "{comment: '#'}"}, "options.comment", "an option of the format rpz: none"),
    ],
)
def test_what_does_not_fit_a_transfer_is_named(folder: Path, keys: dict[str, str], key: str, expected: str) -> None:
    (problem,) = problems(folder, source(**ZONE | keys))
    assert problem.key == f"sources.hotline-a.{key}"
    assert expected in problem.expected


def test_a_key_of_transfers_is_for_transfers(folder: Path) -> None:
    (problem,) = problems(folder, source(auth=AUTH))
    assert (problem.key, problem.expected) == ("sources.hotline-a.auth.tsig", "a URL with `axfr:` beside it")


def test_a_secret_that_is_not_base64_is_named_and_not_shown(folder: Path) -> None:
    (folder / "secret").write_text("not base64!")
    (problem,) = problems(folder, source(**ZONE, auth=AUTH))
    assert problem.key == "sources.hotline-a.auth.tsig.secret"
    assert problem.expected == "a secret in base64"
    assert "not base64" not in problem.found
