"""Secrets: their places, and that no message shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocklistd.config import Bearer, Secret
from blocklistd.daemon.plans import source_plans
from blocklistd.errors import ConfigError

from .configuring import VALID, problems, read, source


def secret(folder: Path, text: str) -> Secret:
    made = next(iter(read(folder, source(f"auth: {{bearer: {text}}}")).sources.values()))
    assert isinstance(made.auth, Bearer)
    return made.auth.token


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret \n")
    made = secret(tmp_path, "{file: token}")
    assert made.path == tmp_path / "token"
    assert made.read() == "s3cret "


def test_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = secret(tmp_path, "{credential: hotline-a.token}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="LoadCredential="):
        made.read()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "hotline-a.token").write_text("s3cret")
    assert made.path == tmp_path / "hotline-a.token"
    assert made.read() == "s3cret"


def test_an_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = secret(tmp_path, "{env: HOTLINE_TOKEN}")
    monkeypatch.setenv("HOTLINE_TOKEN", "s3cret")
    assert (made.path, made.read()) == (None, "s3cret")
    monkeypatch.delenv("HOTLINE_TOKEN")
    with pytest.raises(ConfigError, match=r"nothing in \$HOTLINE_TOKEN"):
        made.read()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\n", "nothing in"),
        (b"\xff", "not UTF-8"),
        (b"to\nken\n", "several lines"),
        (b"to\x01ken", "control characters"),
        (None, "No such file"),
    ],
)
def test_a_secret_that_is_lost_later_is_named_with_its_place(tmp_path: Path, content: bytes | None, found: str) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret")
    made = secret(tmp_path, "{file: token}")
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        made.read()
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (tmp_path / "blocklistd.yaml", 7)
    assert problem.key == "sources.hotline-a.auth.bearer.file"
    assert found in problem.found


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "[hunter2]",
        "{file: }",
        "{env: hunter2 !}",
        "{credential: hunter2/x}",
        "{file: nowhere}",
        "{}",
        "{env: A, credential: B}",
        "{fil: token}",
    ],
)
def test_no_secret_and_none_is_shown(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, source(f"auth: {{bearer: {text}}}"))
    assert problem.line == 7
    assert problem.key.startswith("sources.hotline-a.auth.bearer")
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        'auth: {basic: "user:hunter2"}',
        "auth: hunter2",
        "url: user:hunter2@hotline.example/list",
        '"url": "hotline.example/list?token=hunter2"',
        "url: https://hotline.example/list#hunter2",
    ],
)
def test_a_text_in_place_of_a_secret_is_not_shown(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, source(text))
    assert found
    assert "hunter2" not in "".join(map(str, found))


def test_a_key_in_the_place_of_its_file_is_not_shown(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, VALID + "keys: {online: hunter2}\n")
    assert problem.key == "keys.online"
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\n"])
def test_an_empty_file_is_no_secret(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    (problem,) = problems(tmp_path, source("auth: {bearer: {file: token}}"))
    assert problem.key == "sources.hotline-a.auth.bearer.file"
    assert "which is empty" in problem.found


def test_all_missing_secrets_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = source("auth: {bearer: {env: FIRST}}")
    second = text.partition("feed:")[0].replace("sources:\n", "").replace("hotline-a", "hotline-b")
    config = read(tmp_path, text.replace("feed:", second.replace("FIRST", "SECOND") + "feed:"))
    for name in ("FIRST", "SECOND"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError) as caught:
        source_plans(config)
    assert [problem.key for problem in caught.value.problems] == [
        f"sources.hotline-{letter}.auth.bearer.env" for letter in "ab"
    ]


def test_two_that_are_in_the_same_place_are_the_same() -> None:
    assert Secret("env", "A", Path("a"), 1, "x") == Secret("env", "A", Path("b"), 2, "y")
