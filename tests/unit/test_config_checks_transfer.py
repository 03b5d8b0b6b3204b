"""A source whose list is no single body: the configuration fits its format, its URL and its proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocklistd.config import Config
from tests.unit.configuring import make_certificate, make_minisign_key, places, read, source

SIGNED = "{method: minisign, key: a.pub}"
LOG = {
    "url": "'https://hotline.example/actions_{year}.log'",
    "format": "action-log",
    "fields": "{value: /name, action: /do}",
}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"url": "'file:drop/actions_{year}.log'"}, []),
        ({"url": "https://hotline.example/actions.log", "verify": SIGNED}, []),
        ({"options": "{add: block, remove: unblock}"}, []),
        ({"fields": "{value: /name}"}, ["fields.action"]),
        ({"fields": "{value: /name, action: do}"}, ["fields.action"]),
        ({"fields": ""}, ["fields.value", "fields.action"]),
        ({"options": "{add: x, remove: x}"}, ["options.remove"]),
        ({"options": "{add: unblock}"}, ["options.remove"]),
        ({"options": "{comment: '#'}"}, ["options.comment"]),
        ({"verify": SIGNED}, ["url"]),
        ({"decrypt": "{openpgp: {env: SECRET}}"}, ["url"]),
        ({"url": "'https://{year}.hotline.example/actions.log'"}, ["url"]),
        ({"format": "ndjson", "fields": "{value: /name}"}, ["url"]),
        ({"format": "ndjson"}, ["url", "fields.action"]),
        ({"url": "file:drop", "format": "text", "fields": "", "options": "{add: x}"}, ["options.add"]),
    ],
)
def test_a_log(tmp_path: Path, changes: dict[str, str], wrong: list[str]) -> None:
    make_minisign_key(tmp_path / "a.pub")
    make_certificate(tmp_path / "ca.pem")
    text = source(**{**LOG, **changes})
    if not wrong:
        assert isinstance(read(tmp_path, text), Config)
        return
    assert sorted(key for _, key in places(tmp_path, text)) == sorted(f"sources.hotline-a.{key}" for key in wrong)


PAGES = {
    "url": "https://hashes.example/v2/entries",
    "format": "xml-pages",
    "fields": "{value: fingerprints/*, ref: id, category: classification}",
    "defaults": "",
}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"options": "{records: images/image, where: {feedback/negativeFeedback/@type: null}}"}, []),
        ({"ca": "ca.pem", "verify": "{method: pinned-tls}"}, []),
        ({"fields": "{value: /fingerprints}"}, ["fields.value"]),
        ({"fields": "{ref: id}"}, ["fields.value"]),
        ({"options": "{records: queryResult/images/image}"}, ["options.records"]),
        ({"options": "{where: {a//b: x}}"}, ["options.where.a//b"]),
        ({"options": "{wildcards: domain}"}, ["options.wildcards"]),
        ({"url": "file:drop"}, ["url"]),
        ({"url": "'https://hashes.example/{year}'"}, ["url"]),
        ({"verify": SIGNED}, ["verify.method"]),
        ({"decrypt": "{openpgp: {env: SECRET}}"}, ["decrypt"]),
        ({"auth": "{client_cert: {cert: ca.pem, key: {file: ca.key}}}"}, ["auth.client_cert"]),
    ],
)
def test_pages(tmp_path: Path, changes: dict[str, str], wrong: list[str]) -> None:
    make_minisign_key(tmp_path / "a.pub")
    make_certificate(tmp_path / "ca.pem")
    text = source(**{**PAGES, **changes})
    if not wrong:
        assert isinstance(read(tmp_path, text), Config)
        return
    assert sorted(key for _, key in places(tmp_path, text)) == sorted(f"sources.hotline-a.{key}" for key in wrong)
