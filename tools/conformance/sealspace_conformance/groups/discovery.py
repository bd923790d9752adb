"""What a node says about itself, and how it answers what it does not know."""

import re

from sealspace_conformance.expectations import (
    Expectation,
    empty,
    is_same_json,
    members,
    problem,
    status,
)
from sealspace_conformance.keys import new_key
from sealspace_conformance.run import Run
from sealspace_conformance.transport import Answer

_DID = re.compile(r"did:[a-z0-9]+:[\x21-\x7e]+")
_TRACE = re.compile(r"[0-9a-f]{32}")
_LONG_TARGET = 70_000
_NOT_OFFERED = (
    # Clients repeat a request for hooks as long as the answer is 5xx (Q7).
    ("/hooks/conformance", "hooks", 404, "Hooks support is not enabled on this node"),
    ("/policy/v3/conformance", "policy", 501, "Policy v3 support is not enabled on this node"),
    ("/share/conformance", "share", 501, "Share support is not enabled on this node"),
)


def describes_a_node(answer: Answer) -> str:
    """Return how an answer of `/info` differs from that of a node (J1); empty if it does not."""
    if answer.status != 200:
        return "another status"
    if not is_same_json(answer.object.get("protocol"), 1):
        return "protocol is not the number 1"
    did = answer.object.get("nodeId")
    if not isinstance(did, str) or not _DID.fullmatch(did):
        return "nodeId is not a DID"
    return ""


NODE = Expectation("200, a JSON object with protocol 1 and a DID as nodeId", describes_a_node)


async def discovery(run: Run) -> None:
    """Check the reading routes, the headers of answers, and unknown routes."""
    await run.ask("5.1", "GET /version", members({"nodeId": run.did}), "GET", "/version")
    await run.ask("5.1", "GET /healthz", empty(200), "GET", "/healthz")
    secured = status(200).and_that("the headers of H6, and a trace id", _has_headers)
    await run.ask("H6", "the headers of an answer", secured, "GET", "/info")
    await run.ask("H2", "an unknown route", problem(404), "GET", "/no/such/route")
    await run.ask("H10", "a route with an escape in it", problem(404), "GET", "/%69nfo")
    await run.ask("7.1", "a route with a slash behind it", NODE, "GET", "/info/")
    await run.ask("H5", "a target of 70,000 bytes", status(414), "GET", "/" + "a" * _LONG_TARGET)
    await _peer(run)
    keys = members({"nodeDid": run.did})
    await run.ask("7.1", "the node's keys", keys, "GET", "/.well-known/tinycloud/node-keys")
    closed = status(401, 503).and_that("no list", lambda answer: "overrides" not in answer.object)
    await run.ask("5.12", "an operator's route without the secret", closed, "GET", "/admin/quota")
    for path, feature, number, words in _NOT_OFFERED:
        if feature in run.features or not run.is_sealspace:
            run.not_applicable("7.2", path, f"the node offers {feature}, or may offer it")
            continue
        await run.ask("7.2", path, _is_text(number, words), "GET", path)


def _is_text(number: int, words: str) -> Expectation:
    return status(number).and_that(words, lambda answer: answer.text == words)


async def _peer(run: Run) -> None:
    suffix = new_key().did.removeprefix("did:")
    path = f"/peer/generate/tinycloud:{suffix}:default"
    named = status(200).and_that("a DID without a line end", _is_a_did)
    first = await run.ask("J3", "the DID that a host grant may name", named, "GET", path)
    again = await run.node.send("GET", path)
    run.compare(
        "5.1",
        "the same question again",
        "the same DID, which is derived from the space",
        holds=bool(first.text) and first.text == again.text,
        seen=again.failure or again.text,
    )


def _is_a_did(answer: Answer) -> bool:
    return _DID.fullmatch(answer.text) is not None


def _has_headers(answer: Answer) -> bool:
    return (
        answer.headers.get("x-content-type-options") == "nosniff"
        and answer.headers.get("x-frame-options") == "SAMEORIGIN"
        and answer.headers.get("permissions-policy") == "interest-cohort=()"
        and _TRACE.fullmatch(answer.headers.get("tinycloud-trace-id", "")) is not None
    )
