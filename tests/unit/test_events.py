"""The log events: every log call of the package names one, with exactly its fields."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklistd.events import Event

PACKAGE = Path(__file__).parents[2] / "blocklistd"
LOG_METHODS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log"}
OWN_KEYS = {"time", "level", "logger", "event", "message", "traceback"}
"""Keys of a JSON record that no field may have."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a method of the package, and where it is."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "log_event.py" or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def event_of(call: ast.Call) -> str | None:
    """The name of the event that a call logs."""
    found = re.fullmatch(r"Event\.([A-Z_]+)\.log", ast.unparse(call.func))
    return found[1] if found else None


def test_every_log_call_names_an_event() -> None:
    for where, call in calls():
        assert isinstance(call.func, ast.Attribute)
        owner = ast.unparse(call.func.value)
        if call.func.attr in LOG_METHODS and re.search(r"\b_?log(ger)?$|\blogging$|getLogger", owner):
            raise AssertionError(f"{where}: {ast.unparse(call)}: log an event of blocklistd.events")


def test_every_call_gives_the_fields_of_its_event() -> None:
    used = set()
    for where, call in calls():
        name = event_of(call)
        if name is None:
            continue
        assert [ast.unparse(argument) for argument in call.args] == ["log"], where
        given = {keyword.arg for keyword in call.keywords} - {"exc_info"}
        assert given == set(Event[name].fields), where
        used.add(name)
    assert used == {event.name for event in Event}, "events that nothing logs"


def test_an_event_is_referred_to_by_its_calls_only() -> None:
    """So that the test above sees every use."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        assert len(re.findall(r"\bEvent\.[A-Z_]+\b", text)) == len(re.findall(r"\bEvent\.[A-Z_]+\.log\(", text)), path


@pytest.mark.parametrize("event", Event, ids=lambda event: event.event_name)
def test_an_event_has_a_lasting_name_and_a_meaning(event: Event) -> None:
    assert re.fullmatch("[a-z]+(_[a-z]+)*", event.event_name)
    assert not OWN_KEYS & set(event.fields)
    assert event.meaning.endswith(".")
    assert len(event.fields) == len(set(event.fields))


def test_a_part_in_brackets_is_omitted_without_its_field(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("blocklistd.test")
    caplog.set_level(logging.INFO, "blocklistd")
    Event.ALARM_CLEARED.log(log, alarm="source_overdue", subject="hotline")
    Event.ALARM_CLEARED.log(log, alarm="clock", subject=None)
    Event.RELOADED.log(log, file="b.yaml", changed=[])
    Event.RELOADED.log(log, file="b.yaml", changed=["lists", "zones"])
    assert caplog.messages == [
        "alarm cleared: source_overdue hotline",
        "alarm cleared: clock",
        "reloaded b.yaml",
        "reloaded b.yaml: changed lists, zones",
    ]
    assert [record.__dict__["event"] for record in caplog.records] == ["alarm_cleared"] * 2 + ["reloaded"] * 2


def test_a_value_is_no_template(caplog: pytest.LogCaptureFixture) -> None:
    Event.PULL_FAILED.log(logging.getLogger("blocklistd.test"), source="a", verify=None, reason="100 % of {b} [c] %s")
    assert caplog.messages == ["source a: failed: 100 % of {b} [c] %s"]
