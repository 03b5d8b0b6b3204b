"""The checks of `doctor`, each from made facts: what is wrong is found, with its cure; nothing else is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blocklistd.config import Config
from blocklistd.daemon.doctor import host
from blocklistd.daemon.doctor.check import GROUPS, Level
from blocklistd.daemon.doctor.checks import CHECKS, Diagnosis, diagnose
from blocklistd.daemon.doctor.facts import CertificateFile, Facts, FileSystem, GuardFile, HostFacts, StoredFacts
from blocklistd.daemon.doctor.service import KINDS
from blocklistd.daemon.doctor.stored import stored_facts
from blocklistd.errors import ConfigProblem
from blocklistd.limits import GIB, NOTIFY_UNANSWERED, RECEIPT_DAYS
from blocklistd.model import ListId, Outcome, SourceId
from blocklistd.store.database import NEWEST_MIGRATION
from blocklistd.store.evidence import Usage
from blocklistd.store.pulls import record_pull
from blocklistd.telemetry import ALARMS
from tests.certificates import make_certificate
from tests.unit.configuring import VALID, read
from tests.versions_of import Versions

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOTLINE, LIST = SourceId("hotline-a"), ListId("national")
GUIDE = Path(__file__).parents[2] / "docs" / "operator.md"
CONFIG = (
    VALID.replace("    sources: [hotline-a]", "    sources: [hotline-a]\n    guards: {never_block: [names.txt]}")
    + "zones: {rpz.blocklist.example: {list: national}}\n"
)
SOURCE = {"outcome": "published", "reason": None, "signed": None, "verify": "minisign", "quarantine": False}
DISK = FileSystem(Path("/srv"), ("state_dir",), 100 * GIB, 50 * GIB, 1000, 500)
FULL = replace(DISK, total=900 * GIB, free=9 * GIB)
PROBLEM = ConfigProblem(Path("blocklistd.yaml"), 3, "feed.tls.cert", "nothing", "a file")
SECONDARY = {"address": "192.0.2.9", "lag": 3600.0}


def alarm(kind: str, text: str, subject: str = "") -> dict[str, str]:
    return {"kind": kind, "subject": subject, "text": text}


def subscriber(*secondaries: Any, **more: Any) -> dict[str, Any]:
    zones = {"rpz.blocklist.example": {"secondaries": list(secondaries)}}
    return {"isp-1": {"revoked": None, "objective": None, "zones": zones, **more}}


class Scene:
    """A healthy installation; `on` changes one fact."""

    def __init__(self, folder: Path) -> None:
        (folder / "names.txt").write_text("search.example\n")
        self.config = read(folder, CONFIG)
        self.answer: dict[str, Any] = {
            **{"version": "1.0", "alarms": [], "down": [], "wrong": [], "undelivered": [], "unread": [], "notify": []},
            "status": {"sources": {HOTLINE: SOURCE}, "candidates": [], "subscribers": subscriber()},
        }
        self.host = HostFacts((DISK,), True, {"ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0"})
        self.stored = StoredFacts(NEWEST_MIGRATION, evidence={HOTLINE: Usage(GIB, 9, NOW - timedelta(days=1))})
        self.facts = Facts(NOW, "1.0", self.config, daemon=self.answer, host=self.host, stored=self.stored)

    def on(self, **facts: Any) -> Facts:
        return replace(self.facts, **facts)

    def daemon(self, **answer: Any) -> Facts:
        return self.on(daemon=self.answer | answer)

    def status(self, **status: Any) -> Facts:
        return self.daemon(status=self.answer["status"] | status)

    def source(self, **source: Any) -> Facts:
        return self.status(sources={HOTLINE: SOURCE | source})

    def machine(self, **machine: Any) -> Facts:
        return self.on(host=replace(self.host, **machine))

    def state(self, **state: Any) -> Facts:
        return self.on(stored=replace(self.stored, **state))

    def unit(self, **unit: str) -> Facts:
        return self.machine(unit={**(self.host.unit or {}), **unit})


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def certificate(**more: Any) -> CertificateFile:
    made = CertificateFile("feed.tls.cert", Path("feed.pem"), ("feed.blocklist.example",), True)
    return replace(made, **more)


def with_url(scene: Scene, url: str, name: str) -> Facts:
    config = replace(scene.config, feed=replace(scene.config.feed, public_url=url))
    return replace(scene.machine(certificates=(certificate(names=(name,)),)), config=config)


def without_guards(scene: Scene) -> Facts:
    found = scene.config.lists[LIST]
    return scene.on(
        config=replace(scene.config, lists={LIST: replace(found, guards=replace(found.guards, never_block=()))})
    )


NOTE, WARNING, CRITICAL = Level
OLD = NOW - timedelta(days=RECEIPT_DAYS + 1)
YEARS_OLD = GuardFile(LIST, "never_block", Path("names.txt"), NOW.replace(year=2024))
UNDELIVERED = {"alarm": "root", "subject": "", "way": "webhook", "tries": 4, "reason": "status 500"}
NOTIFIED = {"subscriber": "isp-1", "zone": "rpz.blocklist.example", "address": "192.0.2.9:53"}
CASES: list[tuple[str, Level, Callable[[Scene], Facts], str]] = [
    ("daemon", CRITICAL, lambda s: s.on(daemon=None, unreachable="no answer: `systemctl start`"), "systemctl start"),
    ("version", WARNING, lambda s: s.daemon(version="0.9"), "runs version 0.9, but 1.0 is installed: run `systemctl"),
    ("readiness", CRITICAL, lambda s: s.daemon(down=["list national is not served"]), "list national is not served"),
    ("readiness", WARNING, lambda s: s.daemon(wrong=["zone x has no serial"]), "zone x has no serial"),
    ("unit", CRITICAL, lambda s: s.unit(ActiveState="failed", Result="watchdog"), r"failed (watchdog): read `journal"),
    ("unit", WARNING, lambda s: s.unit(UnitFileState="disabled"), "run `systemctl enable blocklistd`"),
    ("unit", WARNING, lambda s: s.unit(NeedDaemonReload="yes"), "run `systemctl daemon-reload`"),
    ("unit", WARNING, lambda s: s.unit(NRestarts="7"), "again 7 times after it failed: look for the reason"),
    ("deliveries", WARNING, lambda s: s.daemon(undelivered=[UNDELIVERED]), "4 tries; status 500): correct `alarms.web"),
    ("alarms", CRITICAL, lambda s: s.daemon(alarms=[alarm("clock", "the clock is wrong: set it")]), "clock is wrong"),
    ("alarms", WARNING, lambda s: s.daemon(alarms=[alarm("root", "root.json expires in 9 days: renew")]), "9 days"),
    ("alarms", CRITICAL, lambda s: s.daemon(alarms=[alarm("root", "root.json has expired: renew it")]), "has expired"),
    ("alarms", WARNING, lambda s: s.daemon(alarms=[alarm("new", "a new kind of alarm")]), "a new kind"),
    ("configuration", CRITICAL, lambda s: s.on(problems=(PROBLEM,)), "blocklistd.yaml:3: feed.tls.cert: found nothing"),
    ("configuration", WARNING, lambda s: s.on(warnings=(PROBLEM,)), "expected a file"),
    ("reload", WARNING, lambda s: s.daemon(unread=list("abcdefg")), "(a, b, c, d, e, …): run `blocklistd check"),
    ("synchronisation", WARNING, lambda s: s.machine(synchronised=False), "run chrony or systemd-timesyncd"),
    ("signed times", WARNING, lambda s: s.source(signed="2026-11-20T13:00:00Z"), "one of the two clocks is wrong"),
    ("space", WARNING, lambda s: s.machine(disks=(replace(DISK, free=9 * GIB),)), "9.0 % of 100.0 GiB is free: free"),
    ("space", CRITICAL, lambda s: s.machine(disks=(FULL,)), "/srv (state_dir): 1.0 % of 900.0 GiB is free"),
    ("inodes", WARNING, lambda s: s.machine(disks=(replace(DISK, free_inodes=50),)), "5.0 % of its inodes are free"),
    ("evidence space", NOTE, lambda s: s.machine(disks=(replace(DISK, total=9 * GIB, free=8 * GIB),)), "grow by 9.0"),
    ("certificates", CRITICAL, lambda s: s.machine(certificates=(certificate(names=()),)), "no subject alternative"),
    ("certificates", WARNING, lambda s: s.machine(certificates=(certificate(ordered=False),)), "in the order of sign"),
    ("certificates", WARNING, lambda s: with_url(s, "https://x.example", "*.y.example"), "subscribers refuse it: ord"),
    ("access", CRITICAL, lambda s: s.machine(inaccessible=("/srv/a belongs to root", "b")), "like this: 2): run"),
    ("access", WARNING, lambda s: s.machine(open_to_others=(Path("/srv/a"),)), "run `chmod go= /srv/a`"),
    ("pulls", WARNING, lambda s: s.source(outcome="failed", reason="status 404"), "status 404: run `blocklistd source"),
    ("pulls", NOTE, lambda s: s.source(outcome=None), "never pulled"),
    ("origins", NOTE, lambda s: s.source(verify="none"), "ask the hotline for a signature"),
    ("origins", NOTE, lambda s: s.source(quarantine=True), "run `blocklistd source test hotline-a`"),
    ("never_block", NOTE, without_guards, "name a file of them in `guards`"),
    ("guard files", NOTE, lambda s: s.machine(guard_files=(YEARS_OLD,)), "has not changed since 2024-11-20: see"),
    ("held", NOTE, lambda s: s.status(candidates=[{"list": LIST}, {"list": LIST}]), "a decision: 2: run"),
    ("notify", WARNING, lambda s: s.daemon(notify=[NOTIFIED | {"unanswered": NOTIFY_UNANSWERED}]), "allow UDP"),
    ("secondaries", WARNING, lambda s: s.status(subscribers=subscriber(SECONDARY)), "transfers over TCP succeed"),
    ("schema", CRITICAL, lambda s: s.state(revision="9999"), "install the newer blocklistd again"),
    ("schema", NOTE, lambda s: s.state(revision="0001"), "make a backup of the state_dir before"),
    ("audit", CRITICAL, lambda s: s.state(audit="its first line is 2"), "run `blocklistd audit verify`"),
    ("retention", WARNING, lambda s: s.state(oldest_receipt=OLD), "longer than 90 days: look for `housekeeping`"),
    ("retention", WARNING, lambda s: s.state(evidence={HOTLINE: Usage(9, 1, OLD)}), "longer than evidence.keep"),
    ("evidence", WARNING, lambda s: s.state(evidence={HOTLINE: Usage(10 * GIB, 1, NOW)}), "raise `max_bytes`, or"),
]  # fmt: skip


def test_a_healthy_installation_has_no_finding(scene: Scene) -> None:
    found = diagnose(scene.facts)
    assert (found.found, found.worst, found.document()["state"]) == ((), Level.NOTE, "fine")


@pytest.mark.parametrize(("name", "level", "change", "text"), CASES)
def test_each_fault_is_found_alone_and_with_its_cure(
    scene: Scene, name: str, level: Level, change: Callable[[Scene], Facts], text: str
) -> None:
    (one,) = diagnose(change(scene)).found
    assert (one.check, one.level) == (name, level)
    assert text in one.text
    assert one.group in GROUPS


def test_every_check_has_a_case_and_a_line_in_the_guide() -> None:
    assert {name for name, *_ in CASES} == {check.name for check in CHECKS}
    section = GUIDE.read_text().partition("### Doctor\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.M)[1:]
    assert [tuple(row) for row in rows] == [
        (group, "; ".join(check.what for check in CHECKS if check.group == group)) for group in GROUPS
    ]


def test_every_kind_of_alarm_of_the_table_exists() -> None:
    assert KINDS.keys() <= ALARMS.keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.daemon(notify=[NOTIFIED | {"unanswered": NOTIFY_UNANSWERED - 1}]),
        lambda s: s.status(subscribers=subscriber(SECONDARY | {"lag": 30.0})),
        lambda s: s.status(subscribers=subscriber(SECONDARY, objective=60.0)),
        lambda s: s.status(subscribers=subscriber(SECONDARY, revoked="2026-01-01T00:00:00Z")),
        lambda s: s.daemon(undelivered=[UNDELIVERED | {"tries": 0}]),
        lambda s: s.machine(unit=None, synchronised=None),
        lambda s: s.machine(disks=(replace(DISK, inodes=0, free_inodes=0),)),
        lambda s: s.machine(certificates=(certificate(),)),
        lambda s: with_url(s, "https://feed.x.example", "*.x.example"),
        lambda s: with_url(s, "https://192.0.2.1", "192.0.2.1"),
        lambda s: s.on(host=None, stored=None),
    ],
)
def test_what_is_right_or_unknown_is_no_finding(scene: Scene, change: Callable[[Scene], Facts]) -> None:
    assert diagnose(change(scene)).found == ()


def test_the_worst_group_comes_first_and_in_it_the_worst_finding(scene: Scene) -> None:
    alarms = [alarm("source_frozen", "frozen"), alarm("clock", "wrong")]
    facts = replace(scene.daemon(alarms=alarms), host=replace(scene.host, synchronised=False))
    facts = replace(facts, daemon=facts.daemon | {"status": scene.source(quarantine=True).daemon["status"]})  # type: ignore[operator,index]
    shown = [(one.group, one.level) for one in diagnose(facts).found]
    assert shown == [("clock", CRITICAL), ("clock", WARNING), ("sources", WARNING), ("sources", NOTE)]


def test_what_two_checks_could_report_is_reported_once(scene: Scene) -> None:
    alarms = [alarm("certificate", "feed.tls.cert expired", "feed.tls.cert"), alarm("configuration", "…", "keys")]
    facts = replace(scene.daemon(alarms=alarms, wrong=["feed.tls.cert expired"]), problems=(PROBLEM,))
    assert [one.text for one in diagnose(facts).found] == ["feed.tls.cert expired"]


def test_the_document_names_level_group_check_and_text(scene: Scene) -> None:
    found: Diagnosis = diagnose(scene.on(daemon=None, unreachable="down", skipped=("the state: closed",)))
    assert found.document() == {
        "state": "critical",
        "running": False,
        "findings": [
            {"level": "critical", "group": "daemon", "check": "daemon", "text": "down"},
        ],
        "skipped": ["the state: closed"],
    }


# -- facts -------------------------------------------------------------------------------------------------------------


def settings(folder: Path, text: str = VALID) -> Config:
    return read(folder, f"state_dir: {folder}/state\n{text}")


def test_the_state_of_a_stopped_daemon_raises_the_alarms_of_a_running_one(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    with versions.database.write() as connection:
        times: Any = {"began": NOW, "ended": NOW, "report": None, "validators": None, "settings": ""}
        record_pull(connection, HOTLINE, outcome=Outcome.FAILED, reason="status 404", candidate=None, **times)
    versions.close()
    found = stored_facts(settings(tmp_path), NOW + timedelta(days=3))
    assert "run `blocklistd source show hotline-a`" in found.alarms["source_overdue", HOTLINE]
    assert found.sources[HOTLINE]["reason"] == "status 404"
    assert (found.revision, found.audit) == (NEWEST_MIGRATION, None)
    assert ("clock", "") not in found.alarms


def test_what_others_can_read_in_the_state_dir_is_found(tmp_path: Path) -> None:
    (tmp_path / "state" / "sealed").mkdir(parents=True, mode=0o700)
    (tmp_path / "state" / "evidence").mkdir(mode=0o755)
    assert list(host.open_to_others(settings(tmp_path))) == [tmp_path / "state" / "evidence"]


def test_a_chain_in_the_wrong_order_is_seen(tmp_path: Path) -> None:
    ca, _ = make_certificate(tmp_path, "ca")
    leaf, _ = make_certificate(tmp_path, "leaf", signed_by="ca")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(leaf.read_bytes() + ca.read_bytes())
    right = host.certificate("feed.tls.cert", chain)
    assert (right.names, right.ordered) == (("leaf.example", "127.0.0.1"), True)
    chain.write_bytes(leaf.read_bytes() + leaf.read_bytes())
    assert not host.certificate("feed.tls.cert", chain).ordered


def test_the_blocks_of_root_are_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(f_frsize=4096, f_blocks=100, f_bfree=30, f_bavail=20, f_files=50, f_favail=10)
    monkeypatch.setattr("os.statvfs", lambda path: found)
    assert host.disk_of(tmp_path, ["state_dir"]) == FileSystem(tmp_path, ("state_dir",), 90 * 4096, 20 * 4096, 50, 10)


def test_the_kernel_says_whether_the_clock_is_synchronised() -> None:
    assert host.is_synchronised() in (True, False, None)
