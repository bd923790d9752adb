"""Generator of `node/http/routes/openapi.json`: the routes in OpenAPI 3.1, from the route table.

Each path is one line of the file. This module adds what a row of the table does not contain: the
refusals that follow from its surface, authority and body, and answers of the HTTP server.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from tests_support import REPOSITORY

from node.config.tree import Http
from node.http.messages.error_answers import AnsweredRoute, ErrorResponse, StorageRefused, reason_of
from node.http.messages.refusals import GROUPS, TABLE
from node.http.messages.route import Authority, ResponseShape, Route
from node.http.routes.route_table import ROUTES
from node.operations.operation_table import TABLE as ABILITIES
from sealspace import __version__
from serving.listener import MAX_HEADER_LINES, MAX_TARGET_BYTES

PAGE = REPOSITORY / "node" / "http" / "routes" / "openapi.json"

Json = dict[str, Any]  # of the document, whose members are of any kind

_ABOUT = f"""\
The HTTP surface of a sealspace node. HEAD is accepted wherever GET is, OPTIONS on every path, and a
trailing `/` is ignored. Other paths, and other methods on a path of the tag `wire`, are answered
404; on a path of the tag `own` other methods are 405 with `Allow`. Every method but OPTIONS is
answered 404 below `/hooks`, and 501 below `/policy/v3` and `/share`.

Refusals of the tag `own` are `application/problem+json`, whose `code` is stable. Those of the tag
`wire` are a text, or JSON with a text in it, or `application/problem+json`, or `{{"error"}}` for a
client that accepts `application/json`. Each answer lists its codes; spec/refusals.md explains them.

