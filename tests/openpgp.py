"""Keys and signatures of real OpenPGP tools: GnuPG in a home of its own, and sq."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.peers import peer

PUBLIC_KEY = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawteIBYJKwYBBAHaRw8BAQdAgHooKBmZvjqqITS5lbZIY+d3eexmc8xs6vJM
SWiNHLK0IUhvdGxpbmUgPGhvdGxpbmVAaG90bGluZS5leGFtcGxlPoiQBBMWCAA4
FiEEyWSfBV8cyHOkkmRpQTnNj/Bw57cFAmsLXiACGwMFCwkIBwIGFQoJCAsCBBYC
AwECHgECF4AACgkQQTnNj/Bw57dDhQD/bZS340RhpOUI1UyB9o3U9w1vDeCgc+1Y
4ztvkwBgKNkBAMVssXmO0mQ/mcy6jAssTRmzKchmv8rAyqrIrGLqNRsH
=r5hX
-----END PGP PUBLIC KEY BLOCK-----
"""
"""A public key whose secret key is nowhere."""
OLD = "20260101T000000"


def user(name: str) -> str:
    """The user id of a key; as a search it finds this key alone."""
    return f"{name} <{name}@hotline.example>"


def time_of(at: str) -> list[str]:
    """The options for a run at a time like 20260101T000000; now if it is empty."""
    return ["--faked-system-time", f"{at}!"] if at else []


class Gpg:
    """GnuPG with a home of its own; its keys have no passphrase. `close` ends its agent, and removes the home.

    The path of the home is short: that of the agent's socket has at most 107 bytes.
    """

    def __init__(self) -> None:
        self._gpg = peer("gpg", "gnupg")
        self.home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))

    def run(self, *arguments: str, data: bytes | None = None) -> bytes:
        batch = ["--batch", "--quiet", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
        command = [self._gpg, "--homedir", str(self.home), *batch, *arguments]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout

    def generate(
        self, name: str, algorithm: str = "ed25519", usage: str = "sign", expires: str = "0", at: str = OLD
    ) -> str:
        """Makes a key pair at the time `at`, now if it is empty; returns the fingerprint."""
        self.run(*time_of(at), "--quick-gen-key", user(name), algorithm, usage, expires)
        return self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        lines = self.run("--with-colons", "--list-keys", user(name)).decode().splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def public(self, name: str, *, armor: bool = True) -> bytes:
        return self.run(*(["--armor"] if armor else []), "--export", user(name))

    def secret(self, name: str) -> bytes:
        return self.run("--armor", "--export-secret-keys", user(name))

    def sign(self, name: str, body: bytes, *options: str, at: str = "") -> bytes:
        """A detached signature, unless `options` say otherwise."""
        how = options if {"--sign", "--clearsign"} & set(options) else ("--detach-sign", *options)
        return self.run(*time_of(at), "--local-user", user(name), *how, data=body)

    def copy(self) -> Gpg:
        """A second home with the present keys."""
        made = Gpg()
        without_sockets = shutil.ignore_patterns("S.*")
        shutil.copytree(self.home, made.home, ignore=without_sockets, dirs_exist_ok=True)
        return made

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


class Sq:
    """sq with a key without a password in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._sq = peer("sq", "sq")
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / "hotline.key"
        self.run("key", "generate", "--userid", "<hotline@hotline.example>", "--export", str(self.key))
        self.public = self.run("key", "extract-cert", str(self.key))

    def run(self, *arguments: str, data: bytes | None = None) -> bytes:
        return subprocess.run([self._sq, *arguments], input=data, check=True, capture_output=True).stdout

    def sign(self, body: bytes, *options: str) -> bytes:
        return self.run("sign", "--signer-key", str(self.key), *options, data=body)
