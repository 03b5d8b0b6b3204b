"""The daemon validates the result of a job, and only accepts error messages of a fixed set."""

from __future__ import annotations

import ast
import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import blocklistd.sources
from blocklistd.errors import (
    BlocklistError,
    ConfigError,
    FencedError,
    FetchError,
    JobError,
    ParseError,
    StaleError,
    StoreError,
    VerifyError,
)
from blocklistd.model import Sha256
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.intake.entries import ResultForm
from blocklistd.sources.intake.findings import REJECTS, read_findings, read_proven
from blocklistd.sources.intake.job import EarlierBody, Findings, IntakeRequest
from blocklistd.sources.intake.prove import Origin
from blocklistd.sources.intake.recognise import NEXT_STEPS
from blocklistd.sources.proofs import PROOFS, openpgp, openpgp_decrypt, openpgp_message, openpgp_packets
from blocklistd.sources.proofs.proof import Proven
from blocklistd.sources.reasons import FETCH, INTAKE, AllowedMessages

SOURCES = Path(str(blocklistd.sources.__file__)).parent
BODY = b"a.example\nb.example\n*.example\n"
ANSWER: dict[str, Any] = {
    "listed": 0,
    "result_form": "canonical",
    "length": len(BODY),
    "records": 3,
    "types": {"domain": 2},
    "rejected": {"wildcard": 1},
    "first_rejected": {"wildcard": 3},
    "dropped_attributes": 0,
    "proven": {"signature": "0" * 64, "signed_at": 1_800_000_000, "key": None, "sequence": None, "expires": None},
}


ORIGIN = Origin("none", (), None, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def intake_request(tmp_path: Path) -> IntakeRequest:
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "work").mkdir()
    return IntakeRequest(
        tmp_path / "body", tmp_path / "work", "identity", ORIGIN, "text", {}, {"type": "domain"}, 100, False
    )


def test_a_valid_result_is_read(intake_request: IntakeRequest) -> None:
    proven = Proven(Sha256("0" * 64), 1_800_000_000)
    expected = Findings(**ANSWER | {"result_form": ResultForm.CANONICAL, "proven": proven})
    assert read_findings(ANSWER, intake_request) == expected
    nothing = {"types": {}, "rejected": {}, "first_rejected": {}, "records": 0, "proven": asdict(Proven())}
    assert read_findings(ANSWER | nothing, intake_request).proven == Proven()
    earlier = EarlierBody(
        intake_request.body, intake_request.body, intake_request.body, Sha256("0" * 64), None, 1, {}, 0
    )
    assert (
        read_findings(ANSWER | {"result_form": "same"}, replace(intake_request, earlier=earlier)).result_form
        is ResultForm.SAME
    )


WRONG: dict[str, list[Any]] = {
    "types": [
        *(5, None, [], {}, {"domain": "2"}, {"domain": -1}, {"domain": 0}, {"pdq": 2}, {"domain": 2.0}),
        *({"domain": True}, {"domain": 2**60}, {"a.example": 2}),
    ],
    "rejected": [7, {}, {"a.example": 1}, {"wildcard": 2}, {"wildcard": 1, "empty": 1}],
    "first_rejected": [{}, {"wildcard": 0}, {"empty": 1}, {"wildcard": "3"}, None],
    "records": [2, -1, "3", None, 1e9, 2**63],
    "length": [0, 5, -1, None, "28"],
    "listed": [5, -1, 1, True, None, "0"],
    "result_form": ["patch", "same", "elsewhere", None, 1, []],
    "dropped_attributes": [-1, None, 1.5],
    "proven": [
        *(None, 5, {}, {"signature": None}, asdict(Proven()) | {"more": 1}),
        *(asdict(Proven()) | {"signature": wrong} for wrong in ("", "0" * 63, "A" * 64, 5, ["0" * 64], "a.example")),
        *(asdict(Proven()) | {"signed_at": wrong} for wrong in (-1, 253402300800, "now", 1.5, True)),
        *(asdict(Proven()) | {"key": wrong} for wrong in ("0" * 64, "a.example", 1)),
        *(asdict(Proven()) | {"expires": wrong} for wrong in (-1, 253402300800, "1", True)),
        *(asdict(Proven()) | {"sequence": wrong} for wrong in (-1, 2**60, "1", True)),
    ],
    "more": [1],
}


@pytest.mark.parametrize("part", [{name: value} for name, values in WRONG.items() for value in values], ids=str)
def test_a_result_with_an_invalid_field_is_a_job_error(intake_request: IntakeRequest, part: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="does not fit") as raised:
        read_findings(ANSWER | part, intake_request)
    assert raised.value.cause == "answer"


