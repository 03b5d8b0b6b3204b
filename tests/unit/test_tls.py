"""The certificate of the feed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.tls import has_untrusted_authority
from tests.certificates import context_of, make_certificate


def test_a_certificate_is_private_unless_this_host_trusts_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = make_certificate(tmp_path, "feed")
    other, _ = make_certificate(tmp_path, "other")
    context = context_of(cert, key)
    assert has_untrusted_authority(context)
    for known, private in ((other, True), (cert, False)):  # where OpenSSL looks for the authorities of the host
        monkeypatch.setenv("SSL_CERT_FILE", str(known))
        assert has_untrusted_authority(context) == private
    cert, key = make_certificate(tmp_path, "expired", timedelta(days=-1))
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert not has_untrusted_authority(context_of(cert, key)), (
        "an expired certificate is another fault, with an alarm of its own"
    )
