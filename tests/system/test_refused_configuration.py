"""Mistakes in the configuration of guards, releases and alarms: `check-config` names the line, what was found and what
was expected, and shows nothing of a file of names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import forks
from tests.system.daemon import USER
from tests.unprivileged import UNPRIVILEGED

CONFIGURATION = f"""\
state_dir: state
control: {{socket: c.sock, operators: {{{USER}: [admin]}}}}
sources:
  hotline: {{url: "file:list.txt", format: text, defaults: {{type: domain}}, verify: {{method: none}}}}
lists:
  national:
    sources: [hotline]
    LIST
    guards:
      GUARD
ALARMS
feed: {{listen: ["127.0.0.1:8443"]}}
"""
RIGHT = {"LIST": "quorum: 1", "GUARD": "min_change: 10", "ALARMS": "alarms: {}"}
LINES = {"LIST": 8, "GUARD": 10, "ALARMS": 11}

FILES = {
    "empty": b"",
    "comments": b"# hidden.example\n\n",
    "binary": bytes(range(256)) * 40,
    "huge": b"# hidden\n" * 8_000_000,
    "wildcard": b"ok.example\n*.hidden.example\n",
    "url": b"https://hidden.example/x\n",
    "two": b"hidden.example other.hidden.example\n",
    "utf16": "hidden.example\n".encode("utf-16"),
    "address": b"192.0.2.1/24 # hidden\n",
    "long": b"x" * 300 + b".hidden.example\n",
}

GUARDS = {
    "[missing]": "it does not exist",
    "[link]": "it does not exist",
    "[empty]": "there is no name in it, expected one name a line",
    "[comments]": "there is no name in it, expected one name a line",
    "[binary]": "more lines can't be read",
    "[huge]": "bytes, expected one name a line",
    "[wildcard]": "line 2: It is a wildcard: write the name without `*.`",
    "[url]": "line 1: The name, or the host of the URL, has a character that is not allowed there",
    "[two]": "line 1: The name, or the host of the URL, has a character that is not allowed there",
    "[utf16]": "line 1: The record has bytes that are not UTF-8",
    "[address]": "line 1: The address has bits beyond the length of its prefix",
    "[long]": "line 1: The name has more than 253 characters",
    "[dir]": "it is not a regular file",
    "[fifo]": "it is not a regular file",
    "[/dev/zero]": "it is not a regular file",
    '["warninglist:tranco10"]': "like tranco10k",
    '["warninglist:../tranco"]': "like tranco",
    '["warninglist:"]': "expected warninglist:NAME",
    '["warninglist:tlds"]': "most of its names are public suffixes",
    '["warninglist:cloudflare"]': "it is a list of networks",
    "good": "expected a list",
    "{good: 1}": "found a mapping, expected a list",
    "[good, good]": "found 'good' again, expected each once",
    "['']": "expected a file with one name a line",
    "[good]\n      never_block: [good]": "found the key a second time (first on line 10)",
}

VALUES = {
    ("GUARD", "min_change: -1"): "found '-1', expected a whole number from 0 up",
    ("GUARD", "min_change: 1.5"): "found '1.5', expected a whole number from 0 up",
    ("GUARD", "max_removed: -1%"): "found '-1%', expected a share",
    ("GUARD", "max_removed: 101%"): "found '101%', expected a share up to 100%",
    ("GUARD", "max_removed: 0.1"): "found '0.1', expected a share like 10%",
    ("GUARD", "daily: on"): "found 'on', expected `off` or a mapping",
    ("GUARD", "never-block: [good]"): "found the unknown key 'never-block', expected `never_block`",
    ("LIST", "quorum: 2"): "found '2', expected at most 1, the number of its sources: no entry could be live",
    ("LIST", "quorum: 0"): "found '0', expected a whole number from 1 up",
    ("LIST", "quorum: -1"): "found '-1', expected a whole number from 1 up",
    ("LIST", "quorum: many"): "found 'many', expected a whole number from 1 up",
    ("LIST", "release: reviewed"): "found 'reviewed', expected `auto`, `review` or `two-person`",
    ("LIST", "release: [two-person]"): "found a list, expected `auto`, `review` or `two-person`",
    ("LIST", "types: []"): "found an empty list, expected at least 1",
    ("ALARMS", "alarms: {review_within: -4h}"): "found '-4h', expected a duration like",
    ("ALARMS", "alarms: {review_within: 0s}"): "expected a duration above 0s",
    ("ALARMS", "alarms: {review_within: 4}"): "expected a duration like",
    ("ALARMS", "alarms: {review_within: 99999999d}"): "expected a duration above 0s and up to 36500d",
    ("ALARMS", "alarms: {command: /bin/true x}"): "expected a list, each a text",
    ("ALARMS", "alarms: {command: [sendmail]}"): "expected the absolute path of a program",
    ("ALARMS", "alarms: {command: [/nonexistent]}"): "expected a program that can be run",
    ("ALARMS", "alarms: {command: [/etc/passwd]}"): "expected a program that can be run",
    ("ALARMS", "alarms: {webhook: {url: 'http://192.0.2.1/hidden'}}"): "plain http goes to loopback only",
    ("ALARMS", "alarms: {webhook: {url: 'ftp://a.example/hidden'}}"): "expected an https: URL",
    ("ALARMS", "alarms: {webhook: {url: 'https://u:hidden@a.example/'}}"): "expected a URL without user and password",
    ("ALARMS", "alarms: {webhook: {url: 'https://a.example/hidden x'}}"): "expected a URL without spaces",
    ("ALARMS", "alarms: {webhook: {url: 'https://a.example/', bearer: hidden}}"): "expected exactly one of {file: …}",
    ("ALARMS", "alarms: {webhook: {url: 'https://a.example/', bearer: {file: none}}}"): "which does not exist",
    ("ALARMS", "alarms: {mail: [x]}"): "found the unknown key 'mail', expected one of webhook, command, review_within",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("configuration")
    (made / "list.txt").write_text("a.example\n")
    (made / "good").write_text("hidden.example\n")
    for name, content in FILES.items():
        (made / name).write_bytes(content)
    (made / "dir").mkdir()
    (made / "state").mkdir()
    (made / "state" / "lock").touch()  # not that of a new publisher, who gets a warning
    (made / "link").symlink_to("nowhere")
    os.mkfifo(made / "fifo")
    return made


def write(folder: Path, place: str = "", text: str = "") -> Path:
    path, written = folder / "blocklistd.yaml", CONFIGURATION
    for name, right in RIGHT.items():
        written = written.replace(name, text if name == place else right)
    path.write_text(written)
    return path


def check(folder: Path, place: str = "", text: str = "") -> tuple[int, str]:
    """The exit code and the text of `check-config`."""
    done = forks.run(["check-config", "-c", str(write(folder, place, text))], timeout=60)
    shown = (done.stdout + done.stderr).decode()
    assert "Traceback" not in shown
    assert "hidden" not in shown
    assert all(line.count(" expected ") == 1 for line in shown.splitlines() if ": found " in line), shown
    return done.returncode, shown


def test_the_configuration_of_these_tests_is_right(folder: Path) -> None:
    code, shown = check(folder)
    assert (code, shown.count("\n")) == (0, 1), shown


@pytest.mark.parametrize("key", ["never_block", "shared_hosts"])
def test_a_file_of_names_that_can_be_used(folder: Path, key: str) -> None:
    (folder / "dos").write_bytes(b"\xef\xbb\xbfhidden.example\r\n\r\n# hidden\r\nHIDDEN.Example.\r\n")
    code, shown = check(folder, "GUARD", f"{key}: [good, dos, 'warninglist:tranco10k']")
    assert code == 0, shown


@pytest.mark.parametrize("reference", GUARDS)
def test_a_file_of_names_that_can_not_be_used(folder: Path, reference: str) -> None:
    code, shown = check(folder, "GUARD", f"never_block: {reference}")
    assert code == 2
    line = LINES["GUARD"] + reference.count("\n")
    assert f"blocklistd.yaml:{line}: lists.national.guards.never_block: found " in shown
    assert GUARDS[reference] in shown


def test_a_file_of_names_that_may_not_be_read(folder: Path) -> None:
    (folder / "unreadable").write_text("hidden.example\n")
    (folder / "unreadable").chmod(0)
    path = write(folder, "GUARD", "never_block: [unreadable]")
    command = [*UNPRIVILEGED, sys.executable, "-m", "blocklistd", "check-config", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Permission denied, expected a file that" in done.stderr


@pytest.mark.parametrize(("place", "text"), VALUES)
def test_a_value_that_is_none(folder: Path, place: str, text: str) -> None:
    code, shown = check(folder, place, text)
    assert code == 2
    assert f"blocklistd.yaml:{LINES[place]}: " in shown
    assert VALUES[place, text] in shown


def test_two_persons_of_whom_there_is_one(folder: Path) -> None:
    code, shown = check(folder, "LIST", "release: two-person")
    assert code == 0
    assert "lists.national.release: found 1, expected at least two users with the role reviewer or admin" in shown
