"""A state, a key and a high-water file that are not where the configuration says: what is said of that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.system.daemon import Daemon

SOURCE = {
    "url": "file:list.txt",
    "format": "text",
    "defaults": {"type": "domain"},
    "schedule": "every 1d",
    "verify": {"method": "none"},
}


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """A stopped daemon that has published, with its high-water file on another disk."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "list.txt").write_text("a.example\n")
    (folder / "witness").mkdir()
    lists = {"national": {"sources": ["hotline"]}}
    made = Daemon(folder, {"high_water": "witness/high", "sources": {"hotline": SOURCE}, "lists": lists})
    with made:
        made.first_pull("hotline")
        made.wait_for(lambda: (folder / "witness" / "high").exists())
    return made


def check(daemon: Daemon) -> tuple[int, str]:
    done = daemon.cli("check-config", "-c", str(daemon.path), check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def start(daemon: Daemon) -> str:
    """The error of a start that fails."""
    done = daemon.cli("serve", "-c", str(daemon.path), check=False)
    assert done.returncode in (1, 2)
    return (done.stdout + done.stderr).decode()


def test_a_right_configuration_is_ok(publisher: Daemon) -> None:
    assert check(publisher) == (0, f"{publisher.path}: ok\n")


def test_a_missing_folder_of_the_high_water_file(publisher: Daemon) -> None:
    witness, away = publisher.folder / "witness", publisher.folder / "away"
    witness.rename(away)
    try:
        code, shown = check(publisher)
        assert code == 2
        assert f"high_water: found {witness}/high: the folder {witness} does not exist, expected a file in a" in shown
    finally:
        away.rename(witness)


def test_a_missing_online_key(publisher: Daemon) -> None:
    key = publisher.folder / "keys" / "online.pem"
    away = key.rename(key.with_name("away.pem"))
    try:
        code, shown = check(publisher)
        assert code == 2
        assert f"keys.online: found {key}, which does not exist, expected the online key that" in shown
    finally:
        away.rename(key)


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "missing"])
def test_a_wrong_state_dir_is_not_made(publisher: Daemon, is_empty: bool) -> None:
    wrong = publisher.folder / "wrong"
    if is_empty:
        wrong.mkdir()
        (wrong / "lost+found").mkdir()
    publisher.config["state_dir"] = "wrong"
    publisher.write_config()
    try:
        code, shown = check(publisher)
        assert code == 2
        assert f"state_dir: found {wrong}, which is missing or empty, expected the folder of the state" in shown
        assert "has numbers of national" in shown
        text = start(publisher)
        for part in ("holds no root.json", "check that `state_dir` is right", "has numbers of national"):
            assert part in text
        assert sorted(path.name for path in wrong.glob("*")) == ["lost+found"] * is_empty
    finally:
        shutil.rmtree(wrong, ignore_errors=True)
        publisher.config["state_dir"] = "state"
        publisher.write_config()


def test_a_new_publisher_is_told_to_make_keys(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"sources": {"hotline": SOURCE}, "lists": {"national": {"sources": ["hotline"]}}})
    code, shown = check(daemon)
    assert code == 0
    assert "warning: " in shown
    assert "a new publisher runs `blocklistd keys init --root-out DIR` next" in shown
    assert "blocklistd keys init" in start(daemon)
    assert not (tmp_path / "state").exists()
    daemon.init_keys()
    assert check(daemon) == (0, f"{daemon.path}: ok\n")
