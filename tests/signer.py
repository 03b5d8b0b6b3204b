"""Signs files with Debian's minisign, as a hotline does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.peers import peer


class Signer:
    """A key pair without a password in `folder`, and signatures beside the files that are signed."""

    def __init__(self, folder: Path) -> None:
        self._minisign = peer("minisign", "minisign")
        folder.mkdir(parents=True, exist_ok=True)
        self.public_key = folder / "hotline.pub"
        self._secret_key = folder / "hotline.key"
        self._run("-G", "-W", "-f", "-p", str(self.public_key), "-s", str(self._secret_key))

    def sign(self, body: Path, *, legacy: bool = False, comment: str | None = None) -> Path:
        """Signs a file; returns the path of the signature. `comment` replaces the trusted comment with the time."""
        signature = body.with_name(f"{body.name}.minisig")
        arguments = ["-S", "-s", str(self._secret_key), "-m", str(body), "-x", str(signature)]
        if legacy:
            arguments.append("-l")
        if comment is not None:
            arguments += ["-t", comment]
        self._run(*arguments)
        return signature

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._minisign, *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)
