"""Validates, in the daemon, the results of the jobs that read hostile bytes: a job may have been taken over.

A result of another form raises a JobError with the cause `answer`, and the pull fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

from blocklistd.errors import JobError
from blocklistd.kinds import KINDS
from blocklistd.model import SPECIAL_ADDRESS, TOO_WIDE, TYPE_NOT_BUILT, Sha256
from blocklistd.sources.intake.entries import ResultForm
from blocklistd.sources.intake.job import Findings, IntakeRequest
from blocklistd.sources.intake.prove import ListFiles, Origin
from blocklistd.sources.proofs.proof import Proven

REJECTS: Final = frozenset(
    (
        # of the formats
        *("too-long", "not-utf8", "not-json", "no-value", "no-type", "unknown-type", "short-row", "malformed"),
        *("long-row", "duplicate-key", "no-address", "no-name", "other-host", "not-a-date", "unknown-action"),
        *("exception", "outside-zone", "subdomains-only", "trigger", TYPE_NOT_BUILT),
        # of the kinds
        *("empty", "character", "address", "wildcard", "rpz-label", "not-a-name", "not-a-url", "scheme", "empty-label"),
        *("label-too-long", "name-too-long", "url-too-long", "hash-length", "hash-digits", "fragment", "one-label"),
        *("not-an-address", "host-bits", "local-address", TOO_WIDE, SPECIAL_ADDRESS),
    )
)
"""All reasons to reject a record."""
_MOST: Final = 2**53  # the largest count: larger integers are not exact in every JSON parser (RFC 8259 section 6)
_LAST: Final = 253402300799  # 9999-12-31T23:59:59Z, the last time that RFC 3339 can express
_SHA256: Final = re.compile("[0-9a-f]{64}")
_FILES: Final = len(ListFiles._fields)


def unexpected_result() -> JobError:
    """The error of a job whose result has another form, or does not match its files."""
    return JobError("the job's result does not fit its request: the pull is not used", "answer")


def read_findings(answer: object, request: IntakeRequest) -> Findings:
    """Validate the result of the intake job for this request. Raises JobError."""
    names = frozenset(Findings.__dataclass_fields__)
    if not isinstance(answer, dict) or answer.keys() != names:
        raise unexpected_result()
    found = Findings(
        listed=_number(answer["listed"], most=_FILES - 1),
        result_form=_result_form(answer["result_form"], request),
        length=_number(answer["length"]),
        records=_number(answer["records"]),
        types=_counts(answer["types"], KINDS.keys()),
        rejected=_counts(answer["rejected"], REJECTS),
        first_rejected=_counts(answer["first_rejected"], REJECTS),
        dropped_attributes=_number(answer["dropped_attributes"]),
        proven=_proven(answer["proven"], request.origin),
    )
    entries, rejects = sum(found.types.values()), sum(found.rejected.values())
    fits = found.rejected.keys() == found.first_rejected.keys() and entries + rejects <= found.records
    fits = fits and (entries > 0 or found.records == 0) and found.length == _size(request, found.listed)
    if not fits:
        raise unexpected_result()
    return found


def read_proven(answer: object, origin: Origin) -> tuple[int, Proven]:
    """Validate the result of the job `prove`: the index in `IntakeRequest.list_files` of the list, and the proof.
    Raises JobError."""
    if not isinstance(answer, dict) or "listed" not in answer:
        raise unexpected_result()
    fields = {name: found for name, found in answer.items() if name != "listed"}
    listed = _number(answer["listed"], most=_FILES - 2)  # this job writes no `lines`
    return listed, _proven(fields, origin)


def _proven(found: object, origin: Origin | Proven) -> Proven:
    """The fields of Proven. If another job has verified the body, they must be the same as in its result."""
    if not isinstance(found, dict) or found.keys() != Proven.__dataclass_fields__.keys():
        raise unexpected_result()
    proven = Proven(
        signature=_or_none(_digest, found["signature"]),
        signed_at=_or_none(_time, found["signed_at"]),
        key=_or_none(_digest, found["key"]),
        sequence=_or_none(_number, found["sequence"]),
        expires=_or_none(_time, found["expires"]),
    )
    if proven != origin if isinstance(origin, Proven) else proven.key not in (None, *origin.fingerprints):
        raise unexpected_result()
    return proven


def _size(request: IntakeRequest, listed: int) -> int:
    try:
        return request.list_files[listed].stat().st_size
    except OSError:
        raise unexpected_result() from None


def _number(found: object, *, least: int = 0, most: int = _MOST) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise unexpected_result()
    return found


def _counts(found: object, words: Set[str]) -> dict[str, int]:
    if not isinstance(found, Mapping) or not found.keys() <= words:
        raise unexpected_result()
    return {word: _number(count, least=1) for word, count in found.items()}


def _result_form(found: object, request: IntakeRequest) -> ResultForm:
    if (
        not isinstance(found, str)
        or found not in [*ResultForm]
        or (found != ResultForm.CANONICAL and request.earlier is None)
    ):
        raise unexpected_result()
    return ResultForm(found)


def _digest(found: object) -> Sha256:
    if not isinstance(found, str) or not _SHA256.fullmatch(found):
        raise unexpected_result()
    return Sha256(found)


def _time(found: object) -> int:
    return _number(found, most=_LAST)


def _or_none(read: Callable[[object], Any], found: object) -> Any:
    return None if found is None else read(found)
