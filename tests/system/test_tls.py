"""TLS on both sides: a hotline behind a pinned authority, a feed with a static certificate that a reload replaces."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from blocklistd.errors import SyncError
from tests.certificates import make_certificate
from tests.peers import peer
from tests.sim.hotline import HotlineThread
from tests.system.daemon import Daemon
from tests.system.test_operations import reload

NAMES = [f"n{number}.example" for number in range(100)]


def test_a_list_is_pulled_and_served_over_https(tmp_path: Path) -> None:
    hotline_cert, hotline_key = make_certificate(tmp_path, "hotline")
    other_cert, _ = make_certificate(tmp_path, "other")
    feed_cert, feed_key = make_certificate(tmp_path, "feed")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(hotline_cert, hotline_key)
    with HotlineThread(tls=serving) as hotline:
        hotline.publish(NAMES)
        assert hotline.url.startswith("https:")
        (tmp_path / "hotline.pub").write_text(hotline.public_key_text)
        source = {
            "url": hotline.url,
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "ca": str(hotline_cert),
            "verify": {"method": "minisign", "key": "hotline.pub"},
        }
        daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
        daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
        daemon.write_config()
        with daemon:
            daemon.first_pull("hotline")
            answer = daemon.ask("subscriber add", id="isp", lists=["national"])
            (tmp_path / "token").write_text(answer.json["token"])

            def options(ca: Path) -> Options:
                return Options(
                    url=f"https://127.0.0.1:{daemon.feed_port}",
                    list="national",
                    root=daemon.root,
                    dir=tmp_path / "isp",
                    token_file=tmp_path / "token",
                    ca=ca,
                )

            done = sync_once(options(feed_cert), lambda text: None)
            assert (done.version, done.entries) == (1, len(NAMES))
            with pytest.raises(SyncError, match="certificate"):
                sync_once(options(other_cert), lambda text: None)
            _refuses_old_tls(daemon.feed_port)

            new_cert, new_key = make_certificate(tmp_path, "new")
            shutil.copy(new_cert, feed_cert)
            shutil.copy(new_key, feed_key)
            reload(daemon)
            hotline.publish([*NAMES, "new.example"])
            assert daemon.pull("hotline")["outcome"] == "published"
            assert sync_once(options(new_cert), lambda text: None).how == "diff"

            daemon.config["sources"]["hotline"]["ca"] = str(other_cert)
            daemon.write_config()
            reload(daemon)
            hotline.publish([*NAMES, "another.example"])
            failed = daemon.pull("hotline")
            assert failed["outcome"] == "failed"
            assert "certificate" in failed["reason"]
            daemon.config["sources"]["hotline"] |= {"ca": str(hotline_cert), "verify": {"method": "pinned-tls"}}
            daemon.write_config()
            reload(daemon)
            assert daemon.pull("hotline")["outcome"] == "published"
            assert "without a proof of its origin" not in daemon.log
            shutil.copy(hotline_key, feed_key)  # a key of another certificate: the running one stays
            reload(daemon, "reload refused")
            assert sync_once(options(new_cert), lambda text: None).version == 3
            shutil.copy(new_key, feed_key)

            make_certificate(tmp_path, "feed")  # a pair that would do, in a file that is refused for something else
            daemon.config["sources"]["hotline"]["auth"] = {"bearer": {"env": "NOT_THERE"}}
            daemon.write_config()
            reload(daemon, "reload refused")
            assert sync_once(options(new_cert), lambda text: None).version == 3
            del daemon.config["feed"]["tls"], daemon.config["sources"]["hotline"]["auth"]
            daemon.write_config()
            reload(daemon, "feed.tls (set or not set): found another value")


def test_the_printed_sync_commands_work_with_a_private_authority(tmp_path: Path) -> None:
    """Runs the printed commands for each list."""
    certificate, _ = make_certificate(tmp_path, "feed")
    (tmp_path / "list.txt").write_text("a.example\n")
    source = {
        **{"url": f"file:{tmp_path}/list.txt", "format": "text", "defaults": {"type": "domain"}},
        **{"schedule": "every 1d", "verify": {"method": "none"}},
    }
    lists = {name: {"sources": ["hotline"]} for name in ("national", "second")}
    daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": lists})
    daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
    with daemon:
        daemon.first_pull("hotline")
        add = ("subscriber", "add", "isp", "--list", "national", "--list", "second", "-c", str(daemon.path))
        printed = daemon.cli(*add).stdout.decode()
        at_isp = tmp_path / "isp"
        at_isp.mkdir()
        (at_isp / "token").write_text(printed.splitlines()[0] + "\n")
        shutil.copy(daemon.root, at_isp / "root.json")
        shutil.copy(certificate, at_isp / "ca.pem")
        commands = re.findall(r"^  \S(?:.*[|\\]\n)*.*\n", printed, re.M)
        assert len(commands) == 4
        program = f"{sys.executable} -m blocklistd"
        peer("curl", "curl")
        for command in commands:
            shell = ["sh", "-c", command.replace("blocklistd", program, 1)]
            done = subprocess.run(shell, cwd=at_isp, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout, command
        assert (at_isp / "second" / "second.ndjson").exists()


def _refuses_old_tls(port: int) -> None:
    old = ssl.create_default_context()
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream, old.wrap_socket(stream) as secured:
        assert secured.version() in ("TLSv1.2", "TLSv1.3")


def test_plain_http_on_other_addresses_than_loopback_is_a_configuration_error(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"feed": {"listen": ["0.0.0.0:0"]}})
    refused = daemon.cli("check-config", "-c", str(daemon.path), check=False)
    assert refused.returncode == 2
    assert "feed.tls" in refused.stderr.decode()


def test_an_expired_certificate_is_reported(tmp_path: Path) -> None:
    make_certificate(tmp_path, "feed", timedelta(days=-1))
    daemon = Daemon(tmp_path, {})
    daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
    daemon.write_config()
    with daemon:
        daemon.wait_for(lambda: "feed.tls.cert expire" in daemon.log)
        make_certificate(tmp_path, "feed")
        reload(daemon)
        assert daemon.logged("feed.tls.cert expire") == 1


def test_a_feed_without_a_usable_certificate_raises_an_alarm_and_all_else_is_served(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path, "feed")
    other, _ = make_certificate(tmp_path, "other")
    (tmp_path / "names").write_text("n.example\n")
    source = {
        "url": f"file:{tmp_path}/names",
        "format": "text",
        "defaults": {"type": "domain"},
        "verify": {"method": "none"},
    }
    daemon = Daemon(tmp_path, {"sources": {"names": source}, "lists": {"national": {"sources": ["names"]}}})
    daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
    daemon.write_config()
    right = cert.read_bytes()
    shutil.copy(other, cert)
    refused = daemon.cli("check-config", "-c", str(daemon.path), check=False)
    assert refused.returncode == 2
    assert b"feed.tls.key" in refused.stderr
    assert b"feed.key, the key of another certificate, expected the private key of" in refused.stderr
    with daemon:
        daemon.first_pull("names")
        assert daemon.ask("status").json["lists"]["national"]["version"] == 1
        ready = daemon.ops("/readyz")
        assert ready.status == 503
        assert b"the feed is not served: it has no usable certificate" in ready.body
        cert.write_bytes(right)
        reloaded = daemon.ask("reload").json
        assert reloaded["errors"] == []
        assert reloaded["changed"] == [{"key": "feed.tls.cert", "change": "read again"}]
        assert daemon.ops("/readyz").status == 200
        assert b"feed.tls" not in daemon.ops("/readyz").body
        _refuses_old_tls(daemon.feed_port)
        metrics = daemon.ops("/metrics").body.decode()
        assert 'blocklistd_certificate_expires_timestamp_seconds{certificate="feed.tls.cert"}' in metrics


@pytest.mark.parametrize("days", [-1, 13])
def test_a_certificate_that_has_expired_or_soon_will_is_used_and_raises_an_alarm(tmp_path: Path, days: int) -> None:
    make_certificate(tmp_path, "feed", timedelta(days=days))
    daemon = Daemon(tmp_path, {})
    daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
    daemon.write_config()
    checked = daemon.cli("check-config", "-c", str(daemon.path), check=False)
    assert checked.returncode == (2 if days < 0 else 0)
    assert b"feed.pem, which expire" in checked.stderr
    with daemon:
        daemon.wait_for(lambda: b"feed.tls.cert expire" in daemon.ops("/readyz").body)
        assert daemon.ops("/readyz").status == 200
        _refuses_old_tls(daemon.feed_port)
        assert len(daemon.ask("reload").json["errors"]) == (1 if days < 0 else 0)


def test_a_reload_does_not_change_a_feed_from_http_to_https(tmp_path: Path) -> None:
    make_certificate(tmp_path, "feed")
    daemon = Daemon(tmp_path, {})
    with daemon:
        daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
        daemon.write_config()
        reload(daemon, "feed.tls (set or not set): found another value")
