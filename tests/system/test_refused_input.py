"""What an attacker or a tired administrator types is refused with what was expected. It changes and reveals nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sim.hotline import HotlineThread
from tests.system.incident import Incident, domains

NAMES = domains(*(f"n{number}.example" for number in range(100)), "wrong.example")
WRONG = b"wrong.example"
WHY = ("--why", "ticket 31")
SECRET = "wrong"  # part of every text that must not come back


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incident]:
    folder = tmp_path_factory.mktemp("scene")
    with HotlineThread() as hotline:
        made = Incident(folder, hotline)
        made.daemon.config["lists"]["other"] = {"sources": ["hotline"]}
        made.daemon.write_config()
        made.begin(NAMES)
        yield made
        made.daemon.__exit__()


class State:
    """Everything that a command could change, as `status`, `entry corrections` and `audit` show it."""

    def __init__(self, scene: Incident) -> None:
        self.scene, self.logged = scene, len(scene.daemon.log)
        self.before = self.read()

    def read(self) -> tuple[object, ...]:
        asked = self.scene.daemon.ask
        lists = asked("status").json["lists"]
        versions = {name: (found["version"], found["entries"], found["withheld"]) for name, found in lists.items()}
        return versions, asked("entry corrections", list="national").json, len(asked("audit").json)

    def unchanged(self, text: str, secret: str = SECRET) -> None:
        assert secret not in text.lower()
        assert secret not in self.scene.daemon.log[self.logged :].lower()
        assert "Traceback" not in text
        assert self.read() == self.before


@pytest.fixture
def state(scene: Incident) -> State:
    return State(scene)


ONE_LINE = "expected one line with an entry, or with its id (e-…)"
IS_NO_ENTRY = "expected a URL, a name, an address or a hash as a hotline writes it, or an id (e-…)"
NO_ID = "expected e- and 32 hex digits in lower case"
LONG = "expected at most 8192 bytes"

TYPED = {
    "nothing": (b"", ONE_LINE),
    "blanks": (b"  \t \r\n\r\n ", ONE_LINE),
    "10 MB in a line": (WRONG * 800_000, LONG),
    "10 MB in lines": (b"wrong.example\n" * 800_000, LONG),
    "10 MB of NUL": (bytes(10_000_000), LONG),
    "a NUL": (b"wrong\0.example\n", IS_NO_ENTRY),
    "a NUL at the end": (b"wrong.example\0\n", IS_NO_ENTRY),
    "Latin-1": ("wröng.example".encode("latin-1") + WRONG, "is not UTF-8"),
    "UTF-16": (WRONG.decode().encode("utf-16"), "is not UTF-8"),
    "two lines": (b"wrong.example\nn1.example\n", "expected one entry: run the command once for each"),
    "two lines of DOS": (b"wrong.example\r\nn1.example\r\n", "expected one entry: run the command once for each"),
    "two lines of Unicode": ("wrong.example\u2028n1.example".encode(), ONE_LINE),
    "two words": (b"wrong.example n1.example", IS_NO_ENTRY),
    "a wildcard": (b"*.wrong.example", IS_NO_ENTRY),
    "a canonical line": (b'{"type":"domain","value":"wrong.example"}', IS_NO_ENTRY),
    "a regular expression": (b"^wrong\\.example$", IS_NO_ENTRY),
    "an option": (b"--wrong", "no source has asserted it"),
    "an escape": (b"\x1b]0;wrong.example\x07", IS_NO_ENTRY),
    "a part of an id": (b"e-0123456789abcdef", NO_ID),
    "an id in capitals": (b"E-0123456789ABCDEF0123456789ABCDEF", NO_ID),
    "the id of a candidate": (b"c-0123456789ab", NO_ID),
    "an id of nothing": (b"e-" + b"0" * 32, "check the id, or give the entry itself"),
    "a name of no list": (b"never-wrong.example", "no source has asserted it"),
    "a URL of a listed name": (b"https://wrong.example/x", "give that id if you mean it"),
    "a name below": (b"www.wrong.example", "no source has asserted it"),
}


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_typed_at_delist_is_no_entry_of_the_list(scene: Incident, state: State, typed: str) -> None:
    given, expected = TYPED[typed]
    text = scene.cli("entry", "delist", "national", "--stdin", *WHY, stdin=given, code=1)
    assert expected in text
    state.unchanged(text)


@pytest.mark.parametrize("command", ["restore", "release", "embargo"])
def test_the_other_commands_read_the_same(scene: Incident, state: State, command: str) -> None:
    more = ("--until", "7d", "--owner", "unit 4") if command == "embargo" else ()
    for typed in (
        "nothing",
        "a part of an id",
        "the id of a candidate",
        "10 MB in lines",
        "a NUL",
        "UTF-16",
        "two lines",
        "a wildcard",
        "an id of nothing",
    ):
        given, expected = TYPED[typed]
        text = scene.cli("entry", command, "national", "--stdin", *WHY, *more, stdin=given, code=1)
        assert expected in text
        state.unchanged(text)
    if command != "embargo":
        text = scene.cli("entry", command, "national", "--stdin", *WHY, stdin=WRONG, code=1)
        assert "nothing was changed: the entry is not" in text
        state.unchanged(text)


def test_an_id_of_another_list_is_no_id_of_this_one(scene: Incident, state: State) -> None:
    text = scene.cli("entry", "delist", "other", "--stdin", *WHY, stdin=WRONG)
    other = next(word for word in text.split() if word.startswith("e-"))
    state = State(scene)
    text = scene.cli("entry", "delist", "national", "--stdin", *WHY, stdin=other, code=1)
    assert "no entry of list national has the id" in text
    state.unchanged(text)
    scene.cli("entry", "restore", "other", "--stdin", *WHY, stdin=other)


@pytest.mark.parametrize(
    "typed",
    [
        b"  wrong.example\t\r\n",
        b"\r\n\nWRONG.Example.\n\n",
        "ｗｒｏｎｇ。ｅｘａｍｐｌｅ\n".encode(),
        b"\twrong.example",
    ],
)
def test_blanks_line_ends_capitals_and_wide_characters_name_the_same_entry(scene: Incident, typed: bytes) -> None:
    assert "is delisted" in scene.cli("entry", "delist", "national", "--stdin", *WHY, stdin=typed)
    text = scene.cli("entry", "restore", "national", "--stdin", *WHY, stdin=typed)
    assert "is not delisted any more" in text
    assert SECRET not in text


IN_A_LINE = "expected one line of text without control characters"
REASONS = {
    "": (2, IN_A_LINE),
    " \t ": (2, IN_A_LINE),
    "two\nlines": (2, IN_A_LINE),
    "an escape \x1b[31m": (2, IN_A_LINE),
    "right to left \u202e": (2, IN_A_LINE),
    "long " * 2_000: (2, "expected at most 500 characters, found 9999"),
    "see https://wrong.test/x": (1, "it contains a URL"),
    "see wrong.test/x": (1, "it contains a URL"),
    "see hxxps://wrong[.]test": (1, "it contains a URL"),
    "about wrong.example": (1, "name an entry by its id (e-…)"),
    "about WRONG[.]EXAMPLE.": (1, "name an entry by its id (e-…)"),
    "mail from x@www.wrong.example": (1, "name an entry by its id (e-…)"),
    "ｗｒｏｎｇ。ｅｘａｍｐｌｅ": (1, "name an entry by its id (e-…)"),
}


@pytest.mark.parametrize("why", REASONS)
def test_a_reason_is_one_line_and_names_no_entry(scene: Incident, state: State, why: str) -> None:
    code, expected = REASONS[why]
    text = scene.cli("entry", "delist", "national", "--stdin", "--why", why, stdin=WRONG, code=code)
    assert "--why" in text
    assert expected in text
    state.unchanged(text)
    for command in (("list", "freeze", "national"), ("list", "rollback", "national", "1")):
        text = scene.cli(*command, "--why", why, code=code)
        assert expected in text
        state.unchanged(text)
    text = scene.cli(
        *("entry", "embargo", "national", "--stdin", *WHY, "--until", "7d", "--owner", why), stdin=WRONG, code=code
    )
    assert "--owner" in text
    assert expected in text
    state.unchanged(text)


UNTIL = "expected a time like 2030-01-31T12:00:00Z, or how long from now, like 7d or 12h"
TIMES = {
    **dict.fromkeys(
        ("", "tomorrow", "2030-01-31T12:00:00", "2030-01-31", "2030-02-30T00:00:00Z", "7", "7w"), (2, UNTIL)
    ),
    **dict.fromkeys(("-7d", "7 d", "1e9d", "99999999d", "99999-01-01T00:00:00Z", "1893456000", "٧d"), (2, UNTIL)),
    "9999-12-31T23:59:59-14:00": (2, UNTIL),
    "0001-01-01T00:00:00+14:00": (2, UNTIL),
    "2020-01-01T00:00:00Z": (1, "2020-01-01T00:00:00Z has passed: give a time to come, or how long, like 7d"),
    "0d": (1, "has passed: give a time to come"),
}


@pytest.mark.parametrize("until", TIMES)
def test_an_end_is_a_time_to_come_with_a_zone(scene: Incident, state: State, until: str) -> None:
    code, expected = TIMES[until]
    for command in (("delist",), ("embargo", "--owner", "unit 4")):
        text = scene.cli(
            *("entry", command[0], "national", "--stdin", *WHY, "--until", until, *command[1:]), stdin=WRONG, code=code
        )
        assert "--until" in text
        assert expected in text
        state.unchanged(text)


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59Z", "999999d", "2099-12-31T23:59:59.5+14:00"])
def test_a_far_end_is_one(scene: Incident, until: str) -> None:
    scene.cli("entry", "delist", "national", "--stdin", *WHY, "--until", until, stdin=WRONG)
    assert "delisted" in scene.cli("entry", "corrections", "national")
    assert "released as" in scene.cli("entry", "restore", "national", "--stdin", *WHY, stdin=WRONG)


def test_an_embargo_is_not_shortened(scene: Incident) -> None:
    embargo = ("entry", "embargo", "national", "--stdin", *WHY, "--owner", "unit 4", "--until")
    scene.cli(*embargo, "7d", stdin=WRONG)
    state = State(scene)
    text = scene.cli(*embargo, "1d", stdin=WRONG, code=1)
    assert "is embargoed until" in text
    assert "run `blocklistd entry release`" in text
    state.unchanged(text)
    assert "embargoed" in scene.cli(*embargo, "8d", stdin=WRONG)
    assert "released as" in scene.cli("entry", "release", "national", "--stdin", *WHY, stdin=WRONG)


@pytest.mark.parametrize("words", [("approve",), ("show",), ("reject", *WHY)])
@pytest.mark.parametrize("given", ["wrong.example", "c-wrong", "../wrong", "c-000000000000", "", "wrong" * 10_000])
def test_a_candidate_that_is_none(scene: Incident, state: State, words: tuple[str, ...], given: str) -> None:
    text = scene.cli("candidate", words[0], given, *words[1:], code=1)
    assert "candidate list" in text
    state.unchanged(text)


@pytest.mark.parametrize("given", ["wrong.example", "e-wrong", "E-" + "0" * 32, "e-" + "0" * 31, "", "c-000000000000"])
def test_an_exception_that_is_no_id(scene: Incident, state: State, given: str) -> None:
    text = scene.cli("candidate", "approve", "c-000000000000", "--except", given, code=2)
    assert "--except" in text
    assert "expected" in text
    state.unchanged(text)


@pytest.mark.parametrize(
    ("version", "code", "expected"),
    [
        ("0", 2, "expected a whole number from 1"),
        ("wrong", 2, "expected a whole number from 1"),
        ("1.0", 2, "expected a whole number from 1"),
        ("9" * 19, 2, "expected a whole number from 1"),
        ("9" * 18, 1, "does not exist"),
    ],
)
def test_a_version_that_is_none(scene: Incident, state: State, version: str, code: int, expected: str) -> None:
    text = scene.cli("list", "rollback", "national", version, *WHY, code=code)
    assert expected in text
    state.unchanged(text)


def test_a_list_that_is_not_frozen_is_not_resumed_and_none_is_frozen_twice(scene: Incident) -> None:
    state = State(scene)
    text = scene.cli("list", "resume", "national", code=1)
    assert "not frozen" in text
    state.unchanged(text)
    scene.cli("list", "freeze", "national", *WHY)
    state = State(scene)
    text = scene.cli("list", "freeze", "national", "--why", "again", code=1)
    assert "list resume national" in text
    state.unchanged(text)
    scene.cli("list", "resume", "national")


def test_a_list_that_is_none(scene: Incident, state: State) -> None:
    for words in (
        ("entry", "corrections", "wrong.example"),
        ("list", "report", "wrong.example", "--from", "2026-01-01", "--to", "2026-01-02"),
        ("list", "versions", "wrong.example"),
        ("list", "diff", "wrong.example", "1", "2"),
        ("list", "freeze", "wrong.example", *WHY),
        ("list", "resume", "wrong.example"),
        ("list", "rollback", "wrong.example", "1", *WHY),
    ):
        text = scene.cli(*words, code=1)
        assert "there is no such list" in text
        state.unchanged(text)
    text = scene.cli("entry", "delist", "wrong.example", "--stdin", *WHY, stdin=WRONG, code=1)
    assert "there is no such list: run `blocklistd status`" in text
    state.unchanged(text)


DAY = "expected a date such as 2026-11-20 (YYYY-MM-DD)"
PERIODS = {
    ("2026-02-01", "2026-01-31"): "give the earlier date first",
    ("2026-02-30", "2026-03-01"): f"found 2026-02-30, which is no day of a calendar, {DAY}",
    ("2026-01-01T00:00:00Z", "2026-03-01"): DAY,
    ("0001-01-01", "0001-01-02"): "expected a date from 1971 on",
    ("9999-12-30", "9999-12-31"): "is in the future",
    ("yesterday", "today"): DAY,
    ("", ""): DAY,
    ("1990-01-01", "1990-12-31"): "figures",
}


@pytest.mark.parametrize("period", PERIODS)
def test_a_period_that_has_no_figures(scene: Incident, state: State, period: tuple[str, str]) -> None:
    code = 2 if "expected" in PERIODS[period] else 1
    text = scene.cli("list", "report", "national", "--from", period[0], "--to", period[1], code=code)
    assert PERIODS[period] in text
    state.unchanged(text)


BODIES: dict[str, dict[str, Any]] = {
    "a number": {"entry": 5},
    "a list": {"entry": ["wrong.example"]},
    "an object": {"entry": {"wrong": "wrong"}},
    "null": {"entry": None},
    "a lone surrogate": {"entry": "wrong\ud800.example"},
    "two lines": {"entry": "wrong.example\nn1.example"},
    "long": {"entry": "wrong" * 2_000},
    "no reason": {"why": None},
    "a reason that is a number": {"why": 7},
    "a reason with a NUL": {"why": "wrong\0"},
    "an unknown argument": {"wrong": 1},
    "an end that is a number": {"until": 7},
    "a list that is none": {"list": ["national"]},
}


@pytest.mark.parametrize("body", BODIES)
def test_a_program_that_speaks_to_the_socket(scene: Incident, state: State, body: str) -> None:
    arguments: dict[str, Any] = {"list": "national", "entry": "wrong.example", "why": "ticket 31"} | BODIES[body]
    answer = scene.daemon.ask("entry delist", **arguments)
    assert 400 <= answer.status < 500, answer.body
    state.unchanged(answer.json["detail"])


def test_nothing_that_was_typed_is_in_a_file_of_the_daemon(scene: Incident) -> None:
    """The last test of this module: what the others typed is in the sealed lists and nowhere else."""
    for path in Path(scene.folder / "state").rglob("*"):
        if path.is_file() and not {"sealed", "evidence", "renderings"} & set(path.parts):
            content = path.read_bytes()
            assert b"never-wrong" not in content, path
            assert b"www.wrong.example" not in content, path
