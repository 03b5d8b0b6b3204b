"""Languages: which one a person reads, its texts, and how it writes numbers and dates."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from blocklistd.language import ENGLISH, LANGUAGES, Language, accepted, from_environment, language_of
from blocklistd.language.context import _, in_force, known, ngettext, speaking
from blocklistd.language.forms import FORMS
from blocklistd.language.messages import KnownMessages
from blocklistd.language.po import read_po, translations_of

PO = r"""
msgid ""
msgstr ""
"Language: de\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#, python-brace-format
msgid "list {name}"
msgstr "Liste {name}"

msgid "one entry"
msgid_plural "{count} entries"
msgstr[0] "ein Eintrag"
msgstr[1] "{count} Einträge"

#, fuzzy
msgid "doubtful"
msgstr "zweifelhaft"

msgctxt "column"
msgid "BY"
msgstr "VON"

msgid ""
"two\n"
"lines"
msgstr "zwei\nZeilen"

msgid "open"
msgstr ""
"""


def german() -> Language:
    return Language("de", translations_of(read_po(PO)), KnownMessages(), FORMS["de"])


def test_a_catalog_is_read() -> None:
    language = german()
    assert language.text("list {name}", name="national") == "Liste national"
    assert language.text("two\nlines") == "zwei\nZeilen"
    assert language.plural("one entry", "{count} entries", 1) == "ein Eintrag"
    assert language.plural("one entry", "{count} entries", 3) == "3 Einträge"
    assert language.translations.pgettext("column", "BY") == "VON"


@pytest.mark.parametrize("text", ["doubtful", "open", "unknown", "", "{not} a template"])
def test_a_text_without_a_translation_stays_english(text: str) -> None:
    assert german().text(text) == text


@pytest.mark.parametrize("text", ['msgid "a', "msgid 5", 'message "a"', '"a"'])
def test_a_catalog_with_bad_syntax_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 2: expected"):
        read_po(f"\n{text}\n")


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_language_has_a_catalog(code: str) -> None:
    language = language_of(code)
    assert language.code == code
    assert language is language_of(code)
    assert language.duration(3 * 86400) == {"en": "3 d", "fr": "3 j", "de": "3 Tage"}[code]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(KeyError):
        language_of("it")


MESSAGES = KnownMessages(
    {
        "{path}: {reason}: expected a key": "{path}: {reason}: erwartet wird ein Schlüssel",
        "no file has this name": "keine Datei hat diesen Namen",
        "list {name}: {reason}": "Liste {name}: {reason}",
        "at most {number} bytes": "höchstens {number} Bytes",
    }.items()
)


@pytest.mark.parametrize(
    ("english", "made"),
    [
        (
            "/a/b: no file has this name: expected a key",
            "/a/b: keine Datei hat diesen Namen: erwartet wird ein Schlüssel",
        ),
        ("list national: at most 5 bytes", "Liste national: höchstens 5 Bytes"),
        ("at most 5 bytes; something else", "höchstens 5 Bytes; something else"),
        ("first line\nat most 5 bytes", "first line\nhöchstens 5 Bytes"),
        ("something else", "something else"),
        ("at most {x} bytes", "höchstens {x} Bytes"),
        ("at most 5 bytes" * 2000, "at most 5 bytes" * 2000),
        ("", ""),
    ],
)
def test_a_finished_message_is_translated_with_its_values(english: str, made: str) -> None:
    assert MESSAGES.translate(english) == made


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "de"),
        ("", "de"),
        ("fr", "fr"),
        ("fr-CH, fr;q=0.9, en;q=0.8", "fr"),
        ("it, EN-gb;q=0.3, fr;q=0.2", "en"),
        ("en;q=0.1,fr;q=0.2", "fr"),
        ("it,*;q=0.5", "de"),
        ("fr;q=0", "de"),
        ("fr;q=x, en;level=1", "de"),
        ("x" * 10_000 + ",fr", "de"),
    ],
)
def test_a_browser_asks_for_a_language(header: str | None, code: str) -> None:
    assert accepted(header, "de").code == code


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LANGUAGE": "it:fr:de"}, "fr"),
        ({"LANG": "C", "LANGUAGE": "fr"}, "en"),
        ({"LANG": "it_IT.UTF-8"}, "en"),
        ({"LANG": "de"}, "de"),
    ],
)
def test_the_environment_names_a_language(environment: dict[str, str], code: str) -> None:
    assert from_environment(environment).code == code


def test_numbers_and_dates() -> None:
    french, german = language_of("fr"), language_of("de")
    assert [one.number(1234567.5, 1) for one in (ENGLISH, french, german)] == [
        *("1,234,567.5", "1\u202f234\u202f567,5", "1.234.567,5")
    ]
    assert [one.decimal(1234.5, 2) for one in (ENGLISH, german)] == ["1234.50", "1234,50"]
    assert [one.percent(12.34, signed=True) for one in (ENGLISH, french)] == ["+12.3 %", "+12,3\u00a0%"]
    first = date(2026, 12, 1)
    assert [one.day(first) for one in (ENGLISH, french, german)] == [
        *("1 December 2026", "1er décembre 2026", "1. Dezember 2026")
    ]
    assert german.moment(datetime(2026, 3, 2, 14, 5, tzinfo=UTC)) == "2. März 2026, 14:05 UTC"
    assert ENGLISH.duration(59) == "59 s"
    assert ENGLISH.duration(150) == "2 min"


def test_the_language_in_force() -> None:
    assert in_force() is ENGLISH
    with speaking(Language("de", translations_of(read_po(PO)), MESSAGES, FORMS["de"])):
        assert _("list {name}", name="a") == "Liste a"
        assert ngettext("one entry", "{count} entries", 2) == "2 Einträge"
        assert known("at most 5 bytes") == "höchstens 5 Bytes"
    assert _("list {name}", name="a") == "list a"
