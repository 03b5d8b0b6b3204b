"""A daemon whose state is in PostgreSQL: it loses nothing when it is killed, or when the server restarts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import PostgresqlServer
from tests.system.daemon import Daemon


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    made = PostgresqlServer()
    yield made
    made.stop()


def config(server: PostgresqlServer, database: str, body: Path) -> dict[str, object]:
    return {
        "database": server.url(database),
        "sources": {
            "hotline": {
                "url": f"file:{body}",
                "format": "text",
                "defaults": {"type": "domain"},
                "schedule": "every 1d",
                "verify": {"method": "none"},
            }
        },
        "lists": {"national": {"sources": ["hotline"]}},
        "zones": {"rpz.example": {"list": "national"}},
        "dns": {"listen": ["127.0.0.1:0"]},
    }


def test_a_state_in_postgresql(tmp_path: Path, server: PostgresqlServer) -> None:
    body = tmp_path / "list.txt"
    body.write_text("a.example\nb.example\n")
    database = server.create()
    folder = tmp_path / "first"
    folder.mkdir()
    daemon = Daemon(folder, config(server, database, body))
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        first = daemon.get("/v1/lists/national", token).json
        assert (first["version"], first["entries"]) == (1, 2)

        daemon.kill()
        daemon.start()
        assert daemon.get("/v1/lists/national", token).json["sha256"] == first["sha256"]

        body.write_text("a.example\nb.example\nc.example\n")
        assert daemon.pull("hotline")["versions"] == {"national": 2}

        server.restart()  # each open connection is lost
        body.write_text("a.example\nc.example\n")
        assert daemon.pull("hotline")["versions"] == {"national": 3}
        assert daemon.ask("audit verify").status == 200

        other = tmp_path / "other"
        other.mkdir()
        shutil.copytree(folder / "keys", other / "keys")
        beside = Daemon(other, config(server, database, body))
        with pytest.raises(AssertionError, match="names the files of another state_dir"):
            beside.start()

        server.halt()
        assert daemon.get("/v1/lists/national", token).json["version"] == 3
        assert daemon.pull("hotline")["outcome"] == "failed"
        server.start()
        assert daemon.pull("hotline")["outcome"] == "unchanged"
    assert "c.example" not in daemon.log
