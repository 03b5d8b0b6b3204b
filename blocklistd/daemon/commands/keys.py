"""`keys show | adopt`, and `keys draft` for `keys rotate` and `keys renew` (cli/keys_ceremony.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from blocklistd.daemon.commands.command import (
    ADMIN,
    Argument,
    Command,
    Document,
    Sent,
    Values,
    choice,
    number,
    word,
    yes_or_no,
)
from blocklistd.daemon.commands.text import paragraph, table
from blocklistd.errors import RefusedError
from blocklistd.language.context import _, known, ngettext


def _show(keys: Document, values: Values) -> None:
    if values["root"]:  # byte for byte the file that `keys init` wrote: compact, keys sorted
        click.echo(json.dumps(keys, separators=(",", ":"), sort_keys=True), nl=False)
    else:
        show_keys(keys)


def show_keys(keys: Document) -> None:
    """Prints the document of `keys show`."""
    root, online = keys["root"], keys["online"]
    table(
        ("", ""),
        [
            ("root version", root["version"]),
            ("root expires", expiry(root)),
            *(("root key", key) for key in root["keys"]),
            ("threshold", _("{threshold} of {keys} root keys", threshold=root["threshold"], keys=len(root["keys"]))),
            ("online key", f"{online['keyid']} ({online['scheme']}, {online['place']})"),
        ],
    )
    if keys["todo"]:
        paragraph(known(keys["todo"]))


def expiry(root: Document) -> str:
    """When the root expires, and in how many days that is."""
    return ngettext("{time}, in {count} day", "{time}, in {count} days", root["days_left"], time=root["expires"])


def _root(value: object) -> object:
    """Reads the name of a file on the command line, and in the daemon the JSON object in it. Raises RefusedError."""
    if not isinstance(value, str | dict):
        raise RefusedError("expected a root.json")
    return value


def _read_root(values: Values, sent: Values) -> Sent:
    return Sent({"root": read_root_file(Path(values["root"]))})


def read_root_file(path: Path) -> Document:
    """The JSON object in a root.json. Raises RefusedError."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RefusedError(f"{path}: {error.strerror}: expected a root.json") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(f"{path}: no JSON object: expected a root.json")
    return found


COMMANDS: Final = (
    Command(
        "keys show",
        "Show the trusted root and the online key. Prints the root's version, expiry, keys and threshold, the key's id "
        "and place, and what is to do; with --root, root.json itself.",
        ADMIN,
        lambda daemon, call: daemon.keys.root() if call["root"] else daemon.keys.show(),
        _show,
        (
            Argument(
                "root",
                "Print root.json, the trusted root that subscribers start from.",
                "--root",
                read=yes_or_no,
                flag=True,
                default=False,
            ),
        ),
        json='`{"root":{"version","expires","days_left","threshold","keys":[ID…]},"online":{"keyid","scheme","place"},'
        '"todo"}`. `place`: `keys.online` or `keys.next`. `todo`: the next step, or null.',
    ),
    Command(
        "keys adopt",
        "Adopt the next root.json, once enough holders have signed it: FILE as `keys rotate`, `keys renew` and `keys "
        "sign` wrote it. Every list is signed and served again under it.",
        ADMIN,
        lambda daemon, call: daemon.keys.adopt(call["root"], call.act),
        lambda keys, values: show_keys(keys),
        (Argument("root", metavar="FILE", read=_root),),
        changes=True,
        prepare=_read_root,
        json="as `keys show`.",
    ),
    Command(
        "keys draft",
        "Make the next root.json, for `keys rotate` and `keys renew`.",
        ADMIN,
        lambda daemon, call: daemon.keys.draft(call),
        lambda document, values: None,
        (
            Argument("change", read=choice("online", "root", "none")),
            Argument("add_key", option="--add-key", many=True, read=word),
            Argument("remove_key", option="--remove-key", many=True, read=word),
            Argument("replace", option="--replace", flag=True, read=yes_or_no, default=False),
            Argument("threshold", option="--threshold", read=number),
            Argument("public_key", option="--public-key", read=word),
        ),
        changes=True,
        hidden=True,
    ),
)
