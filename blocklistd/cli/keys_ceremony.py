"""`keys rotate | renew | sign`: makes the next root.json, and signs it with root keys.

The daemon makes the next root and adopts it; root keys are read here only, and never sent. With all holders at one
machine, `rotate` and `renew` sign and adopt it in one call. Otherwise they write it to a file (`--out`), which the
holders sign one after another with `keys sign`, and which `keys adopt` brings back.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed
from blocklistd.cli.keys import new_passphrase, passphrase_of
from blocklistd.language.context import _, known

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Signer
    from tuf.api.metadata import Metadata, Root

FILE: Final = click.Path(dir_okay=False, path_type=Path)
_root_key: Final = click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    metavar="FILE",
    help="Sign with this root key: a file, or the URI hsm:… of a token. An encrypted one asks for its passphrase.",
)
_out: Final = click.option(
    "--out", type=FILE, help="Write the next root.json into this file for further holders to sign; adopt nothing."
)


@click.command("rotate")
@click.argument("what", type=click.Choice(["online", "root"]))
@_root_key
@_out
@click.option("--public-key", type=FILE, help="online: the public key (PEM) of a signer URI that can't tell it.")
@click.option("--add-key", "added", multiple=True, type=FILE, help="root: add this root key, public or private (PEM).")
@click.option("--remove-key", "removed", multiple=True, metavar="ID", help="root: remove the root key with this id.")
@click.option("--threshold", type=click.IntRange(1, 32), help="root: this many root keys must sign from now on.")
@click.option(
    "--root-out",
    type=click.Path(file_okay=False, path_type=Path),
    help="root: replace all root keys by new ones in this folder.",
)
@click.option("--root-keys", "count", type=click.IntRange(1, 32), help="root: number of new root keys.")
@click.option("--encrypt", is_flag=True, help="root: encrypt the new root keys with a passphrase.")
@common
def rotate(
    session: Session,
    what: str,
    root_keys: tuple[str, ...],
    out: Path | None,
    public_key: Path | None,
    added: tuple[Path, ...],
    removed: tuple[str, ...],
    threshold: int | None,
    root_out: Path | None,
    count: int | None,
    encrypt: bool,
) -> None:
    """Replace the online key by a new one, or root keys by others, in a next root.json that root keys sign.

    Subscribers follow by themselves. The new online key is made where keys.online is a file; else name it in keys.next.
    """
    given = {"--add-key": added, "--remove-key": removed, "--threshold": threshold, "--root-out": root_out}
    given |= {"--root-keys": count, "--encrypt": encrypt}
    wrong = (
        [name for name, value in given.items() if value] if what == "online" else ["--public-key"] * bool(public_key)
    )
    if wrong:
        raise click.UsageError(f"{wrong[0]} is not for `keys rotate {what}`")
    if (root_out is None and (count or encrypt)) or (root_out is not None and (added or removed)):
        raise click.UsageError(
            "--root-keys and --encrypt are for --root-out, which replaces all root keys: it takes no "
            "--add-key and --remove-key"
        )
    from blocklistd.signing.pem import private_pem, public_pem, read_private_key

    signers = [(name, _open(name)) for name in root_keys]
    public = []
    for path in added:
        content = _read(path)
        if b"PRIVATE" in content:
            signers.append((str(path), read_private_key(path, passphrase_of)))
            content = public_pem(signers[-1][1].public_key).encode()
        public.append(content.decode(errors="replace"))
    made = _new_root_keys(root_out, count or 1)
    signers += [(str(path), signer) for path, signer in made.items()]
    passphrase = new_passphrase() if encrypt else ""
    values = {
        "change": what,
        "add_key": [*public, *(public_pem(signer.public_key) for signer in made.values())],
        "remove_key": list(removed),
        "replace": root_out is not None,
        "threshold": threshold,
        "public_key": _read(public_key).decode(errors="replace") if public_key else None,
    }
    _carry_out(session, values, signers, out, {path: private_pem(key, passphrase) for path, key in made.items()})


@click.command("renew")
@click.argument("what", type=click.Choice(["root"]))
@_root_key
@_out
@common
def renew(session: Session, what: str, root_keys: tuple[str, ...], out: Path | None) -> None:
    """Give root.json a later expiry (keys.root_expires from now), in a next version that root keys sign.

    Subscribers follow by themselves.
    """
    _carry_out(session, {"change": "none"}, [(name, _open(name)) for name in root_keys], out, {})


@click.command("sign")
@click.argument("file", type=FILE)
@click.option(
    "--root", required=True, type=FILE, help="The newest root.json (`keys show --root`): what FILE is compared with."
)
@_root_key
@common
def sign(session: Session, file: Path, root: Path, root_keys: tuple[str, ...]) -> None:
    """Sign the next root.json in FILE with root keys, in place. Needs no configuration and no network.

    Shows what changes, and asks on a terminal before it signs.
    """
    from blocklistd.daemon.commands.keys import read_root_file
    from blocklistd.daemon.commands.text import table
    from blocklistd.signing.ceremony import add_signature, check_next, differences, parse_root
    from blocklistd.times import utc_now

    if not root_keys:
        raise click.UsageError("name at least one root key with --root-key")
    current, new = parse_root(read_root_file(root), str(root)), parse_root(read_root_file(file), str(file))
    check_next(current, new, str(file), utc_now())
    if not session.json:
        rows = [(name, known(text)) for name, text in differences(current.signed, new.signed)]
        table(("", ""), rows)
        if os.isatty(0):
            click.confirm(_("Sign this?"), abort=True, err=True)
    for name in root_keys:
        add_signature(current, new, _open(name), name)
    _write(file, new)
    _answer_file(session, file, current, new)


def _carry_out(
    session: Session,
    values: dict[str, Any],
    signers: list[tuple[str, Signer]],
    out: Path | None,
    new_keys: dict[Path, bytes],
) -> None:
    """Asks the daemon for the next root, signs it, writes the new root keys, then `out`, or has the root adopted."""
    from blocklistd.daemon.commands import COMMANDS
    from blocklistd.daemon.commands.keys import show_keys
    from blocklistd.signing.ceremony import add_signature, missing_signatures, parse_root
    from blocklistd.signing.keys import require_absent, write_all

    if out is not None:
        require_absent(out)
    with session.daemon() as daemon:
        asked = {name: value for name, value in values.items() if value is not None}
        drafted = daemon.ask(COMMANDS["keys draft"], asked)
        current, new = (parse_root(drafted[name], "the next root") for name in ("current", "next"))
        for name, signer in signers:
            add_signature(current, new, signer, name)
        missing = missing_signatures(current, new)
        if missing and out is None:
            raise Failed(
                f"version {new.signed.version} of root.json has {'; and '.join(missing)}: name more root keys with "
                f"--root-key, or write it with --out FILE for further holders to sign. Nothing was changed"
            )
        write_all({path: (key, 0o600) for path, key in new_keys.items()})
        if out is None:
            adopted = daemon.ask(COMMANDS["keys adopt"], {"root": new.to_dict()})
            session.answer(adopted, show_keys)
            _show_new_keys(session, new_keys)
            return
    _write(out, new)
    _show_new_keys(session, new_keys)
    _answer_file(session, out, current, new)


def _show_new_keys(session: Session, new_keys: Collection[Path]) -> None:
    """Prints where the new root keys are, if any were made, as `keys init` does."""
    if new_keys and not session.json:
        click.echo(_("new root keys, take them off this host now:"))
        for path in new_keys:
            click.echo(f"  {path}")


def _answer_file(session: Session, file: Path, current: Metadata[Root], new: Metadata[Root]) -> None:
    """Prints what the file with the next root lacks, and the next step."""
    from blocklistd.signing.ceremony import missing_signatures

    missing = missing_signatures(current, new)
    document = {"file": str(file), "version": new.signed.version, "complete": not missing, "missing": missing}

    def show(document: object) -> None:
        if missing:
            rest = "; ".join(map(known, missing))
            named = {"file": file, "version": new.signed.version, "missing": rest}
            click.echo(_("{file}: version {version} of root.json has {missing}", **named))
            click.echo(_("next holder: blocklistd keys sign {file} --root root.json --root-key KEY", file=file))
        else:
            click.echo(_("{file}: complete; at the publisher: blocklistd keys adopt {file}", file=file))

    session.answer(document, show)


def _new_root_keys(folder: Path | None, count: int) -> dict[Path, CryptoSigner]:
    """New root keys and the files for them; none without a folder."""
    from securesystemslib.signer import CryptoSigner

    from blocklistd.signing.keys import require_absent, root_key_files

    if folder is None:
        return {}
    files = root_key_files(folder, count)
    require_absent(*files)
    return {path: CryptoSigner.generate_ed25519() for path in files}


def _open(name: str) -> Signer:
    """Opens a root key: a file, or the signer URI of a token. Raises SigningError, Failed."""
    from blocklistd.signing.pem import open_token, read_private_key

    return open_token(name, passphrase_of) if name.startswith("hsm:") else read_private_key(Path(name), passphrase_of)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}: expected a key in PEM") from None


def _write(path: Path, root: Metadata[Root]) -> None:
    """Replaces a file by a root.json, completely or not at all. Raises Failed."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_bytes(root.to_bytes())
        new.replace(path)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}: the signatures were not written") from None
