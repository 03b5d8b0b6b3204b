"""A PostgreSQL server of the tests' own: on a Unix socket only, in a temporary folder, as a user without rights."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from tests.peers import unchecked

_SERVER_USER: Final = "postgres"  # the server refuses to run as root
_SETTINGS: Final = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "max_connections=200")


def _programs() -> Path:
    """The folder of the newest version's programs."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found:
        unchecked("PostgreSQL is not installed: apt-get install postgresql")
    return Path(found[-1]).parent


class PostgresqlServer:
    """One running server. `stop` ends it and removes its folder."""

    def __init__(self) -> None:
        programs = _programs()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self.folder / "data"
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, _SERVER_USER, _SERVER_USER)
            self._as_user = ["setpriv", f"--reuid={_SERVER_USER}", f"--regid={_SERVER_USER}", "--clear-groups"]
        self._run([programs / "initdb", "-D", self._data, "-U", _SERVER_USER, "-A", "trust", "--no-sync", "--locale=C"])
        self._server: list[str | Path] = [programs / "pg_ctl", "-D", self._data, "-w"]
        self.start()
        self._databases = 0

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = " ".join(f"-c {setting}" for setting in _SETTINGS)
        self._run([*self._server, "-l", self.folder / "log", "-o", f"-k {self.folder} {options}", "start"])

    def restart(self) -> None:
        """Restarts the server: every connection is lost."""
        self.halt()
        self.start()

    def halt(self) -> None:
        """Stops the server and keeps its databases."""
        self._run([*self._server, "-m", "fast", "stop"])

    def stop(self) -> None:
        """Ends the server and removes all of its databases."""
        self._run([*self._server, "-m", "immediate", "stop"])
        shutil.rmtree(self.folder)

    def url(self, name: str) -> str:
        """The URL of a database, for its owner."""
        return f"postgresql://{_SERVER_USER}@/{name}?host={self.folder}"

    def create(self, *, template: str = "template0", encoding: str = "UTF8") -> str:
        """Makes a database, as a copy of `template`; returns its name."""
        self._databases += 1
        name = f"state{self._databases}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {}").format(
            sql.Identifier(name), sql.Identifier(template), sql.Literal(encoding)
        )
        self._execute(statement)
        return name

    def drop(self, name: str) -> None:
        """Removes a database and ends its connections."""
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, command: list[str | Path]) -> None:
        done = subprocess.run([*self._as_user, *command], cwd="/", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
