"""The OpenAPI 3.1 document of the feed, made from the table of its routes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

from blocklistd import __version__
from blocklistd.serve.http import bodies, schemas
from blocklistd.serve.http.live_lists import Document
from blocklistd.serve.http.problems import PROBLEM
from blocklistd.serve.http.routes import Answer, Cache, Parameter, Route, RouteCall

_NAMED: Final = {"Status": schemas.STATUS, "Lists": schemas.LISTS, "Problem": schemas.PROBLEM}
_EVERYWHERE: Final = {
    HTTPStatus.BAD_REQUEST: "the request is malformed",
    HTTPStatus.UNAUTHORIZED: "no valid credentials of a subscriber",
    HTTPStatus.NOT_FOUND: "no such path",
    HTTPStatus.TOO_MANY_REQUESTS: "over a limit: wait for Retry-After seconds",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "the request line and the headers are too long",
    HTTPStatus.INTERNAL_SERVER_ERROR: "an error of the publisher",
    HTTPStatus.SERVICE_UNAVAILABLE: "not now: wait for Retry-After seconds",
}
_WITH_BODY: Final = {
    HTTPStatus.REQUEST_TIMEOUT: "the body did not arrive in time",
    HTTPStatus.LENGTH_REQUIRED: "the body has no Content-Length",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too long",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "the body has a content coding",
}
_CREDENTIALS: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "the subscriber's token"},
    "certificate": {"type": "mutualTLS", "description": "a client certificate that is registered for the subscriber"},
}
_ALLOW: Final = {"Allow": {"description": "the methods of this path", "schema": {"type": "string"}}}


class ApiDescription:
    """The resource /v1/openapi.json. `describe` must be called before it is requested."""

    def __init__(self) -> None:
        self._document: Document | None = None

    def describe(self, routes: Sequence[Route]) -> None:
        """Makes the document of these routes."""
        self._document = Document.of(orjson.dumps(document(routes)))

    def routes(self) -> tuple[Route, ...]:
        """The route of the document."""
        return (
            Route(
                name="openapi",
                resource="other",
                method="GET",
                pattern="/v1/openapi.json",
                handler=self._answer,
                summary="This description.",
                answers={HTTPStatus.OK: Answer("OpenAPI 3.1", bodies.JSON), **schemas.UNCHANGED},
                cache=Cache.REVALIDATE,
                parameters=(schemas.IF_NONE_MATCH,),
            ),
        )

    async def _answer(self, call: RouteCall) -> web.StreamResponse:
        assert self._document is not None
        return bodies.json_document(call.request, self._document, bodies.REVALIDATE)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operations = paths.setdefault(route.pattern, {})
        in_path = [_parameter(one) for one in route.parameters if one.where == "path"]
        if in_path:
            operations["parameters"] = in_path
        for method in route.methods:
            operations[method.lower()] = _operation(route, method)
        operations["options"] = {
            "operationId": f"options_{route.name}",
            "summary": "The methods of this path.",
            "responses": {"204": {"description": "no body", "headers": _ALLOW}, **_problems(_EVERYWHERE)},
        }
    return {
        "openapi": "3.1.1",
        "info": {"title": "Lists of a publisher", "version": __version__},
        "security": [{"token": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": _NAMED,
            "securitySchemes": _CREDENTIALS,
        },
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name if method == route.method else f"{method.lower()}_{route.name}",
        "summary": route.summary,
        "description": f"Cache-Control: {route.cache.value}",
        "parameters": [_parameter(one) for one in route.parameters if one.where != "path"],
    }
    problems = _EVERYWHERE | dict(route.problems)
    if route.body is not None:
        problems |= _WITH_BODY
        content = {route.body.media: {"schema": _schema(route.body.schema)}}
        found["requestBody"] = {"required": True, "content": content}
    answers = {str(status.value): _answer(answer, method) for status, answer in route.answers.items()}
    found["responses"] = answers | _problems(problems, method)
    return found


def _answer(answer: Answer, method: str) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.summary}
    if answer.media is not None:
        schema = {} if answer.schema is None or method == "HEAD" else {"schema": _schema(answer.schema)}
        found["content"] = {answer.media: schema}
    return found


def _problems(problems: dict[HTTPStatus, str], method: str = "GET") -> dict[str, Any]:
    schema = {} if method == "HEAD" else {"schema": _schema(schemas.PROBLEM)}
    return {
        str(status.value): {"description": problems[status], "content": {PROBLEM: schema}}
        for status in sorted(problems)
    }


def _parameter(found: Parameter) -> dict[str, Any]:
    return {
        "name": found.name,
        "in": found.where,
        "description": found.summary,
        "required": found.where == "path",
        "schema": dict(found.schema),
    }


def _schema(schema: Any) -> dict[str, Any]:
    """The schema, or a reference to it if it has a name."""
    name = next((name for name, known in _NAMED.items() if known is schema), None)
    return dict(schema) if name is None else {"$ref": f"#/components/schemas/{name}"}
