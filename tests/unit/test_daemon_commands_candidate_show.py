"""What `candidate show` prints for a person."""

from __future__ import annotations

import orjson
import pytest

from blocklistd.daemon.commands.candidate_show import bars, entry_line


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([5], "▄"), ([5, 5], "▄▄"), ([0, 7], "▁█"), ([10, 11, 12, 13, 14, 15, 16, 17], "▁▂▃▄▅▆▇█"), ([0, 1, 1000], "▁▁█")],
)
def test_a_bar_for_each_number(numbers: list[int], expected: str) -> None:
    assert bars(numbers) == expected


def test_the_line_of_an_entry_has_its_id_type_value_and_attributes() -> None:
    entry = {"type": "host", "value": "bad.test", "id": "e-1"}
    assert entry_line(orjson.dumps({"add": entry})) == "+ e-1 host bad.test"
    more = entry_line(orjson.dumps({"remove": entry | {"category": "abuse"}}))
    assert more == '- e-1 host bad.test {"category": "abuse"}'


def test_no_text_of_an_entry_controls_the_terminal() -> None:
    entry = {"type": "url", "value": "https://bad.test/\x1b[2J\u202e", "id": "e-1", "category": "\x1b]0;x\x07"}
    assert entry_line(orjson.dumps({"add": entry})).isascii()
    assert entry_line(orjson.dumps({"add": entry})).isprintable()
