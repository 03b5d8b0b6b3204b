"""load(): all keys, their defaults, keys of features that do not exist, and ConfigError as the only error."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.config import Address, Basic, Bearer, ClientCert, Role, Schedule, Secret, load
from blocklistd.config.guards import DailyGuardSettings
from blocklistd.errors import ConfigError, ConfigProblem
from blocklistd.limits import GIB, MIB
from tests.examples import examples

from .configuring import VALID, make_certificate, make_minisign_key, places, problems, read, source

EXAMPLE = Path(__file__).parents[2] / "config" / "blocklistd.yaml"


def test_the_example_starts_as_it_is() -> None:
    config = load(EXAMPLE)
    assert config.sources["drop"].location == (EXAMPLE.parent / "drop").as_uri()  # type: ignore[index]
    assert all(address.is_loopback for address in (*config.feed.listen, *config.ops.listen))
    assert config.control.operators == {"root": (Role.ADMIN,)}


def test_commented_defaults_of_the_example_are_the_defaults() -> None:
    """Uncommenting a default changes nothing."""
    text = EXAMPLE.read_text()
    config = load(EXAMPLE)
    for line in ("state_dir: /var/lib/blocklistd", "max_added: 20%", "retention: 90d", "timeout: 60s"):
        assert f"# {line}" in text or f"#   {line}" in text
    assert config.state_dir == Path("/var/lib/blocklistd")
    assert config.lists["national"].guards.max_added == 0.2  # type: ignore[index]


def test_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, VALID)
    assert config.path == tmp_path / "blocklistd.yaml"
    assert config.control.socket == Path("/run/blocklistd/control.sock")
    assert config.keys.online == tmp_path / "keys/online.pem"
    assert (config.keys.root_expires, config.keys.timestamp_expires) == (timedelta(days=365), timedelta(days=1))
    hotline = next(iter(config.sources.values()))
    assert (hotline.id, hotline.timeout, hotline.max_bytes) == ("hotline-a", timedelta(seconds=60), 512 * MIB)
    assert hotline.schedule == Schedule(every=timedelta(minutes=30))
    assert (hotline.max_age, hotline.quarantine, hotline.auth, hotline.ca) == (timedelta(days=2), False, None, None)
    assert (hotline.max_unchanged, hotline.verify.max_future) == (None, timedelta(hours=1))
    assert (hotline.redirects, hotline.evidence.keep, hotline.evidence.max_bytes) == ((), timedelta(days=90), 10 * GIB)
    national = next(iter(config.lists.values()))
    assert (national.id, national.sources, national.quorum, national.release) == ("national", ("hotline-a",), 1, "auto")
    assert national.types == ("url", "host", "domain")
    assert (national.expires, national.retention) == (timedelta(days=14), timedelta(days=90))
    guards = national.guards
    assert (guards.max_added, guards.max_removed, guards.max_rejected) == (0.2, 0.1, 0.01)
    assert guards.daily == DailyGuardSettings(max_added=0.4, max_removed=0.2)
    assert (guards.min_change, guards.min_entries, guards.allow_public_suffix, guards.allow_ip) == (10, 1, False, False)
    assert config.ops.listen == (Address("127.0.0.1", 9153),)
    assert (config.ops.log.level, config.ops.log.format) == ("info", "auto")


@pytest.mark.parametrize("text", [VALID + "zones:\ndns: ~\nops: null\nkeys:\ncontrol: {}\n", VALID])
def test_an_empty_section_has_its_defaults(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == read(tmp_path, VALID)


def test_the_words_that_mean_off_are_accepted(tmp_path: Path) -> None:
    off = (
        VALID.replace(
            "    sources: [hotline-a]\n",
            "    sources: [hotline-a]\n    quorum: 1\n    guards: {never_block: [], shared_hosts: []}\n",
        )
        + "  public_dir: off\n  rate_limit: off\ndatabase: sqlite\nlanguage: en\nzones: {}\n"
    )
    without = read(tmp_path, VALID)
    assert read(tmp_path, off) == dataclasses.replace(without, feed=dataclasses.replace(without.feed, rate_limit=None))


def test_daily_guards_are_off_or_have_their_own_shares(tmp_path: Path) -> None:
    for line, daily in (
        ("off", None),
        ("{max_added: 9%}", DailyGuardSettings(max_added=0.09, max_removed=0.2)),
        ("~", DailyGuardSettings(max_added=0.4, max_removed=0.2)),
    ):
        text = VALID.replace("    sources: [hotline-a]\n", f"    sources: [hotline-a]\n    guards: {{daily: {line}}}\n")
        assert next(iter(read(tmp_path, text).lists.values())).guards.daily == daily


def test_every_key_of_a_source(tmp_path: Path) -> None:
    make_minisign_key(tmp_path / "a.pub")
    make_certificate(tmp_path / "ca.pem")
    (tmp_path / "token").write_text("secret\n")
    more = (
        "fields: {value: url, type: kind, ref: id, category: class, verified_at: at, verifiers: n, expires: until}\n"
        "schedule: 15 */2 * * 1-5\ntimeout: 5s\nmax_bytes: 2GiB\nauth: {bearer: {file: token}}\nca: ca.pem\n"
        "max_age: 6h\nquarantine: true\nredirects: [CDN.example., '[2001:DB8::1]', 192.0.2.1]\n"
        "evidence: {keep: 7d, max_bytes: 1GiB}\nmax_unchanged: 7d"
    )
    verify = "{method: minisign, key: a.pub, signature: https://hotline.example/sig, max_future: 5m}"
    made = next(iter(read(tmp_path, source(more, format="csv", verify=verify)).sources.values()))
    assert made.fields["value"] == "url"
    assert made.schedule.cron == "15 */2 * * mon,tue,wed,thu,fri"
    assert made.verify.key == (tmp_path / "a.pub",)
    assert made.signature == "https://hotline.example/sig"
    assert made.ca == tmp_path / "ca.pem"
    assert isinstance(made.auth, Bearer)
    assert made.auth.token.read() == "secret"
    assert (made.max_unchanged, made.verify.max_future) == (timedelta(days=7), timedelta(minutes=5))
    assert made.redirects == ("cdn.example", "2001:db8::1", "192.0.2.1")
    assert (made.evidence.keep, made.evidence.max_bytes) == (timedelta(days=7), 1024 * MIB)
    assert (made.max_bytes, made.quarantine, made.location) == (2048 * MIB, True, made.url)


def test_other_ways_to_authenticate(tmp_path: Path) -> None:
    make_certificate(tmp_path / "c.pem")
    basic = read(tmp_path, source("auth: {basic: {user: no, password: {env: HOTLINE_PASSWORD}}}"))
    assert next(iter(basic.sources.values())).auth == Basic(user="no", password=Secret("env", "HOTLINE_PASSWORD"))
    cert = read(tmp_path, source("auth: {client_cert: {cert: c.pem, key: {credential: hotline.key}}}"))
    assert next(iter(cert.sources.values())).auth == ClientCert(
        cert=tmp_path / "c.pem", key=Secret("credential", "hotline.key")
    )


def test_a_drop_folder_next_to_the_file(tmp_path: Path) -> None:
    make_minisign_key(tmp_path / "a.pub")
    made = next(
        iter(read(tmp_path, source(url="file:drop/in", verify="{method: minisign, key: a.pub}")).sources.values())
    )
    assert (made.url, made.location) == ("file:drop/in", (tmp_path / "drop/in").as_uri())
    assert made.signature == "{url}.minisig"
    beside = "{method: minisign, key: a.pub, signature: file:drop/in.sig}"
    made = next(iter(read(tmp_path, source(url="file:drop/in", verify=beside)).sources.values()))
    assert made.signature == (tmp_path / "drop/in.sig").as_uri()


def test_the_online_key_as_a_credential(tmp_path: Path) -> None:
    made = read(tmp_path, VALID + "keys: {online: {credential: online.pem}}\n").keys.online
    assert made == Secret("credential", "online.pem")
    assert places(tmp_path, VALID + "keys: {online: {env: KEY}}\n") == [(12, "keys.online.env")]


def test_a_signer_uri(tmp_path: Path) -> None:
    assert read(tmp_path, VALID + "keys: {online: 'hsm:2?label=online'}\n").keys.online == "hsm:2?label=online"
    assert places(tmp_path, VALID + "keys: {online: keys/online.pem}\n") == [(12, "keys.online")]


def test_all_problems_are_reported_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """\
database: postgresql://blocklistd:hunter2@db.example/blocklistd
control:
  operators:
    nobody-of-this-name: [admin]
    root: [admin, emperor]
