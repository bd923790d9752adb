"""Checks of answers against the description in `/openapi.json`.

Example:
    assert openapi_mismatch("GET", "/info", 200, {"content-type": "application/json"}, body) == ""
"""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

import node.http.routes

DOCUMENT: dict[str, Any] = json.loads(
    Path(node.http.routes.__file__).with_name("openapi.json").read_text("utf-8")
)
_NOT_OFFERED = ("/policy/v3/", "/share/")


def closed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description whose objects allow no additional members."""
    tight = deepcopy(dict(document))
    for schema in tight["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return tight


def _segment(part: str) -> str:
    """Return a pattern for a part of a path: a placeholder, or a literal text."""
    if part in ("{key}", "{path}"):
        return ".*"
    if part.startswith("{"):
        return "[^/]+"
    return re.escape(part)


_CLOSED = closed(DOCUMENT)
# Of two templates that fit, the one with fewer placeholders comes first in the route table.
_TEMPLATES = [
    (re.compile("".join([_segment(part) for part in re.split(r"(\{\w+\})", path)])), path)
    for path in sorted(DOCUMENT["paths"], key=lambda path: path.count("{"))
]


def template_of(target: str) -> str | None:
    """Return the described path that a request target matches."""
    path = re.sub(r"^(.+)/$", r"\1", target.partition("?")[0])
    return next((template for pattern, template in _TEMPLATES if pattern.fullmatch(path)), None)


def openapi_mismatch(
    method: str, target: str, status: int, headers: Mapping[str, str], body: bytes
) -> str:
    """Return how an answer differs from the description; empty if it matches.

    Args:
        method: of the request.
        target: its path, with or without a query.
        status: of the answer.
        headers: of the answer, names in lower case.
        body: of the answer.
    """
    # of no well-formed request: what a server takes for its path is its own affair
    if "#" in target:
        return ""
    template = template_of(target)
    operations = {} if template is None else DOCUMENT["paths"][template]
    operation = operations.get("get" if method == "HEAD" else method.lower())
    asked = f"{method} {template or 'an unknown path'}"
    if operation is None:
        return (
            ""
            if status in _undescribed(method, target, operations)
            else f"{asked}: status {status}"
        )
    answer = operation["responses"].get(str(status))
    if answer is None:
        return f"{asked}: status {status}"
    content = _resolved(answer).get("content", {})
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method == "HEAD" or not body:
        return ""
    if media not in content and "*/*" not in content:
        return f"{asked}: {status} as {media or 'bytes without a type'}"
    if media.endswith("json") and media in content:
        errors = _validator(json.dumps(content[media]["schema"])).iter_errors(json.loads(body))
        return next((f"{asked}: {status}: {error}" for error in errors), "")
    return ""


def is_documented_code(method: str, template: str, status: int, code: str | None) -> bool:
    """Return whether the route answers this code with this status, according to the description."""
    operations = DOCUMENT["paths"].get(template, {})
    operation = operations.get("get" if method == "HEAD" else method.lower())
    if code is None or operation is None:
        return True
    return (
        re.search(
            rf"(?<![\w-]){code}(?![\w-])", json.dumps(operation["responses"].get(str(status)))
        )
        is not None
    )


def _undescribed(method: str, target: str, operations: Mapping[str, Any]) -> set[int]:
    """Return the statuses that the description covers in its preamble."""
    before = {400, 408, 414, 417, 429, 431}
    if method == "OPTIONS":
        return before | {200, 204}
    if target.startswith(_NOT_OFFERED):
        return before | {501}
    is_own = any(operation["tags"] == ["own"] for operation in operations.values())
    return before | {405 if is_own else 404} | ({503} if target.startswith("/admin") else set())


def _resolved(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = answer.get("$ref")
    found: Mapping[str, Any] = (
        answer if reference is None else DOCUMENT["components"]["responses"][reference[-3:]]
    )
    return found


@cache
def _validator(schema: str) -> Any:  # of a library without one name for its validators
    return jsonschema_rs.validator_for(
        {**json.loads(schema), "components": {"schemas": _CLOSED["components"]["schemas"]}}
    )