A request has at most {MAX_HEADER_LINES} header lines, header values of
{Http().max_header_line_bytes} bytes and a target of {MAX_TARGET_BYTES} bytes. Sizes that settings
may change are given with their defaults. spec/wire.md describes the routes.
"""
_TOKENS: Mapping[Authority, str] = {
    "delegation": (
        "A delegation: a UCAN as a JWT, or a signed-in message as CACAO in base64url. Raw, without"
        " `Bearer`."
    ),
    "revocation": (
        "A revocation: a UCAN as a JWT, or a signed message as CACAO in base64url. Raw, without"
        " `Bearer`."
    ),
    "invocation": "An invocation: a UCAN as a JWT, by the key that calls. Raw, without `Bearer`.",
    "node invocation": "An invocation whose audience is this node's DID. Raw, without `Bearer`.",
}
_OPERATOR_CODES = frozenset({"operator-locked", "operator-absent"})
_BODY_CODES = frozenset({"not-readable", "too-large", "too-slow"})
_NO_TYPE_GIVEN = (
    "The content type is the one that the value was stored with, if it was stored with one."
)
# What a client gets before or beside every route: status, and whether it has a problem.
_SERVER_ANSWERS = {400: True, 408: False, 414: False, 417: True, 431: False}
_PAGE_SCHEMA: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "reason", "description"],
            "properties": {
                "code": {"type": "integer"},
                "reason": {"type": "string"},
                "description": {"type": "string"},
            },
        }
    },
}
_PROBLEM_MEMBERS = ("type", "title", "status", "code", "request_id", "hint")


def described() -> tuple[Route, ...]:
    """Return the rows of the document, without those that answer any path or method."""
    return tuple(route for route in ROUTES if route.method not in ("*", "OPTIONS"))


def codes_of(route: Route) -> frozenset[str]:
    """Return the codes of all refusals of a route."""
    codes = frozenset(route.refuses) | {"internal", "too-many-requests"}
    if route.authority == "operator":
        codes |= _OPERATOR_CODES
    elif route.authority != "none":
        codes |= GROUPS["tokens"] | {"unauthenticated"}
    if route.takes is not None:
        codes |= _BODY_CODES
    return codes | ({"not-found"} if route.json else frozenset())


def page() -> str:
    """Return the whole document."""
    top = document()
    paths, components = top.pop("paths"), top.pop("components")
    lines = [f"{json.dumps(name)}:{_compact(member)}" for name, member in top.items()]
    for name, members in (("components", components), ("paths", paths)):
        inner = ",\n".join(
            f"{json.dumps(key)}:{_compact(member)}" for key, member in sorted(members.items())
        )
        lines.append(f'"{name}":{{\n{inner}\n}}')
    return "{" + ",\n".join(lines) + "}\n"


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def document() -> Json:
    """Return the document."""
    routes = described()
    types = [given.shape for route in routes for given in route.answers if _is_json(given)]
    types.append(StorageRefused)
    types += [
        route.takes.shape
        for route in routes
        if route.takes is not None and route.takes.shape is not None
    ]
    schemas, named = msgspec.json.schema_components(
        types,
        schema_hook=lambda _anything: {"description": "Any JSON."},
        ref_template="#/components/schemas/{name}",
    )
    schema_of = {repr(one): schema for one, schema in zip(types, schemas, strict=True)}
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sealspace node",
            "version": __version__,
            "summary": "Capability-based key-value spaces and secrets",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "wire", "description": "The TinyCloud protocol: errors are texts and pages."},
            {
                "name": "own",
                "description": "This server's own routes: errors are application/problem+json.",
            },
        ],
        "components": {
            "schemas": {
                **{name: _without_titles(schema) for name, schema in named.items()},
                "PageError": _PAGE_SCHEMA,
                "Problem": {
                    "type": "object",
                    "required": list(_PROBLEM_MEMBERS),
                    "properties": {
                        **{name: {"type": "string"} for name in _PROBLEM_MEMBERS},
                        "status": {"type": "integer"},
                    },
                },
            },
            "responses": {str(status): _server_answer(status) for status in _SERVER_ANSWERS},
            "securitySchemes": {
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The operator's secret.",
                },
                **{
                    _scheme(name): {
                        "type": "apiKey",
                        "in": "header",
                        "name": "Authorization",
                        "description": text,
                    }
                    for name, text in _TOKENS.items()
                },
            },
        },
        "paths": paths,
    }


def _operation(route: Route, schema_of: Mapping[str, Json]) -> Json:
    operation: Json = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.template}").strip("_"),
        "summary": _summary(route),
        "tags": [route.surface],
        "parameters": list(_parameters(route)),
        "responses": _responses(route, schema_of),
        "security": [] if route.authority == "none" else [{_scheme(route.authority): []}],
    }
    if route.takes is not None:
        most = Http().max_body_bytes if route.takes.max_bytes is None else route.takes.max_bytes
        schema = {} if route.takes.shape is None else schema_of[repr(route.takes.shape)]
        operation["requestBody"] = {
            "description": f"At most {most} bytes.",
            "required": route.takes.shape is not None,
            "content": {
                "application/json" if route.takes.shape is not None else "*/*": {"schema": schema}
            },
        }
        operation["x-max-body-bytes"] = most
    if route.operation is None:
        operation["x-abilities"] = sorted({row.ability for row in ABILITIES})
    return operation


def _parameters(route: Route) -> Iterator[Json]:
    for name in re.findall(r"\{(\w+)\}", route.template):
        said = {"description": "May contain `/`."} if f"{{{name}:.*}}" in route.path else {}
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            **said,
        }
    for name in route.query:
        yield {"name": name, "in": "query", "schema": {"type": "string"}}
    for name in route.headers:
        yield {"name": name, "in": "header", "schema": {"type": "string"}}


def _summary(route: Route) -> str:
    """Return the first paragraph of a handler's docstring, without its route and rule ids."""
    first = " ".join((route.handler.__doc__ or "").partition("\n\n")[0].split())
    said = re.sub(r"^[A-Z]+ /[^ :]*( and /\w+)?( `[^`]*`)?( -> |: |, (?=with ))", "", first)
    said = re.sub(r" \([A-Z]+\d+[^)]*\)", "", said)
    return said[:1].upper() + said[1:]


