"""Makes the manual pages from the commands: `python -m blocklistd.cli.manual blocklistd.1 > blocklistd.1`.

blocklistd.yaml.5 contains the commented example, which is read from stdin. The pages use the macros of man(7).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Final

import click

from blocklistd import __version__
from blocklistd.cli.common import DEFAULT_CONFIG
from blocklistd.cli.reference import commands, meaning, own_options, summary, takes, usage, who
from blocklistd.cli.sync import command as sync

EXIT: Final = {
    "0": "Done.",
    "1": "Refused or failed. The last line on stderr says why, and what to do.",
    "2": "Wrong usage or configuration.",
    "3": "The daemon is not reachable.",
    "4": "Held for review.",
}
SYNC_EXIT: Final = {
    "0": "The copy is the newest version, and --exec and --probe succeeded.",
    "1": "It is not, or they did not. The copy stays in use; stderr has the reason.",
    "2": "Wrong usage.",
}
COMMON: Final = {
    "-c, --config FILE": f"The configuration file. The default is $BLOCKLISTD_CONFIG, or {DEFAULT_CONFIG}.",
    "--json": "Print one JSON document on stdout.",
    "-h, --help": "Print the usage of the command.",
}
DOCUMENTS: Final = "/usr/share/doc"
LONG: Final = 40
"""Characters of a word from which on it may be broken after its punctuation."""


def escape(text: str) -> str:
    """A text in the language of roff(7). `code` becomes bold."""
    return re.sub(r"\\\(ga([^`\n]+?)\\\(ga", r"\\fB\1\\fR", verbatim(text))


def verbatim(text: str) -> str:
    """A text as roff(7) shows it unchanged."""
    for plain, name in (("\\", "e"), ("-", "-"), ("'", "(aq"), ("`", "(ga"), ("^", "(ha"), ("~", "(ti")):
        text = text.replace(plain, f"\\{name}")
    text = re.sub(rf"\S{{{LONG},}}", lambda word: re.sub(r"([,{|])(?=.)", r"\1\\:", word[0]), text)
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return re.sub(r"^\.", r"\\&.", text, flags=re.M)


def _head(name: str, section: int, purpose: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" {section} "" "blocklistd {__version__}"'
    yield from (".nh", ".ad l", ".SH NAME", f"{name} \\- {escape(purpose)}")


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, which an empty line ends; lines that begin with `- ` are the items of a list."""
    for paragraph in text.split("\n\n"):
        first, *items = re.split(r"^- ", paragraph, flags=re.M)
        for macro, part in ((".PP", first), *((".IP \\(bu 2", item) for item in items)):
            if part.strip():
                yield from (macro, escape(re.sub(r"\s+", " ", part).strip()))


def _tagged(terms: dict[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield from (".TP", f"\\fB{escape(term)}\\fR", escape(text))


def _options(command: click.Command) -> dict[str, str]:
    return {", ".join(one.opts) + f" {takes(one)}".rstrip(): meaning(one) for one in own_options(command)}


def blocklistd(_: str) -> Iterator[str]:
    """The page of the program, with a section for each command."""
    yield from _head("blocklistd", 1, "takes blocklists from hotlines and delivers them to providers")
    yield from (".SH SYNOPSIS", ".B blocklistd", "\\fICOMMAND\\fR [\\fIARGUMENT\\fR ...] [\\fIOPTION\\fR ...]")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(
        "blocklistd pulls blocklists from hotlines, verifies, reviews and signs them, and serves them to those who "
        "block, over HTTPS and DNS. `blocklistd serve` is the daemon; the other commands talk to it, or need none.\n\n"
        f"{DEFAULT_CONFIG} gives roles to users, under control.operators. A user with any of the roles of a command "
        "may run it. An audited command writes a line that `blocklistd audit` shows."
    )
    yield from (".SH OPTIONS", "Every command takes these:", *_tagged(COMMON), ".SH COMMANDS")
    for name, command in commands():
        yield f".SS {escape(usage(name, command))}"
        yield from _paragraphs(f"{summary(name, command)}\n\n{who(name)}")
        yield from _tagged(_options(command))
    yield from (".SH EXIT STATUS", *_tagged(EXIT), ".SH FILES")
    yield from _tagged(
        {
            DEFAULT_CONFIG: "The configuration, see blocklistd.yaml(5).",
            "/var/lib/blocklistd": "The state: database, versions, evidence. Back it up.",
            "/run/blocklistd": "The sockets for the commands.",
            f"{DOCUMENTS}/blocklistd": "The guides; operator.md is the one to begin with.",
        }
    )
    yield from (".SH SEE ALSO", ".BR blocklistd.yaml (5),", ".BR blocklistd\\-sync (1)")


def blocklistd_sync(_: str) -> Iterator[str]:
    """The page of the client alone."""
    yield from _head("blocklistd-sync", 1, "keeps a verified copy of a blocklist, as a subscriber")
    yield from (".SH SYNOPSIS", ".B blocklistd\\-sync", f"{escape(usage('', sync))} [\\fIOPTION\\fR ...]")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(
        "Fetches a list and keeps it up to date: first the snapshot, then diffs, all verified against the TUF "
        "metadata. Whatever fails, the last good copy stays in use. It is the command `blocklistd sync` without the "
        "daemon."
    )
    yield from (
        ".SH OPTIONS",
        *_tagged(_options(sync) | {"--json": COMMON["--json"], "-h, --help": COMMON["-h, --help"]}),
    )
    yield from (".SH EXIT STATUS", *_tagged(SYNC_EXIT), ".SH FILES")
    yield from _tagged(
        {
            "/etc/blocklistd-sync/LIST.env": "FEED and OPTIONS of the service blocklistd-sync@LIST.",
            "/etc/blocklistd-sync/root.json": "The trusted root, from the publisher.",
            "/etc/blocklistd-sync/token": "The subscriber's token. Only root needs to read it.",
            "/var/lib/blocklistd-sync/LIST": "The copy of the list.",
            f"{DOCUMENTS}/blocklistd-sync/sync.md": "The guide.",
        }
    )
    yield from (".SH SEE ALSO", ".BR systemctl (1)")


def blocklistd_yaml(example: str) -> Iterator[str]:
    """The page of the configuration: the commented example, as it is."""
    yield from _head("blocklistd.yaml", 5, "the configuration of blocklistd")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(
        f"{DEFAULT_CONFIG} is the one file of configuration. `blocklistd check-config` prints every error in it; "
        "`systemctl reload blocklistd` applies it, and a file with errors changes nothing. Below is the example, which "
        "explains every key."
    )
    yield from (".SH EXAMPLE", ".nf", *verbatim(example).splitlines(), ".fi")
    yield from (".SH SEE ALSO", ".BR blocklistd (1)")


PAGES: Final[dict[str, Callable[[str], Iterator[str]]]] = {
    "blocklistd.1": blocklistd,
    "blocklistd-sync.1": blocklistd_sync,
    "blocklistd.yaml.5": blocklistd_yaml,
}


def page(name: str, example: str = "") -> str:
    """The source of a manual page. `example`: the configuration in blocklistd.yaml.5."""
    return "\n".join(PAGES[name](example)) + "\n"


if __name__ == "__main__":
    click.echo(page(sys.argv[1], "" if sys.stdin.isatty() else sys.stdin.read()), nl=False)
