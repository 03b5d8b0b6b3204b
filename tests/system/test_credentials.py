"""Keys from systemd's LoadCredential=: the online key and the feed's TLS key, in $CREDENTIALS_DIRECTORY."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.system.daemon import Daemon


def test_the_daemon_serves_with_keys_that_are_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    _, key = make_certificate(tmp_path, "feed")
    key.rename(private / "feed.key")
    daemon = Daemon(tmp_path, {"keys": {"online": {"credential": "online.pem"}}})
    daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"credential": "feed.key"}}
    daemon.write_config()
    daemon.cli("check-config", "-c", str(daemon.path))  # by a person: there are no credentials outside of the service
    refused = daemon.cli("keys", "init", "-c", str(daemon.path), "--root-out", str(tmp_path / "root"), check=False)
    assert refused.returncode == 1
    assert b"$CREDENTIALS_DIRECTORY" in refused.stderr

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(private))
    daemon.init_keys()
    assert stat.S_IMODE((private / "online.pem").stat().st_mode) == 0o600
    with daemon:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY")
        daemon.cli("status", "-c", str(daemon.path))
        assert daemon.ops("/readyz").status == 200
        assert daemon.stop() == 0
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 1
    assert "$CREDENTIALS_DIRECTORY is not set" in daemon.log
