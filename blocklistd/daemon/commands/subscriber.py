"""`subscriber add | set | list | show | rotate | revoke`."""

from __future__ import annotations

from typing import Final

import click

from blocklistd.daemon.commands.command import (
    EDITOR,
    OPERATOR,
    Argument,
    Command,
    Exit,
    Values,
    word,
    yes_or_no,
)
from blocklistd.daemon.commands.moments import duration, grace, objective
from blocklistd.daemon.commands.subscriber_text import (
    show_added,
    show_changed,
    show_list,
    show_one,
    show_rotated,
)
from blocklistd.daemon.profiles.versions import LISTS_ONLY, VERSIONS, software
from blocklistd.language.context import _

SUBSCRIBER: Final = Argument("id", metavar="ID", read=word)


_NAMES: Final = ", ".join(VERSIONS)


def _software(value: object) -> str:
    """Reads the value of --software: NAME or NAME:VERSION. Raises RefusedError."""
    software(word(value))
    return str(value)


def _check_software(values: Values) -> Exit | None:
    """Refuses a --software that contradicts other options, before the subscriber is registered."""
    given = values["software"]
    if not given:
        return None
    if software(given).name == LISTS_ONLY:
        return None if values["lists"] else Exit(2, f"--software {given} reads lists only: add --list LIST")
    if not values["zones"]:
        return Exit(2, "--software needs a zone: add --zone ZONE")
    if software(given).name == "unbound" and not values["address"]:
        return Exit(2, "Unbound can't use TSIG: add its address with --address")
    return None


WIDE: Final = Argument(
    "wide",
    "Allow an --address prefix shorter than /24 (IPv6: /48).",
    "--wide",
    read=yes_or_no,
    flag=True,
    default=False,
)


def _software_argument(help_text: str) -> Argument:
    """The option --software. The help text has a placeholder for the names of the programs."""
    return Argument("software", help_text.format(_NAMES), "--software", "NAME[:VERSION]", _software)


OBJECTIVE: Final = Argument(
    "objective",
    "The time in which each version is to be live at each node, like 6h or 30m; `off`: none. A node that takes longer "
    "is late: see `subscriber report`.",
    "--objective",
    "DURATION",
    objective,
)


def _changes(what: str, metavar: str, granted: str) -> tuple[Argument, Argument]:
    """The options --add-… and --remove-…, which may be repeated."""
    return (
        Argument(f"add_{what}", f"Grant {granted}; may be repeated.", f"--add-{what}", metavar, word, many=True),
        Argument(
            f"remove_{what}", f"Withdraw {granted}; may be repeated.", f"--remove-{what}", metavar, word, many=True
        ),
    )


COMMANDS: Final = (
    Command(
        "subscriber add",
        "Register a subscriber. Prints its token, its TSIG key and the configuration to paste, once.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.add(call.values, call.act),
        show_added,
        (
            SUBSCRIBER,
            Argument("lists", "Grant this list; may be repeated.", "--list", "LIST", word, many=True),
            Argument("zones", "Grant this zone; may be repeated.", "--zone", "ZONE", word, many=True),
            Argument(
                "notify",
                "Send NOTIFY for each new serial to this secondary; may be repeated.",
                "--notify",
                "ADDRESS:PORT",
                word,
                many=True,
            ),
            Argument(
                "address",
                "Allow unsigned transfers to these addresses (Unbound can't use TSIG); may be repeated.",
                "--address",
                "PREFIX",
                word,
                many=True,
            ),
            Argument(
                "cert",
                "Identify the subscriber on TLS, at the feed too, by the public key (SPKI) of this client certificate; "
                "may be repeated.",
                "--cert",
                "sha256:HEX",
                word,
                many=True,
            ),
            WIDE,
            Argument(
                "own_names",
                "A name of the subscriber's own services, which no list may block; may be repeated.",
                "--own-name",
                "NAME",
                word,
                many=True,
            ),
            Argument(
                "algorithm",
                "Algorithm of the TSIG key: hmac-sha256 or hmac-sha512 [hmac-sha256].",
                "--tsig-algorithm",
                "ALGORITHM",
                word,
                default="hmac-sha256",
            ),
            _software_argument("Print the configuration of {} [bind; with --address: unbound]."),
            OBJECTIVE,
        ),
        changes=True,
        check=_check_software,
    ),
    Command(
        "subscriber set",
        "Change what a subscriber has. Its catalog follows; transfers of what it no longer has end.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.change(call.values, call.act),
        show_changed,
        (
            SUBSCRIBER,
            *_changes("list", "LIST", "this list"),
            *_changes("zone", "ZONE", "this zone"),
            *_changes("notify", "ADDRESS:PORT", "NOTIFY to this secondary"),
            *_changes("address", "PREFIX", "unsigned transfers to these addresses"),
            *_changes("cert", "sha256:HEX", "the public key of this client certificate"),
            WIDE,
            _software_argument("The software of its name servers, whose configuration is printed: {}."),
            OBJECTIVE,
            Argument(
                "remove_node",
                "Forget this node, or the secondary with this address, which is gone; may be repeated.",
                "--remove-node",
                "NODE",
                word,
                many=True,
            ),
        ),
        changes=True,
    ),
    Command(
        "subscriber list",
        "List the subscribers with their lists and zones.",
        OPERATOR,
        lambda daemon, call: daemon.subscribers.list(),
        show_list,
    ),
    Command(
        "subscriber show",
        "Show one subscriber, its nodes' versions and its secondaries' serials.",
        OPERATOR,
        lambda daemon, call: daemon.subscribers.show(call["id"], call["software"]),
        show_one,
        (SUBSCRIBER, _software_argument("Print its configuration too: of {}.")),
    ),
    Command(
        "subscriber rotate",
        "Make a new token and a new TSIG key, and print them once. The old ones stay valid for a grace period.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.rotate(call["id"], duration(call["grace"]), call["software"], call.act),
        show_rotated,
        (
            SUBSCRIBER,
            Argument(
                "grace",
                "How long the old token and key stay valid; 0s ends them at once [7d].",
                "--grace",
                "DURATION",
                grace,
                default="7d",
            ),
            _software_argument("Print the configuration of {} [as registered]."),
        ),
        changes=True,
    ),
    Command(
        "subscriber revoke",
        "Revoke a subscriber. Its token and its TSIG key are refused at once.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.revoke(call["id"], call.act),
        lambda done, values: click.echo(_("{id}: revoked", id=done["id"])),
        (SUBSCRIBER,),
        changes=True,
    ),
)
