"""What one key alone can't tell, each with the line of the key that has to change."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.config import Config
from blocklistd.model import ListId, SourceId
from tests.openpgp import PUBLIC_KEY

from .configuring import VALID, make_certificate, make_minisign_key, make_root, places, problems, read, source

HOTLINE = "sources.hotline-a"
NO_FORMAT = {"format": "", "defaults": ""}
FEED = {"url": "tuf+https://feed.example/eu", **NO_FORMAT}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"format": "text", "defaults": ""}, [(2, "defaults.type")]),
        ({"format": "hosts", "defaults": "{}"}, [(5, "defaults.type")]),
        ({"format": "csv"}, [(2, "fields.value")]),
        ({"url": "file:drop", "pattern": "'*.csv'"}, []),
        ({"pattern": "'*.csv'"}, [(7, "pattern")]),
        *(({"url": "file:drop", "pattern": f"'{one}'"}, [(7, "pattern")]) for one in ("", "in/*", ".*", "*.BAK", "*~")),
        ({"format": "csv", "fields": "{ref: id}"}, [(7, "fields.value")]),
        ({"format": "csv", "fields": "{value: url}", "defaults": ""}, []),
        ({"format": "ndjson", "fields": "{value: /url, ref: /a~1b/0}"}, []),
        (
            {"format": "ndjson", "fields": "{value: url, ref: /a~2, type: ''}"},
            [(7, f"fields.{n}") for n in ("value", "type", "ref")],
        ),
        ({"format": "text", "options": "{comment: ';', wildcards: domain}", "defaults": "{type: host}"}, []),
        ({"format": "hosts", "options": "{wildcards: domain}", "defaults": "{type: host}"}, []),
        (
            {
                "format": "csv",
                "fields": "{value: url}",
                "options": "{delimiter: tab, columns: [serial, url], comment: '#', timezone: UTC, where: {}}",
            },
            [],
        ),
        (
            {"format": "text", "options": "{delimiter: ';', columns: [url]}"},
            [(7, "options.delimiter"), (7, "options.columns")],
        ),
        ({"format": "hosts", "options": "{comment: ';'}"}, [(7, "options.comment")]),
        ({"format": "ndjson", "fields": "{value: /url}", "options": "{timezone: Europe/Rome}"}, []),
        *(
            ({"format": name, "fields": field, "options": f"{{records: {at}, timezone: Asia/Tokyo}}"}, [])
            for name, field, at in (("json", "{value: /url}", "/data"), ("xml", "{value: url}", "list/entry"))
        ),
        ({"format": "hosts", "options": "{timezone: Europe/Rome}"}, [(7, "options.timezone")]),
        ({"format": "ndjson", "fields": "{value: /url}", "options": "{timezone: CEST}"}, [(8, "options.timezone")]),
        (
            {"format": "ndjson", "fields": "{value: /url}", "options": "{wildcards: refuse}"},
            [(8, "options.wildcards")],
        ),
        (
            {"format": "csv", "fields": "{value: url, ref: id}", "options": "{columns: [serial, url]}"},
            [(7, "fields.ref")],
        ),
        (
            {"format": "csv", "fields": "{value: url}", "options": "{delimiter: ', ', comment: '', columns: [a, a]}"},
            [(8, "options.delimiter"), (8, "options.columns"), (8, "options.comment")],
        ),
        ({"format": "csv", "fields": "{value: url}", "options": "{delimiter: '\"'}"}, [(8, "options.delimiter")]),
        ({"options": "{wildcards: domain}", "defaults": "{type: sha256}"}, [(7, "options.wildcards")]),
        (
            {"options": "{wildcard: domain, timezone: Europe/Roma}"},
            [(7, f"options.{n}") for n in ("timezone", "wildcard")],
        ),
        (
            {"options": "{records: /data, where: {DeleteDate: }, timezone: Europe/Rome}"},
            [(7, f"options.{n}") for n in ("records", "timezone", "where")],
        ),
        (
            {"format": "csv", "fields": "{value: url}", "options": "{records: /data, where: {'': x}}"},
            [(8, "options.records")],
        ),
        ({"format": "ndjson", "fields": "{value: /url}", "options": "{records: ''}"}, [(8, "options.records")]),
        (
            {
                "format": "csv",
                "fields": "{value: url}",
                "options": "{columns: [url, end], where: {end: , kind: a}}",
            },
            [(8, "options.where.kind")],
        ),
        ({"format": "csv", "fields": "{value: url}", "options": "{where: [end]}"}, [(8, "options.where")]),
        ({"format": "csv", "fields": "{value: url}", "options": "{where: {end: [a]}}"}, [(8, "options.where.end")]),
        (
            {"format": "csv", "fields": "{value: url}", "options": "{where: {end: a, 'end': b}}"},
            [(8, "options.where.end")],
        ),
        (
            {"format": "ndjson", "fields": "{value: /url}", "options": "{where: {/end: ~, end: , /a~2: x, '': y}}"},
            [(8, "options.where.end"), (8, "options.where./a~2"), (8, "options.where.''")],
        ),
        ({"format": "json", "fields": "{value: /url, ref: ''}", "options": "{records: /data, where: {'': a}}"}, []),
        ({"format": "json", "fields": "{value: ''}"}, []),
        ({"format": "json"}, [(2, "fields.value")]),
        (
            {"format": "json", "fields": "{value: url}", "options": "{records: data, where: {end: ''}}"},
            [(7, "fields.value"), (8, "options.records"), (8, "options.where.end")],
        ),
        ({"format": "json", "fields": "{value: /url}", "options": "{delimiter: ';'}"}, [(8, "options.delimiter")]),
        ({"format": "json", "fields": "{value: /url}", "options": "{records: }"}, [(8, "options.records")]),
        (
            {
                "format": "xml",
                "fields": "{value: a/b, ref: '@id', type: .}",
                "options": "{records: a/b, where: {'@c': }}",
            },
            [],
        ),
        ({"format": "xml", "fields": "{value: a}"}, [(2, "options.records")]),
        ({"format": "xml", "fields": "{value: a}", "options": "{records: ''}"}, [(8, "options.records")]),
        (
            {"format": "xml", "fields": "{value: /a, ref: '@'}", "options": "{records: /a/b, where: {'a b': x}}"},
            [(7, "fields.value"), (7, "fields.ref"), (8, "options.records"), (8, "options.where.a b")],
        ),
        ({"verify": "{method: minisign}"}, [(6, "verify.key")]),
        ({"verify": "{method: minisign, key: }"}, [(6, "verify.key")]),
        ({"verify": "{method: minisign, key: ca.pem}"}, [(6, "verify.key")]),
        ({"verify": "{method: none, key: a.pub}"}, [(6, "verify.key")]),
        ({"verify": "{method: none, signature: '{url}.sig'}"}, [(6, "verify.signature")]),
        ({"verify": "{method: minisign, key: a.pub}"}, []),
        ({"verify": "{method: minisign, key: a.pub, signature: 'axfr://hotline.example/'}"}, [(6, "verify.signature")]),
        ({"verify": "{method: minisign, key: [a.pub, b.pub]}"}, []),
        ({"verify": "{method: minisign, key: []}"}, [(6, "verify.key")]),
        ({"verify": "{method: minisign, key: [a.pub, a.pub]}"}, [(6, "verify.key")]),
        ({"verify": "{method: minisign, key: [a.pub, a.asc]}"}, [(6, "verify.key")]),
        ({"verify": "{method: minisign, key: a.pub, signature: inline}"}, [(6, "verify.signature")]),
        ({"verify": "{method: openpgp, key: a.asc}"}, []),
        ({"verify": "{method: openpgp, key: [a.asc], signature: inline}", "url": "file:drop"}, []),
        ({"verify": "{method: openpgp, key: a.asc, signature: '{url}.sig'}"}, []),
        ({"verify": "{method: openpgp, key: a.pub}"}, [(6, "verify.key")]),
        ({"verify": "{method: openpgp, key: a.asc, signature: in-line}"}, [(6, "verify.signature")]),
        ({"verify": "{method: pinned-tls}"}, [(6, "verify.method")]),
        ({"verify": "{method: pinned-tls, key: a.pub}", "ca": "ca.pem"}, [(6, "verify.key")]),
        ({"verify": "{method: pinned-tls}", "ca": "ca.pem"}, []),
        ({"verify": "{method: pinned-tls}", "ca": "ca.pem", "url": "file:drop"}, [(6, "verify.method")]),
        ({"verify": "{method: minisign, key: a.pub, signature: '{url}.sig'}"}, []),
        ({"verify": "{method: minisign, key: a.pub, signature: urls.sig}"}, [(6, "verify.signature")]),
        ({"verify": "{method: minisign, key: a.pub, signature: 'http://hotline.example/'}"}, [(6, "verify.signature")]),
        *(
            ({"url": url, **NO_FORMAT, "verify": "{method: tuf, key: root.json}"}, [])
            for url in ("tuf+https://feed.example/eu", "tuf+http://[::1]:8443/v1/lists/eu")
        ),
        (FEED | {"verify": "{method: none}"}, [(4, "verify.method")]),
        (FEED | {"verify": "{method: tuf}"}, [(4, "verify.key")]),
        (FEED | {"verify": "{method: tuf, key: a.pub}"}, [(4, "verify.key")]),
        (FEED | {"verify": "{method: tuf, key: root.json, max_future: 1h}"}, [(4, "verify.max_future")]),
        (
            FEED | {"format": "ndjson", "defaults": "{type: url}", "fields": "{value: /value}", "options": "{}"},
            [(4, "format"), (5, "defaults"), (6, "verify.method"), (7, "fields"), (8, "options")],
        ),
        (FEED | {"url": "tuf+https://feed.example/a/b", "verify": "{method: tuf, key: root.json}"}, [(3, "url")]),
        ({"verify": "{method: tuf, key: root.json}"}, [(6, "verify.method")]),
        ({"format": "entries"}, [(4, "format")]),
        (
            {"url": "http://hotline.example/", "format": "", "verify": "{method: minisign}"},
            [(2, "format"), (3, "url"), (5, "verify.key")],
        ),
    ],
)
def test_a_source(tmp_path: Path, changes: dict[str, str], wrong: list[tuple[int, str]]) -> None:
    make_minisign_key(tmp_path / "a.pub")
    make_minisign_key(tmp_path / "b.pub")
    (tmp_path / "a.asc").write_bytes(PUBLIC_KEY)
    make_certificate(tmp_path / "ca.pem")
    make_root(tmp_path / "root.json")
    if not wrong:
        assert isinstance(read(tmp_path, source(**changes)), Config)
        return
    found = places(tmp_path, source(**changes))
    assert sorted(found) == sorted((line, f"{HOTLINE}.{key}") for line, key in wrong)


def test_the_texts_of_where_are_texts_or_null(tmp_path: Path) -> None:
    where = "{/a: , /b: ~, /c: null, /d: '', /e: 'null', /f: yes, /g: 1.50, /h: ' x '}"
    text = source(format="json", fields="{value: /url}", options=f"{{where: {where}}}")
    settings = read(tmp_path, text).sources[SourceId("hotline-a")].options
    texts = {"/e": "null", "/f": "yes", "/g": "1.50", "/h": "x"}
    assert dict(settings.where) == {**dict.fromkeys(["/a", "/b", "/c", "/d"]), **texts}


def test_a_wrong_path_is_shown_with_what_was_expected(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, source(format="xml", fields="{value: a}", options="{records: a/@id}"))
    assert problem.found == "'a/@id'"
    assert problem.expected == "the path of the repeated element from the root, like register/position"


def test_a_list_refers_to_sources_that_exist(tmp_path: Path) -> None:
    text = VALID.replace("[hotline-a]", "\n      - hotline-a\n      - hotline-b\n      - hotline-a")
    found = problems(tmp_path, text)
    assert [(problem.line, problem.key, problem.found) for problem in found] == [
        (11, "lists.national.sources", "'hotline-b'"),
        (12, "lists.national.sources", "'hotline-a' again"),
    ]
    assert found[0].expected == "a source: hotline-a"


def test_a_list_may_name_a_source_with_problems(tmp_path: Path) -> None:
    assert places(tmp_path, VALID.replace("format: text", "format: doc")) == [(4, f"{HOTLINE}.format")]
    assert places(tmp_path, "sources: {hotline-a: 5}\n" + VALID[VALID.index("lists:") :]) == [(1, HOTLINE)]


@pytest.mark.parametrize("sources", ["[]", "", "~"])
def test_a_list_has_sources(tmp_path: Path, sources: str) -> None:
    (problem,) = problems(tmp_path, VALID.replace("[hotline-a]", sources))
    assert (problem.key, problem.line) == ("lists.national.sources", 9)


@pytest.mark.parametrize(
    ("keys", "expires", "wrong"),
    [
        ("{timestamp_expires: 3d}", "2d", [(13, "keys.timestamp_expires")]),
        ("{timestamp_expires: 15d}", "", [(12, "keys.timestamp_expires")]),
        ("{}", "12h", [(10, "lists.national.expires")]),
        ("{timestamp_expires: 48h}", "2d", []),
    ],
)
def test_a_timestamp_lives_no_longer_than_a_list(
    tmp_path: Path, keys: str, expires: str, wrong: list[tuple[int, str]]
) -> None:
    more = f"    expires: {expires}\n" if expires else ""
    text = VALID.replace("    sources: [hotline-a]\n", f"    sources: [hotline-a]\n{more}") + f"keys: {keys}\n"
    if wrong:
        assert places(tmp_path, text) == wrong
    else:
        assert isinstance(read(tmp_path, text), Config)


def test_the_feed_is_plain_on_loopback_only(tmp_path: Path) -> None:
    make_certificate(tmp_path / "feed.pem")
    assert read(tmp_path, "feed: {listen: ['127.0.0.1:1', '[::1]:1']}").feed.tls is None
    (problem,) = problems(tmp_path, "feed:\n  listen: ['127.0.0.1:1', '192.0.2.1:1']\n  tls:\n")
    assert (problem.line, problem.key) == (3, "feed.tls")
    assert "192.0.2.1:1 is not loopback" in problem.expected
    tls = read(tmp_path, "feed: {tls: {cert: feed.pem, key: {file: feed.key}}}").feed.tls
    assert tls is not None
    assert (tls.cert, tls.key.path) == (tmp_path / "feed.pem", tmp_path / "feed.key")


def test_no_two_listeners_want_the_same_address(tmp_path: Path) -> None:
    feed = "feed:\n  listen: ['127.0.0.1:9153']\n"
    assert places(tmp_path, feed) == [(1, "ops.listen")]
    assert places(tmp_path, feed + "ops:\n  listen: ['[::]:9153']\n") == [(4, "ops.listen")]
    assert isinstance(read(tmp_path, feed + "ops: {listen: ['127.0.0.1:9154']}\n"), Config)
    assert places(tmp_path, "feed: {listen: ['127.0.0.1:1', '127.0.0.1:1']}") == [(1, "feed.listen")]


def of_list(*lines: str) -> str:
    """VALID with more lines of its list, from line 10 on."""
    more = "".join(f"    {line}\n" for line in lines)
    return VALID.replace("    sources: [hotline-a]\n", f"    sources: [hotline-a]\n{more}")


@pytest.mark.parametrize(
    ("lifetime", "terms"),
    [
        ("{}", (None, None, "review")),
        ("{reverify: off, max_life: off}", (None, None, "review")),
        ("{reverify: 90d}", (timedelta(days=90), None, "review")),
        ("{max_life: 180d, at_end: expire}", (None, timedelta(days=180), "expire")),
        ("{reverify: 90d, max_life: 180d, at_end: review}", (timedelta(days=90), timedelta(days=180), "review")),
        ("{reverify: 180d, max_life: 90d, at_end: expire}", (timedelta(days=180), timedelta(days=90), "expire")),
    ],
)
def test_the_lifetime_of_a_list(
    tmp_path: Path, lifetime: str, terms: tuple[timedelta | None, timedelta | None, str]
) -> None:
    found = read(tmp_path, of_list(f"lifetime: {lifetime}")).lists[ListId("national")].lifetime
    assert (found.reverify, found.max_life, found.at_end) == terms


@pytest.mark.parametrize(
    ("lifetime", "wrong"),
    [
        ("{at_end: expire}", ["at_end"]),
        ("{reverify: off, max_life: off, at_end: expire}", ["at_end"]),
        ("{at_end: remove}", ["at_end"]),
        ("{at_end: off, reverify: 1d}", ["at_end"]),
        ("{reverify: 90}", ["reverify"]),
        ("{reverify: 0d, at_end: expire}", ["reverify"]),
        ("{reverify: -1d}", ["reverify"]),
        ("{max_life: never}", ["max_life"]),
        ("{max_life: 6months, at_end: expire}", ["max_life"]),
        ("{reverify: 90, max_life: no, at_end: remove}", ["reverify", "max_life", "at_end"]),
        ("{term: 90d}", ["term"]),
        ("90d", [""]),
    ],
)
def test_a_lifetime_that_is_refused(tmp_path: Path, lifetime: str, wrong: list[str]) -> None:
    expected = [(10, f"lists.national.lifetime.{key}".removesuffix(".")) for key in wrong]
    assert sorted(places(tmp_path, of_list(f"lifetime: {lifetime}"))) == sorted(expected)


def test_entries_can_not_end_by_themselves_without_a_term(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, of_list("lifetime:", "  reverify: off", "  at_end: expire"))
    assert (problem.line, problem.found) == (12, "'expire'")
    assert problem.expected == "`review`, or a duration in `reverify` or `max_life`: nothing would ever end"


def test_test_entries_are_canonical_hosts(tmp_path: Path) -> None:
    found = read(tmp_path, of_list("test_entries: [BlockTest.ISP.example, bücher.isp.example]"))
    assert found.lists[ListId("national")].test_entries == ("blocktest.isp.example", "xn--bcher-kva.isp.example")
    assert read(tmp_path, of_list("test_entries: []")).lists[ListId("national")].test_entries == ()


@pytest.mark.parametrize(
    "wrong",
    ["192.0.2.1", "isp", "'*.isp.example'", "https://isp.example/", "a..example", "''", "'a.example,b.example'", "1"],
)
def test_a_test_entry_that_is_no_host_is_an_error(tmp_path: Path, wrong: str) -> None:
    (problem,) = problems(tmp_path, of_list(f"test_entries: [blocktest.isp.example, {wrong}]"))
    assert (problem.line, problem.key.startswith("lists.national.test_entries")) == (10, True)
    assert problem.expected == "a host under a name of your own, like blocktest.isp.example"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["test_entries: [a.isp.example, A.isp.example]"], "each once in the list"),
        ([f"test_entries: [{', '.join(f't{number}.isp.example' for number in range(9))}]"], "at most 8"),
        (["test_entries: [a.isp.example]", "types: [url]"], "`host` among the `types` of the list"),
        (["test_entries: [hotline.example]"], "another host: the feed, a zone, a source or the webhook has this name"),
    ],
)
def test_test_entries_that_are_refused(tmp_path: Path, written: list[str], expected: str) -> None:
    (problem,) = problems(tmp_path, of_list(*written))
    assert problem.line == 10
    assert problem.expected.startswith(expected)
