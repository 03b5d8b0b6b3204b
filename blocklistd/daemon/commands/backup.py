"""`backup`: the daemon sends the backup; the command line writes the file, and reads it back."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from blocklistd.daemon.commands.command import ADMIN, Argument, Command, Document, Exit, Sent, Values, word, yes_or_no
from blocklistd.errors import RefusedError, StoreError, store_errors
from blocklistd.language.context import _

_CHUNK: Final = 1 << 18  # bytes of the response that are read at once
_JSON: Final = """\
`{"file","id","made","bytes","files","versions":{LIST:N},"serials":{ZONE:N},"evidence","bases":[FILE…]}`.

- `files`: those whose bytes are in this file. `bases`: the files that have the others.
- `versions`, `serials`: the newest in the backup."""


def _check(values: Values) -> Exit | None:
    path = Path(values["file"])
    if os.path.lexists(path):
        return Exit(1, f"{path} exists, and is not overwritten: name a new file")
    if values["base"] is not None and Path(values["base"]).parent.resolve() != path.parent.resolve():
        return Exit(
            1, f"{path}: expected a file in the folder of its base {values['base']}: a restore looks for it there"
        )
    return None


def _prepare(values: Values, sent: Values) -> Sent:
    """Reads the list of files in the base. Raises StoreError if the base is no backup."""
    if values["base"] is None:
        return Sent(sent)
    import orjson

    from blocklistd.store.backup_file import opened_alone
    from blocklistd.store.backup_format import known_of

    with opened_alone(Path(values["base"])) as base:
        known = orjson.dumps(known_of(base.manifest, base.id))
    return Sent(sent, io.BufferedReader(io.BytesIO(known)))


def _write(response: Any, values: Values) -> None:
    """Writes the response to the file, reads it back, and prints what it contains. A file that is not complete and
    intact is removed."""
    from blocklistd.store.backup_file import opened
    from blocklistd.store.files import Disk, drop_file_from_page_cache
    from blocklistd.times import rfc3339

    path = Path(values["file"])
    with _new_file(path) as (draft, file):
        with store_errors(path):
            size = 0
            while chunk := response.read(_CHUNK):
                size += len(chunk)
                Disk().write(file, chunk)
            os.fsync(file.fileno())
        if response.length:
            raise RefusedError(f"{path}: not all bytes arrived: make the backup again")
        drop_file_from_page_cache(draft)  # so that the disk is read
        with opened(draft) as backup:
            backup.check()
            document = {
                "file": str(path),
                "id": backup.newest.id,
                "made": rfc3339(backup.manifest.made),
                "bytes": size,
                "files": sum(one.base is None for one in backup.manifest.members),
                "versions": backup.manifest.versions,
                "serials": backup.manifest.serials,
                "evidence": backup.manifest.evidence,
                "bases": sorted(str(base.path) for base in backup.bases.values()),
            }
    if values["json"]:
        import orjson

        click.echo(orjson.dumps(document).decode())
    else:
        _show(document)


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file of mode 0600 beside `path`, which gets that name if the block ends without an error. Raises
    StoreError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with store_errors(path):
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except StoreError as error:
        if isinstance(error.__cause__, PermissionError | FileNotFoundError):
            raise RefusedError(
                f"{path}: {error.__cause__.strerror}: name a file in a folder that you can write"
            ) from None
        raise
    try:
        with open(descriptor, "wb", buffering=0) as file:
            yield draft, file
        with store_errors(path):
            draft.rename(path)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _show(made: Document) -> None:
    where, seconds = made["file"], made["made"]
    lists = ", ".join(f"{name} {number}" for name, number in made["versions"].items()) or _("no list")
    click.echo(_("{file}: written, and read back without a fault: {bytes} bytes", file=where, bytes=made["bytes"]))
    click.echo(_("id {id}, made {time}: {lists}", id=made["id"][:16], time=seconds, lists=lists))
    if made["evidence"]:
        click.echo(_("the evidence is in it"))
    else:
        click.echo(_("the evidence is not in it: --evidence puts it in"))
    for base in made["bases"]:
        click.echo(_("needs {file}", file=base))
    click.echo(_("the online key and the configuration are not in it: keep copies of both elsewhere"))


COMMANDS: Final = (
    Command(
        "backup",
        "Write the state to a new file, while the daemon runs, and read it back. The file has the mode 0600 and is not "
        "encrypted. It contains all entries and the TSIG keys, but no private key.",
        ADMIN,
        lambda daemon, call: daemon.backups.send(call.upload, call.act, evidence=call["evidence"]),
        _write,
        (
            Argument("file", metavar="FILE", read=word, local=True),
            Argument(
                "base",
                "Leave to this earlier backup what it has already. A restore needs both, in one folder.",
                "--base",
                "EARLIER",
                word,
                local=True,
            ),
            Argument(
                "evidence", "Back up the kept bodies too.", "--evidence", read=yes_or_no, flag=True, default=False
            ),
        ),
        copied=True,
        audited=True,
        uploads=True,
        json=_JSON,
        check=_check,
        prepare=_prepare,
    ),
)