@pytest.mark.parametrize("answer", [None, 5, [], {}, "x", {"types": 5}])
def test_a_result_of_another_type_is_a_job_error(intake_request: IntakeRequest, answer: object) -> None:
    for read in (lambda: read_findings(answer, intake_request), lambda: read_proven(answer, ORIGIN)):
        with pytest.raises(JobError, match="does not fit"):
            read()


def test_the_result_of_a_proof_is_validated() -> None:
    origin = replace(ORIGIN, proof="minisign", keys=("one", "two"))
    key = origin.fingerprints[1]
    fits = {"listed": 2, "signature": "0" * 64, "signed_at": None, "key": key, "sequence": 7, "expires": 8}
    assert read_proven(fits, origin) == (2, Proven(Sha256("0" * 64), None, key, 7, 8))
    wrong: list[dict[str, Any]] = [{"listed": 5}, {"signature": "x"}, {"signed_at": -1}, {"more": 1}, {"key": "1" * 64}]
    for part in wrong:
        with pytest.raises(JobError, match="does not fit"):
            read_proven(fits | part, origin)


def test_the_intake_job_cannot_change_what_another_job_has_verified(intake_request: IntakeRequest) -> None:
    proven = Proven(Sha256("0" * 64), 7)
    request = replace(intake_request, origin=proven)
    assert read_findings(ANSWER | {"proven": asdict(proven)}, request).proven == proven
    with pytest.raises(JobError, match="does not fit"):
        read_findings(ANSWER | {"proven": asdict(replace(proven, signed_at=8))}, request)


# -- reasons -----------------------------------------------------------------------------------------------------------

FOLDER = Path("/state/work")
REASONS = AllowedMessages(INTAKE, ("csv", "minisign", "'url'"), FOLDER, REJECTS)
LISTED = "https://listed.example/"


def filtered(error: BlocklistError, reasons: AllowedMessages = REASONS) -> BlocklistError:
    with pytest.raises(BlocklistError) as raised, reasons.only_allowed():
        raise error
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        VerifyError(
            "the signature does not fit the body or its trusted comment: check `verify.signature`, or ask the hotline"
        ),
        VerifyError(
            "signed by key 0123456789ABCDEF, expected key 0123456789ABCDEF:"
            " ask the hotline whether it has a new key, then replace `verify.key`"
        ),
        ParseError("none of 9 records could be read as csv (wildcard: 5, empty: 4): check `url` and `format`"),
        ParseError(
            "no record in it: expected a list in the format csv, check `options.records` and `options.where` if they "
            "are set; if it may be empty, set `min_entries: 0`"
        ),
        *(ParseError(f"none of 9 records could be read as csv (empty: 9): {next_step}") for next_step in NEXT_STEPS),
        ParseError("the first row is not CSV (malformed): expected a header with the column 'url'"),
        StoreError("/state/work: the disk is full: free space there; nothing live changed"),
        StoreError("/state/work: No space left on device"),
        JobError("the job failed: KeyError at test_sources_intake_findings.py:7"),
        JobError("a process of the job died: perhaps no memory was left"),
        JobError("the job died of SIGSYS: it made a system call that the sandbox forbids", "forbidden"),
    ],
    ids=str,
)
def test_a_message_of_the_set_passes_unchanged(error: BlocklistError) -> None:
    found = filtered(error)
    assert (type(found), str(found)) == (type(error), str(error))


@pytest.mark.parametrize("kind", [ParseError, VerifyError, StaleError, StoreError, FetchError, JobError, FencedError])
@pytest.mark.parametrize(
    "text",
    [
        LISTED,
        f"an empty body: expected a list in the format {LISTED}; if it may be empty, set `min_entries: 0`",
        f"none of 9 records could be read as csv ({LISTED}: 5): check `url` and `format`",
        f"the first row is not CSV (malformed): expected a header with the column {LISTED!r}",
        f"the job failed: {LISTED} at job.py:1",
        "the job failed: listed_example at job.py:1",
        "the job failed: KeyError at listed_example.py:1",
        f"/state/work: {LISTED}",
        f"/state/work/{LISTED}: No space left on device",
        f"more than 5 lines: ask the hotline to split its list\n{LISTED}",
        "signed by key LISTED, expected key 0123456789ABCDEF:"
        " ask the hotline whether it has a new key, then replace `verify.key`",
    ],
)
def test_any_other_message_is_replaced(kind: type[BlocklistError], text: str) -> None:
    found = filtered(kind(text))
    assert "listed" not in str(found).lower()
    assert type(found) is (JobError if kind is FencedError else kind)


