"""Catalogs: every text has a translation, and nothing that a person reads stays English."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from rich.cells import cell_len

from blocklistd import cli
from blocklistd.daemon.commands import COMMANDS
from blocklistd.language import Language, language_of
from blocklistd.language.context import speaking
from blocklistd.language.forms import FORMS
from blocklistd.language.messages import CONTEXT, KnownMessages, places
from blocklistd.language.po import PoEntry, read_po
from tests.catalogs import CATALOGS, commands, entries

OTHERS: Final = ("fr", "de")
SOURCE: Final = entries()


def catalog(code: str) -> list[PoEntry]:
    """The entries of a catalog without its header."""
    return read_po((CATALOGS / f"{code}.po").read_text(encoding="utf-8"))[1:]


# -- completeness ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", OTHERS)
def test_every_text_has_a_translation(code: str) -> None:
    found = {one.key: one for one in catalog(code)}
    missing = [one.key for one in SOURCE if one.key not in found]
    unused = sorted(found.keys() - {one.key for one in SOURCE})
    not_translated = [one.key for one in found.values() if one.is_fuzzy or not all(one.translations)]
    assert not missing, "run `make catalogs`, then translate:\n" + "\n".join(map(repr, missing))
    assert not unused, "run `make catalogs`:\n" + "\n".join(map(repr, unused))
    assert not not_translated, f"translate in {code}.po:\n" + "\n".join(map(repr, not_translated))


@pytest.mark.parametrize("code", OTHERS)
def test_a_translation_has_the_values_of_its_text(code: str) -> None:
    wrong = []
    for one in catalog(code):
        assert len(one.translations) == (2 if one.plural else 1), one.message
        for number, made in enumerate(one.translations):
            text = one.plural if one.plural and number else one.message
            same = {
                "values": (sorted(set(places(text))), sorted(set(places(made)))),
                "commands": (sorted(re.findall("`([^`]*)`", text)), sorted(re.findall("`([^`]*)`", made))),
                "end": (text[-1:] in " \n", made[-1:] in " \n"),
            }
            wrong += [(what, text, made) for what, (before, after) in same.items() if before != after]
    assert not wrong, "correct the translation:\n" + "\n".join(map(repr, wrong))


def filled(template: str, values: dict[str, str]) -> str:
    """A template with its values."""
    return re.sub(r"\{([a-z_][a-z_0-9]*)\}", lambda place: values[place[1]], template)


@pytest.mark.parametrize("code", OTHERS)
def test_each_message_is_recognised_as_its_own_template(code: str) -> None:
    language, wrong = language_of(code), []
    for one in catalog(code):
        values = {name: f"<{number}>" for number, name in enumerate(places(one.message))}
        message = filled(one.message, values)
        if one.context == CONTEXT and language.message(message) != filled(one.translations[0], values):
            wrong.append((one.message, language.message(message)))
    assert not wrong, "another template fits this message, too:\n" + "\n".join(map(repr, wrong))


# -- nothing stays English ---------------------------------------------------------------------------------------------
LETTERS: Final = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "αβψδεφγηιξκλμνοπχρστυθωζυςΑΒΨΔΕΦΓΗΙΞΚΛΜΝΟΠΧΡΣΤΥΘΩΖΥΣ"
)


def pseudo(text: str) -> str:
    """A text in a language that no one speaks, of the same length: values and what is in backquotes stay."""
    parts = re.split(r"(\{[a-z_0-9]+\}|`[^`]*`)", text)
    return "".join(part if number % 2 else part.translate(LETTERS) for number, part in enumerate(parts))


class Pseudo(gettext.NullTranslations):
    """Translates every text of the catalogs."""

    known = frozenset(one.message for one in SOURCE if not one.context)

    def gettext(self, message: str) -> str:
        return pseudo(message) if message in self.known else message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return pseudo(msgid1 if n == 1 else msgid2) if msgid1 in self.known else msgid1


PSEUDO: Final = Language(
    "xx",
    Pseudo(),
    KnownMessages((one.message, pseudo(one.message)) for one in SOURCE if one.context == CONTEXT),
    FORMS["en"],
)


def english(text: str) -> set[str]:
    """The words that were not translated. Those in backquotes, options, file names and upper case are none."""
    text = re.sub(r"`[^`]*`|(?<!\w)--?[a-z-]+|\S*[/_.…]\S*|[\[{][a-z|-]+[\]}]|<[a-z]+>", " ", text)
    return set(re.findall(r"\b[A-Za-z]?[a-z]{2,}\b", text))


@pytest.fixture
def in_pseudo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cli, "language_for", lambda *_: PSEUDO)
    with speaking(PSEUDO):
        yield


def test_the_help_of_every_command_is_translated(in_pseudo: None, capsys: pytest.CaptureFixture[str]) -> None:
    left = {}
    for name, _command in commands():
        assert cli.run([*name.split(), "--help"]) == 0
        words = {word for line, _ in commands() for word in re.split("[ -]", line)}
        shown = capsys.readouterr().out
        assert "Οπτιονσ" in shown
        if found := english(shown) - words - {"blocklistd"}:
            left[name] = found
    assert not left


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["--nothing"],
        ["candidate", "show"],
        ["candidate", "reject", "C-1"],
        ["entry", "delist", "L", "--why", "W"],
        ["list", "diff", "L", "1", "X"],
        ["list", "report", "L", "--from", "2026-13-01", "--to", "2026-11-20"],
        ["list", "report", "L", "--from", "2026-11-01", "--to", "2026-11-20", "--csv", "--svg"],
        ["subscriber", "add", "I", "--software", "bind"],
        ["keys", "rotate", "online", "--threshold", "2"],
        ["keys", "sign", "F", "--root", "R"],
        ["sync", "U", "L", "--dir", "D"],
        ["sync", "U", "L", "--root", "R", "--dir", "D", "--exec-timeout", "1"],
        ["status", "-c", "/NONE"],
    ],
)
def test_errors_are_translated(
    in_pseudo: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) in (1, 2, 3)
    text = capsys.readouterr().err
    assert not english(text) - {"blocklistd", *" ".join(arguments).split(), "bind", "document"}, text


T: Final = "2026-11-20T12:00:00Z"
CANDIDATE: Final[dict[str, Any]] = {
    **{"id": "C-1", "list": "L", "kind": "source", "cause": "S", "source": "S", "created": T, "base": 3},
    **{"added": 5, "removed": 700, "changed": 2, "entries": 300, "state": "held", "why": "W", "version": None},
    **{"reasons": [{"guard": "G", "limit": "10%", "found": "70%"}], "approvals": ["U"], "same_change": ["C-2"]},
    **{"missing": 1, "brought_by": "U", "decisions": [{"user": "U", "time": T, "approve": True, "excepted": ["E"]}]},
    **{"by_source": {}, "categories": {}, "suffixes": {"ORG": {"added": 1, "removed": 2, "changed": 3}}},
    **{"withheld": {"R": 1}, "hits": {"R": ["E"] * 30}, "trend": []},
}
SOURCE_ROW: Final[dict[str, Any]] = {
    **{"outcome": "held", "reason": "the body is at 5", "last_pull": T, "last_accepted": T, "age": 300000},
    **{"overdue": True, "frozen": True, "quarantine": True, "verify": "V", "distrusted": [{"key": "0" * 64}]},
    **{"next_in": 90, "next_pull": T, "entries": 5, "records": 6, "rejected": {"R": 2}, "withheld": {"R": 1}},
    **{"history": [{"time": T, "seconds": 0.5, "outcome": "published", "records": 3, "reason": None}]},
    "lists": {"L": {"withheld": {"R": 2}}},
}
NODE: Final[dict[str, Any]] = {
    **{"node": "N", "list": "L", "version": 3, "state": "failed", "reported": T, "reason": "R", "lag": 700},
    **{"probe": "resolves", "seen": T, "late": True, "silent": True},
}
SECONDARY: Final = {"address": "A", "serial": 3, "sent": 4, "lag": 700, "seen": T, "late": True, "silent": True}
STATUS: Final[dict[str, Any]] = {
    "lists": {
        "L": {
            **{"version": 7, "entries": 20000, "published": T, "withheld": {"R": 3}},
            **{"frozen": {"since": T, "user": "U", "why": "W"}, "due": {"total": 2, "since": T}},
            "exceptions": {"in_force": 2, "next_end": T},
            "policy_rejected": {"keys": ["K"], "user": "U", "candidate": "C-1", "why": "W"},
        }
    },
    "zones": {"Z": {"serial": 5, "records": 4, "covered": 2, "omitted": 1}},
    "sources": {"S": SOURCE_ROW | {"reason": "R"}},
    "candidates": [CANDIDATE],
    "subscribers": {
        "I": {
            **{"revoked": None, "seen": T, "lists": {"L": {"version": 7}}, "wide": ["192.0.2.0/24"], "unsigned": True},
            **{"zones": {"Z": {"serial": 5, "secondaries": [SECONDARY]}}, "nodes": [NODE]},
            **{"catalog": {"name": "Z", "serial": 2}},
            "old_keys": [{"name": "K", "until": T, "used": T, "secondaries": ["A"]}],
            "old_tokens": [{"until": T, "used": None}],
        }
    },
    "root": {"version": 2, "expires": T, "days_left": 3},
    "alarms": [],
    "undelivered": [{"way": "W", "alarm": "A", "subject": "S", "state": "raised", "tries": 2, "reason": None}],
}
EXPLAINED: Final[dict[str, Any]] = {
    **{"list": "L", "id": "E", "type": "T", "live": True, "since": T, "why_not": None, "test": True, "known_from": 3},
    **{"sources": [{"source": "S", "ref": "R", "since": T, "expires": T, "state": "quarantine"}], "excepted": None},
    "versions": [{"added_in": 1, "added": T, "removed_in": 2, "removed": T}] * 12,
    "lifetime": {"term": "T", "since": T, "ends": T, "due": True},
    "kept": {"user": "U", "since": T, "why": "W"},
    "delisted": {"user": "U", "since": T, "until": T, "owner": "O", "why": "W"},
    **{"embargo": None, "covered_by": ["E"], "held": [{"candidate": "C", "change": "added", "guards": ["G"]}]},
}
REPORT: Final[dict[str, Any]] = {
    **{"list": "L", "from": "2026-11-01", "to": "2026-11-20", "figures_since": T, "year_before": None, "step": "day"},
    "total": {"added": 1, "removed": 2, "expired": 3, "corrected": 4, "live": 5, "median_life_days": 2.5},
    **{"categories": {}, "sources": {}},
}
CORRECTION: Final[dict[str, Any]] = {
    **{"entry": "E", "type": "T", "kind": "embargoed", "since": T, "until": T, "user": "U", "owner": "O"},
    **{"candidate": "C-1", "why": "W"},
}
OUTPUTS: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "status": (STATUS, {}),
    "source list": ({"S": SOURCE_ROW | {"reason": "R"}}, {}),
    "source show": (SOURCE_ROW | {"reason": "R"}, {}),
    "source pull": (
        {"source": "S", "outcome": "published", "versions": {"L": 1}, "records": 1, "entries": 1, "rejected": {}},
        {},
    ),
    "candidate list": ([CANDIDATE], {}),
    "candidate approve": ({"id": "C", "missing": 1, "candidate": None, "released": False}, {}),
    "candidate reject": ({"id": "C"}, {}),
    "entry explain": (EXPLAINED | {"others": [EXPLAINED | {"others": []}]}, {}),
    "entry corrections": ([CORRECTION], {}),
    "entry delist": (
        {
            **{"list": "L", "kind": "delisted", "version": 3, "until": T},
            "entries": [{"id": "E", "type": "T", "live": False, "covered_by": ["E"]}],
        },
        {},
    ),
    "entry restore": (
        {"list": "L", "outcome": "published", "version": 3, "entries": [{"id": "E", "type": "T", "kind": "delisted"}]},
        {},
    ),
    "list versions": (
        [{"version": 1, "time": T, "entries": 1, "added": 1, "removed": 0, "kind": "source", "released_by": "U"}],
        {},
    ),
    "list resume": ({"list": "L", "version": 3}, {}),
    "list report": (REPORT, {"svg": False, "csv": False}),
    "list withheld": ({"list": "L", "version": 2, "withheld": None, "hits": {}, "rolled_back": True}, {}),
    "subscriber revoke": ({"id": "I"}, {}),
    "reload": ({"errors": [], "changed": []}, {}),
    "start-above": ({"above": 5}, {}),
    "audit verify": ({"wrong": None, "lines": 2, "hash": "H"}, {}),
    "alarms test": ({"results": [{"way": "W", "delivered": True}]}, {}),
    "keys adopt": (
        {
            "root": {"version": 1, "expires": T, "days_left": 1, "threshold": 1, "keys": ["K"]},
            **{"online": {"keyid": "K", "scheme": "S", "place": "P"}, "todo": None},
        },
        {},
    ),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_results_are_translated(in_pseudo: None, capsys: pytest.CaptureFixture[str], name: str) -> None:
    document, values = OUTPUTS[name]
    COMMANDS[name].show(document, values)
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert text
    assert not english(text), text
    assert not re.findall(r"\b[A-Z]{4,}\b", text), text


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("name", ["status", "source list", "candidate list", "list versions", "list report"])
def test_tables_fit_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, code: str
) -> None:
    monkeypatch.setattr("os.isatty", lambda number: True)
    monkeypatch.setenv("COLUMNS", "80")
    document, values = OUTPUTS[name]
    with speaking(language_of(code)):
        COMMANDS[name].show(document, values)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert max(map(cell_len, lines)) <= 80, [line for line in lines if cell_len(line) > 80]
