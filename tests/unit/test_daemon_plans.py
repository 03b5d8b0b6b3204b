"""Plans of sources: TLS contexts, pinned authorities, redirects."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocklistd.daemon.plans import source_plans
from blocklistd.errors import ConfigError
from blocklistd.model import SourceId, Validators
from blocklistd.sources.transports.transport import Request, TransferMode
from tests.certificates import make_certificate

from .configuring import make_minisign_key, read, source


def request(folder: Path, **keys: str) -> Request:
    plans = source_plans(read(folder, source(**keys)))
    return plans[SourceId("hotline-a")].request(Validators())


@pytest.mark.parametrize(
    ("method", "ca", "elsewhere"),
    [("none", False, True), ("none", True, False), ("pinned-tls", False, False), ("pinned-tls", True, False)],
)
def test_a_pinned_authority_holds_for_redirects_too(tmp_path: Path, method: str, ca: bool, elsewhere: bool) -> None:
    make_certificate(tmp_path, "ours")
    keys = {"auth": "{client_cert: {cert: ours.pem, key: {file: ours.key}}}", "ca": "ours.pem" if ca else ""}
    asked = request(tmp_path, verify=f"{{method: {method}}}", **keys)
    assert asked.ssl is not None
    assert (asked.redirect_ssl is not None) is elsewhere


@pytest.mark.parametrize("host", ["https://cdn.example/", "cdn.example/x", "*.example", "cdn.example:443", "", "a b"])
def test_a_plan_contains_the_hosts_of_allowed_redirects(tmp_path: Path, host: str) -> None:
    assert request(tmp_path, redirects="[cdn.example]").redirects == {"cdn.example"}
    with pytest.raises(ConfigError, match="a name in the DNS"):
        request(tmp_path, redirects=f"['{host}']")


def test_only_https_urls_get_a_tls_context(tmp_path: Path) -> None:
    assert request(tmp_path, url="http://127.0.0.1/").ssl is None
    assert request(tmp_path, url="file:drop").url == (tmp_path / "drop").as_uri()


def test_a_list_that_is_signed_or_encrypted_as_one_file_is_fetched_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocklistd.daemon.plans.secret_key", lambda found: "secret")
    make_minisign_key(tmp_path / "a.pub")
    log = {"format": "action-log", "fields": "{value: /name, action: /do}"}
    assert request(tmp_path, **log).transfer is TransferMode.LOG
    assert request(tmp_path, **log, verify="{method: minisign, key: a.pub}").transfer is TransferMode.BODY
    assert request(tmp_path, **log, decrypt="{openpgp: {env: SECRET}}").transfer is TransferMode.BODY
