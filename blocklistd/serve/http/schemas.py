"""JSON Schemas and parameters of the feed's routes, for its OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from blocklistd.limits import MAX_FREE_TEXT, MAX_WAIT
from blocklistd.outputs import OUTPUTS
from blocklistd.receipts import MAX_VERSION, NODE, PROBES, STATES
from blocklistd.serve.http.routes import Answer, Parameter

_COUNT: Final = {"type": "integer", "minimum": 0}
_SHA256: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TIME: Final = {"type": "string", "format": "date-time"}

STATUS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "list": {"type": "string"},
        "session": {"type": "string", "format": "uuid"},
        "version": _COUNT,
        "entries": _COUNT,
        "length": _COUNT,
        "sha256": {"oneOf": [_SHA256, {"type": "null"}]},
        "published": {"oneOf": [_TIME, {"type": "null"}]},
        "expires": _TIME,
        "oldest_diff": _COUNT,
        "canonicaliser": _COUNT,
    },
}
STATUS["required"] = list(STATUS["properties"])

LISTS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"lists": {"type": "array", "items": STATUS}},
    "required": ["lists"],
}

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}

RECEIPT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "session": {"type": "string", "format": "uuid"},
        "version": {"type": "integer", "minimum": 1, "maximum": MAX_VERSION},
        "node": {"type": "string", "pattern": f"^{NODE.pattern}$"},
        "state": {"enum": list(STATES)},
        "reason": {"type": ["string", "null"], "maxLength": MAX_FREE_TEXT},
        "applied_at": _TIME,
        "probe": {"enum": [*PROBES, None]},
    },
    "required": ["session", "version", "node", "state", "applied_at"],
    "additionalProperties": False,
}

LIST: Final = Parameter("list", "the id of a list", {"type": "string"})
METADATA: Final = Parameter(
    "name",
    "a number, a role and `.json`",
    {"type": "string", "pattern": r"^[0-9]{1,18}\.(?:root|snapshot|targets)\.json$"},
)
TARGET: Final = Parameter(
    "target",
    "the SHA-256 of a snapshot, the list and `.ndjson`",
    {"type": "string", "pattern": r"^[0-9a-f]{64}\.[^/]+\.ndjson$"},
)
FORMAT: Final = Parameter("format", "the program that reads it", {"type": "string", "enum": list(OUTPUTS)})
_VERSION: Final = {"type": "string", "pattern": "^(?:0|[1-9][0-9]{0,17})$"}
FROM: Final = Parameter("from", "the version that the client has", _VERSION)
TO: Final = Parameter("to", "the version that it wants", _VERSION)

WAIT: Final = Parameter(
    "wait",
    "seconds to wait for another version, if If-None-Match has the present ETag",
    {"type": "integer", "minimum": 1, "maximum": MAX_WAIT},
    "query",
)
IF_NONE_MATCH: Final = Parameter("If-None-Match", "ETags that the client has", {"type": "string"}, "header")
ACCEPT_ENCODING: Final = Parameter(
    "Accept-Encoding", "content codings that the client takes: zstd, gzip, identity", {"type": "string"}, "header"
)
RANGE: Final = Parameter("Range", "one range of bytes of the uncompressed file", {"type": "string"}, "header")
IF_RANGE: Final = Parameter("If-Range", "the ETag that the range belongs to", {"type": "string"}, "header")
LAST_EVENT_ID: Final = Parameter("Last-Event-ID", "the id of the last event that arrived", {"type": "string"}, "header")

UNCHANGED: Final = {HTTPStatus.NOT_MODIFIED: Answer("the client has it already")}
OF_FILES: Final = (ACCEPT_ENCODING, IF_NONE_MATCH, RANGE, IF_RANGE)
"""The headers with which a file is asked for."""
