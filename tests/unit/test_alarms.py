"""The alert rules name existing metrics, and fire when they should (promtool)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml
from prometheus_client import generate_latest

from blocklistd.ops.metric_table import MetricName
from tests.peers import peer
from tests.unit.test_ops_collectors import scraped

RULES = Path(__file__).parents[2] / "config" / "prometheus" / "blocklistd.rules.yml"
BOARD = RULES.parents[1] / "grafana" / "blocklistd.json"


def known(folder: Path) -> set[str]:
    """Every series name that a scrape can have."""
    found = set()
    for family in scraped(folder).collect():
        if family.type == "histogram":
            found |= {f"{family.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")}
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return found


def test_a_scrape_has_exactly_the_metrics_of_the_table(tmp_path: Path) -> None:
    found = {}
    for family in scraped(tmp_path).collect():
        if family.name.startswith("blocklistd_"):
            found[family.name] = (family.type, family.documentation)
            expected = next(metric for metric in MetricName if metric.base == family.name)
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == set(expected.labels), sample.name
    assert found == {metric.base: (metric.kind, metric.meaning) for metric in MetricName}


def test_the_rules_name_existing_metrics(tmp_path: Path) -> None:
    named = set(re.findall(r"\bblocklistd_[a-z_]+", RULES.read_text()))
    assert len(named) > 10
    assert named <= known(tmp_path)


def test_the_board_names_existing_metrics_with_their_labels(tmp_path: Path) -> None:
    """Each panel says what to do, each expression is one of Prometheus, and each label of a legend exists."""
    board, series = json.loads(BOARD.read_text()), known(tmp_path)
    labels = {metric.base: {*metric.labels, "le"} for metric in MetricName}
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 30
    for panel in panels:
        assert panel["description"].endswith((".", "?")), panel["title"]
        for target in panel["targets"]:
            named = re.findall(r"\bblocklistd_[a-z_]+", target["expr"])
            assert named, panel["title"]
            assert set(named) <= series, panel["title"]
            allowed = set().union(*(found for base, found in labels.items() if base in target["expr"]))
            used = re.findall(r"{{([a-z]+)}}", target.get("legendFormat", ""))
            used += [one for group in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for one in group.split(", ")]
            assert set(used) <= allowed, panel["title"]
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == len(board["panels"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_prometheus_accepts_the_expressions_of_the_board(tmp_path: Path) -> None:
    promtool = peer("promtool", "prometheus")
    targets = [target for panel in json.loads(BOARD.read_text())["panels"] for target in panel.get("targets", ())]
    rules = [{"record": f"board:{number}", "expr": target["expr"]} for number, target in enumerate(targets)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_severity_and_a_runbook() -> None:
    for alarm in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert re.fullmatch("[1-9][0-9]*m", alarm["for"]), alarm["alert"]
        assert alarm["labels"]["severity"] in ("page", "ticket")
        assert alarm["annotations"].keys() == {"summary", "description", "runbook"}
        assert re.search(rf"{alarm['alert']}\b", (Path(__file__).with_name("alarms.test.yml")).read_text())


def test_names_and_help_texts_follow_prometheus_rules(tmp_path: Path) -> None:
    promtool = peer("promtool", "prometheus")
    text = generate_latest(scraped(tmp_path)).decode()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_prometheus_accepts_the_scrape_configuration() -> None:
    promtool = peer("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "config", str(RULES.with_name("prometheus.yml"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_on_its_fault_and_none_without(tmp_path: Path) -> None:
    promtool = peer("promtool", "prometheus")
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("alarms.test.yml"), tmp_path)
    for command in (["check", "rules", RULES.name], ["test", "rules", "alarms.test.yml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
