"""The kit against nodes of the protocol without sealspace's own routes."""

import pytest
from relay import Answer, relay_before
from sealspace_conformance.catalogue import run_groups
from sealspace_conformance.expectations import problem
from sealspace_conformance.report import FAILED, NOT_APPLICABLE, PASSED
from sealspace_conformance.run import Run
from sealspace_conformance.transport import Answer as Received
from sealspace_conformance.transport import node_at

SEALSPACE = {"oidcDid": "did:key:z6Mk"}
PAGE = Received(404, {"content-type": "text/html"}, b"<h1>404</h1>")


@pytest.mark.parametrize(
    ("info", "verdict"), [({}, PASSED), (SEALSPACE, FAILED)], ids=["another node", "sealspace"]
)
async def test_H2_the_form_of_errors(info: dict[str, str], verdict: str) -> None:
    """H2: of other nodes' errors before a route runs the status counts alone."""
    async with node_at("http://127.0.0.1") as node:
        run = Run(node, info=info)
        run.judge("H2", "a page", problem(404), PAGE)
        run.judge("H2", "more", problem(404).and_that("a text", lambda one: bool(one.body)), PAGE)
    assert [row.verdict for row in run.rows] == [verdict, verdict]


async def test_H2_what_counts_on_other_nodes_too() -> None:
    """Another status, a further demand, and the codes of our own routes are compared."""
    async with node_at("http://127.0.0.1") as node:
        run = Run(node)
        run.judge("H2", "another status", problem(401), PAGE)
        run.judge("H2", "more", problem(404).and_that("no text", lambda one: not one.body), PAGE)
        run.judge("H2", "a code", problem(404, "network-unknown"), PAGE)
    assert [row.verdict for row in run.rows] == [FAILED, FAILED, FAILED]


async def test_our_node_as_another_one(node_url: str) -> None:
    """Our node passes as a node of the protocol alone: what it adds is not applicable."""

    def twist(answer: Answer) -> None:
        if answer.path == "/info":
            answer.drop("oidcDid")

    async with relay_before(node_url) as relay:
        relay.twist = twist
        run, _ = await run_groups(
            relay.url,
            only=[
                "vectors",
                "more-revocations",
                "networks",
                "key-requests",
                "releases",
                "accounts",
            ],
        )
    assert [row for row in run.rows if row.verdict == FAILED] == []
    rules = {row.rule for row in run.rows if row.verdict == NOT_APPLICABLE}
    assert rules == {"EN28", "RL5", "V5", "5.4"}
    assert {"EN12", "EN18", "EN21"} <= {row.rule for row in run.rows if row.verdict == PASSED}