keys: {timestamp_expires: 30d}
sources:
  hotline-a:
    url: https://user:hunter2@hotline.example/list
    format: xml-page
    verify: {method: gpg}
  Hotline B:
    format: text
lists:
  national:
    sources: [hotline-a, hotline-c]
    quorum: none
    retentoin: 90d
    guards:
      max_added: 0.2
      max_added: 20%
      min_change: no
feed: {}
"""
    found = problems(tmp_path, text)
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "database"),
        (4, "control.operators.nobody-of-this-name"),
        (5, "control.operators.root"),
        (6, "keys.timestamp_expires"),
        (9, "sources.hotline-a.url"),
        (10, "sources.hotline-a.format"),
        (11, "sources.hotline-a.verify.method"),
        (12, "sources.Hotline B"),
        (12, "sources.Hotline B.url"),
        (12, "sources.Hotline B.verify"),
        (12, "sources.Hotline B.defaults.type"),
        (16, "lists.national.sources"),
        (17, "lists.national.quorum"),
        (18, "lists.national.retentoin"),
        (20, "lists.national.guards.max_added"),
        (21, "lists.national.guards.max_added"),
        (22, "lists.national.guards.min_change"),
        (23, "feed.tls"),
    ]
    said = "\n".join(map(str, found))
    assert "hunter2" not in said
    assert "found the unknown key 'retentoin', expected `retention`" in said
    assert "found 'no', expected a whole number from 0 up" in said


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("database: mysql://blocklistd@db.example/state", "database"),
        ("database: postgresql://blocklistd:secret@db.example/state", "database"),
        ("database: postgresql://db.example/state?password=secret", "database"),
        ("database: postgresql://blocklistd@db.example/", "database"),
        ("language: it", "language"),
        ("zones: {rpz.blocklist.example: {list: nowhere}}", "zones.rpz.blocklist.example.list"),
        ("zones: {rpz.example: {list: national}, RPZ.example.: {list: national}}", "zones.RPZ.example."),
        ("zones: {rpz.example: {list: national, action: {cname: a..b}}}", "zones.rpz.example.action.cname"),
        ("zones: {rpz.example: {list: national, shards: 33}}", "zones.rpz.example.shards"),
        ("zones: {rpz.example: {list: national, shards: 0}}", "zones.rpz.example.shards"),
        (
            "zones: {rpz.example: {list: national, shards: 2}, 01.RPZ.example: {list: national}}",
            "zones.rpz.example.shards",
        ),
        ("zones: {rpz.example: {list: national, action: {cname: a, to: b}}}", "zones.rpz.example.action.to"),
        ("zones: {rpz.example: {list: national, action: {}}}", "zones.rpz.example.action"),
        ("zones: []", "zones"),
        ("zones: off", "zones"),
        ("dns: {catalog: a..b}", "dns.catalog"),
        ("state_dir: [a]", "state_dir"),
        ("state_dir:", "state_dir"),
        ("state_dir: ''", "state_dir"),
        ("control: yes", "control"),
        ("ops: {log: {level: loud}}", "ops.log.level"),
        ("ops: {listen: []}", "ops.listen"),
        ("ops: {listen: 127.0.0.1:9153}", "ops.listen"),
        ("control: {socket: /" + "x" * 107 + "}", "control.socket"),
        ("control: {operators: {root: []}}", "control.operators.root"),
        ("surprise: 1", "surprise"),
    ],
)
def test_one_wrong_key(tmp_path: Path, line: str, key: str) -> None:
    assert places(tmp_path, f"{VALID}{line}\n") == [(12, key)]


@pytest.mark.parametrize(
    ("catalog", "found"),
    [("RPZ.example.", [(13, "dns.catalog")]), ("00.rpz.example", [(12, "zones.rpz.example.shards")])],
)
def test_the_catalog_has_a_name_of_its_own(tmp_path: Path, catalog: str, found: list[tuple[int, str]]) -> None:
    text = f"{VALID}zones: {{rpz.example: {{list: national, shards: 2}}}}\ndns: {{catalog: %s}}\n"
    assert places(tmp_path, text % catalog) == found
    (tmp_path / "valid.yaml").write_text(text % "catalog.example")
    dns = load(tmp_path / "valid.yaml").dns
    assert dns is not None
    assert dns.catalog == "catalog.example"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("quorum: 2", "quorum"),
        ("quorum: 0", "quorum"),
        ("release: three-person", "release"),
        ("types: [url, pdq]", "types"),
        ("types: [url, url]", "types"),
        ("types: []", "types"),
        ("types: url", "types"),
        ("expires: 14", "expires"),
        ("expires: 0d", "expires"),
        ("guards: {daily: []}", "guards.daily"),
        ("guards: {daily: no}", "guards.daily"),
        ("guards: {daily: {max_added: 40}}", "guards.daily.max_added"),
        ("guards: {daily: {min_change: 4}}", "guards.daily.min_change"),
        ("guards: {never_block: names.txt}", "guards.never_block"),
        ('guards: {shared_hosts: ["warninglist:tranko10k"]}', "guards.shared_hosts"),
        ("guards: {allow_ip: yes}", "guards.allow_ip"),
        ("guards: {min_entries: 0x10}", "guards.min_entries"),
    ],
)
def test_one_wrong_key_of_a_list(tmp_path: Path, line: str, key: str) -> None:
    text = VALID.replace("    sources: [hotline-a]\n", f"    sources: [hotline-a]\n    {line}\n")
    assert places(tmp_path, text) == [(10, f"lists.national.{key}")]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("url: axfr://server.example", "url"),
        ("format: zone", "format"),
        ("verify: {method: gpg}", "verify.method"),
        ("verify: {}", "verify.method"),
        ("verify:", "verify"),
        ("defaults: {type: photodna}", "defaults.type"),
        ("defaults: {type: url, verifiers: many}", "defaults.verifiers"),
        ("defaults: {type: url, expires: soon}", "defaults.expires"),
        ("defaults: {type: url, colour: red}", "defaults.colour"),
        ("max_bytes: 0", "max_bytes"),
        ("schedule: every day", "schedule"),
        ("quarantine: on", "quarantine"),
        ("auth: {bearer: {file: nowhere}}", "auth.bearer.file"),
        ("auth: {bearer: token}", "auth.bearer"),
        ("auth: {bearer: {env: A}, basic: {}}", "auth"),
        ("auth: {}", "auth"),
        ("auth: {digest: {}}", "auth.digest"),
        ("auth: {basic: {user: a}}", "auth.basic.password"),
        ("ca: nowhere.pem", "ca"),
    ],
)
def test_one_wrong_key_of_a_source(tmp_path: Path, line: str, key: str) -> None:
    name = line.partition(":")[0]
    text = source(line, **{name: ""})
    where = text.splitlines().index(f"    {line}") + 1
    assert places(tmp_path, text) == [(where, f"sources.hotline-a.{key}")]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory, expected a file that can be read"):
        load(tmp_path / "blocklistd.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_a_configuration_goes_through_a_pipe_to_a_job(tmp_path: Path) -> None:
    config = read(tmp_path, VALID)
    assert pickle.loads(pickle.dumps(config)) == config


def test_importing_it_is_cheap() -> None:
    heavy = "yaml", "apscheduler", "minisign", "cryptography", "ssl"
    code = f"import sys, blocklistd.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _loads_or_refuses(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "blocklistd.yaml")
        file.write_bytes(data)
        wrong = _problems(file)
    lines = [problem.line for problem in wrong]
    assert lines == sorted(lines)
    assert all(problem.found and problem.expected and problem.key for problem in wrong)


def _problems(file: Path) -> list[ConfigProblem]:
    try:
        load(file)
    except ConfigError as refused:
        return refused.problems or [ConfigProblem(file, 0, "", "", "")]
    return []


@settings(max_examples=examples(150), deadline=None)
@given(st.text(max_size=60) | st.text("{}[]&*!|>:,-?'\"\\<~#% \nab01xU", max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    _loads_or_refuses(text.encode("utf-8", "surrogatepass"))


_VALUES = st.sampled_from(
    [
        "",
        "~",
        "no",
        "[]",
        "{}",
        "[[]]",
        "{a: {}}",
        "{<<: {}}",
        "!!set {}",
        "!x y",
        "'\\0'",
        '"\\0"',
        '"\\ud800"',
        "&a [*a]",
        "*a",
        "12:30",
        "9" * 5000 + "d",
        "1%",
        "every 1s",
        "* * * * *",
        "9 9 9 9 9",
        "file:%00",
        "http://[",
        "?",
        "[::]:1",
        "['[::]:99999']",
        "{file: /dev/null}",
        "{file: '/'}",
        '{file: "\\ud800"}',
        "/dev/zero",
        "\\",
    ]
)


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_no_value_in_any_place_raises_anything_else(data: st.DataObject) -> None:
    lines = (VALID + "  tls: {}\nkeys: {}\nops: {}\ncontrol: {}\n").splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        lines[place] = f"{lines[place].partition(': ')[0].rstrip(':')}: {data.draw(_VALUES)}"
    _loads_or_refuses("\n".join(lines).encode())


_KEYS = [
    "ca",
    "auth",
    "schedule",
    "fields",
    "max_bytes",
    "timeout",
    "quarantine",
    "url",
    "format",
    "verify",
    "defaults",
]


@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES | st.text("aé:/{}@%.* \\'\"0", max_size=12)))
def test_no_source_raises_anything_else(keys: dict[str, str]) -> None:
    _loads_or_refuses(source(**keys).encode())