def test_an_error_of_a_class_that_no_job_may_raise_becomes_a_job_error() -> None:
    assert type(filtered(ConfigError([]))) is JobError


def test_a_transport_may_name_its_url_and_add_messages_to_the_set() -> None:
    url = "serial://192.0.2.1:5300"
    reasons = AllowedMessages((*FETCH, "OURS: the primary says N"), (url,), FOLDER)
    for text in (
        f"{url}: 2000 bytes or more: expected at most 1000, raise `max_bytes` if the list is that large",
        f"{url}: the primary says 5",
    ):
        assert str(filtered(FetchError(text), reasons)) == text
    full = StoreError("/state/work: No space left on device: the body of a pull can't be kept")  # by Sink
    assert str(filtered(full, reasons)) == str(full)
    assert "listed" not in str(filtered(FetchError(f"{url}: the primary says {LISTED}"), reasons))


SAMPLES = (
    *("check `url` and `format`", "5", "csv", "gzip", "'url'", "wildcard", "wildcard: 5", "minisign", "where"),
    *("0123456789ABCDEF", "2026-01-01T00:00:00Z", "root.json", "a value"),
)
ELSEWHERE = ("not a minisign public key", "fields: ")
"""Messages of errors that are raised when the configuration is read, and not in a job."""


def raised(*names: str) -> Iterator[tuple[str, list[str]]]:
    """Each error that the modules of the jobs raise: its place, and its possible texts, with samples for the variable
    parts. A text may be a constant of the module."""
    for path in sorted(path for folder in ("formats", "intake", "proofs") for path in (SOURCES / folder).glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in names or not node.args:
                continue
            if path.stem.startswith("openpgp"):  # its messages are constants
                continue
            text = node.args[-1]
            if not isinstance(text, ast.Constant | ast.JoinedStr):  # constants of the module
                module = importlib.import_module(f"blocklistd.sources.{path.parent.name}.{path.stem}")
                for name in {part.id for part in ast.walk(text) if isinstance(part, ast.Name)}:
                    if isinstance(constant := getattr(module, name, None), str):
                        yield f"{path.name}:{node.lineno} {name}", [constant.replace("OURS", "'url'")]
                continue
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            choices = [
                (part.value,) if isinstance(part, ast.Constant) else SAMPLES
                for part in parts
                if isinstance(part, (ast.Constant, ast.FormattedValue))
            ]
            yield f"{path.name}:{node.lineno}", ["".join(map(str, chosen)) for chosen in itertools.product(*choices)]


def test_every_message_in_the_modules_of_the_jobs_is_in_the_set() -> None:
    more = [text for proof in PROOFS.values() for text in proof.reasons]
    more += [text for form in FORMATS.values() for text in form.reasons]
    reasons = AllowedMessages((*INTAKE, *more), ("csv", "minisign", "'url'"), FOLDER, REJECTS)
    unknown = {
        where: texts[0]
        for where, texts in raised("ParseError", "VerifyError", "StaleError")
        if not any(reasons.fixed(ParseError, text) == text for text in texts) and not texts[0].startswith(ELSEWHERE)
    }
    assert unknown == {}


def test_every_message_of_openpgp_is_in_the_set() -> None:
    """Its modules raise constants, whose names are in upper case."""
    reasons = AllowedMessages((*PROOFS["openpgp"].reasons, *openpgp_decrypt.REASONS), (), FOLDER)
    found = 0
    for module in (openpgp, openpgp_message, openpgp_packets, openpgp_decrypt):
        for name, text in vars(module).items():
            if (
                name.isupper()
                and isinstance(text, str)
                and text not in (openpgp_decrypt.PASSPHRASE, openpgp_decrypt.NO_SECRET)
            ):
                sample = text.format({"WEAK": "SHA1", "TOO_LARGE": 5}.get(name, "0123456789ABCDEF"))
                assert str(filtered(VerifyError(sample), reasons)) == sample
                found += 1
    assert found > 15


def test_every_code_of_a_reject_is_in_the_set() -> None:
    kinds = SOURCES.parent / "kinds"
    found: set[str] = set()
    look: Callable[[ast.AST], Iterator[str]] = lambda node: (  # noqa: E731
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    for path in (*kinds.glob("*.py"), *(SOURCES / "formats").glob("*.py"), *(SOURCES / "intake").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("InvalidEntry", "Reject") and node.args:
                found |= set(look(node.args[-1]))
            if isinstance(node, ast.FunctionDef) and node.name == "type_refusal":
                found |= {text for ret in ast.walk(node) if isinstance(ret, ast.Return) for text in look(ret)}
    assert found - {"utf-8", "id", ""} <= REJECTS