def _responses(route: Route, schema_of: Mapping[str, Json]) -> Json:
    answers: dict[int, Json] = {}
    for given in route.answers:
        _add_given(answers.setdefault(given.status, _answer(given.status)), given, schema_of)
    codes: dict[int, list[str]] = {}
    for code in sorted(codes_of(route)):
        for status, content in _forms(route, TABLE[code], code):
            answer = answers.setdefault(status, _answer(status))
            _merge(answer.setdefault("content", {}), content)
            if code not in codes.setdefault(status, []):
                codes[status].append(code)
            if TABLE[code].retry_after_s is not None:
                answer.setdefault("headers", {})["Retry-After"] = {"schema": {"type": "integer"}}
    for status, listed in codes.items():
        if route.surface == "own":
            code_schema = {"properties": {"code": {"enum": listed}}}
            problem = {"allOf": [{"$ref": "#/components/schemas/Problem"}, code_schema]}
            answers[status]["content"]["application/problem+json"] = {"schema": problem}
        else:
            answers[status]["description"] += f": {', '.join(listed)}"
    # a part with a brace in it fits no placeholder, and finds no route
    if re.search(r"\{\w+\}", route.path):
        _merge(answers.setdefault(404, _answer(404)).setdefault("content", {}), _problem())
    for status, has_problem in _SERVER_ANSWERS.items():
        if status not in answers:
            answers[status] = {"$ref": f"#/components/responses/{status}"}
        elif has_problem:
            _merge(answers[status].setdefault("content", {}), _problem())
    return {str(status): answer for status, answer in sorted(answers.items())}


def _add_given(answer: Json, given: ResponseShape, schema_of: Mapping[str, Json]) -> None:
    for name in given.headers:
        answer.setdefault("headers", {})[name] = {"schema": {"type": "string"}}
    if _is_json(given):
        _merge(
            answer.setdefault("content", {}),
            {"application/json": {"schema": schema_of[repr(given.shape)]}},
        )
    elif given.shape is str:
        answer.setdefault("content", {}).update(_text())
    elif given.media is not None:
        answer.setdefault("content", {})[given.media] = {"schema": {"type": "string"}}
    elif given.shape is bytes:
        answer["description"] += f". {_NO_TYPE_GIVEN}"
        answer.setdefault("content", {})["*/*"] = {"schema": {}}


def _forms(route: Route, row: ErrorResponse, code: str) -> Iterator[tuple[int, Json]]:
    """Yield each status and content type with which a route returns a code."""
    if route.surface == "own":
        yield row.status, {"application/problem+json": {}}
        return
    places: tuple[AnsweredRoute | None, ...] = (
        (route.place,) if route.operation is not None else (None, "invoked-decrypt")
    )
    for place in places:
        other = None if place is None else row.by_route.get(place)
        if other is not None:
            yield other.status, _text()
        else:
            yield row.status, _body_of(row)


def _body_of(row: ErrorResponse) -> Json:
    if row.body == "problem":
        return _problem()
    if row.body == "storage":
        reference = f"#/components/schemas/{StorageRefused.__name__}"
        return {"application/json": {"schema": {"$ref": reference}}}
    return _text()


def _server_answer(status: int) -> Json:
    return {**_answer(status), **({"content": _problem()} if _SERVER_ANSWERS[status] else {})}


def _answer(status: int) -> Json:
    return {"description": reason_of(status)}


def _text() -> Json:
    return {"text/plain": {"schema": {"type": "string"}}}


def _problem() -> Json:
    return {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
        "application/json": {"schema": {"$ref": "#/components/schemas/PageError"}},
    }


def _merge(content: Json, more: Json) -> None:
    """Add media types to those of an answer; a media type in both accepts either schema."""
    for media, form in more.items():
        if content.setdefault(media, form) != form:
            known: Json = content[media]
            either: list[Json] = known["schema"].get("anyOf", [known["schema"]])
            if form["schema"] not in either:
                content[media] = {"schema": {"anyOf": [*either, form["schema"]]}}


def _is_json(given: ResponseShape) -> bool:
    return given.shape not in (None, str, bytes)


def _scheme(authority: str) -> str:
    return authority.replace(" ", "-")


def _without_titles(schema: Json) -> Json:
    """Return a schema without its title, and with its description on one line."""
    kept = {name: member for name, member in schema.items() if name != "title"}
    if "description" in kept:
        kept["description"] = kept["description"].partition("\n")[0]
    return kept
