"""The form of requests: content types, JSON, sizes, and services that a node does not offer."""

import json

from sealspace_conformance.expectations import Expectation, problem, status, text
from sealspace_conformance.groups.delegations import GET, PUT
from sealspace_conformance.groups.networks import NETWORKS
from sealspace_conformance.run import Owner, Run, fresh_name
from sealspace_conformance.tokens import Token, plain

_JSON = {"content-type": "application/json"}
_STATUS = "/delegation/status"
_LONGEST_KEY = 100_000
_LARGEST_BODY = 1_000_000
_MOST_CAPABILITIES = 1024
_MOST_PROOFS = 256
_MOST_NESTED = 64
_MOST_SPACES = 64


async def forms(run: Run) -> None:
    """Check what is refused for its form."""
    owner = run.hosted_owner()
    await _bodies(run, owner)
    await _sizes(run, owner)
    await _tokens(run, owner)
    duck = run.call(owner.session, {f"{owner.space()}/duckdb/x": plain("tinycloud.duckdb/read")})
    await run.invoke(
        "I8",
        "a DuckDB capability without a right to it",
        text(401, "Cannot find parent delegation"),
        duck,
        body=b"{}",
    )


async def _bodies(run: Run, owner: Owner) -> None:
    target = owner.sign_in.cid

    async def ask(asked: str, expected: Expectation, body: bytes, **headers: str) -> None:
        about = {f"urn:cid:{target}": plain("tinycloud.delegation/status")}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        await run.ask(
            "H4",
            asked,
            expected,
            "POST",
            _STATUS,
            token=run.call(owner.session, about),
            body=body,
            headers=sent,
        )

    good = json.dumps({"cid": target}).encode()
    await ask("a JSON route without a content type", status(404), good)
    await ask("a JSON route for another content type", status(404), good, content_type="text/plain")
    parameters = "application/json; charset=utf-8"
    await ask("a JSON route for JSON with a parameter", status(200), good, content_type=parameters)
    await ask("bad JSON", problem(400), b'{"cid":', content_type="application/json")
    await ask("JSON of another shape", problem(422), b'{"id":7}', content_type="application/json")
    array = json.dumps([target]).encode()
    await ask(
        "an array of an object's members", problem(422), array, content_type="application/json"
    )


async def _sizes(run: Run, owner: Owner) -> None:
    long_key = fresh_name() + "a" * _LONGEST_KEY
    await run.invoke(
        "M55",
        "put under a key of more than 100,000 bytes",
        status(400),
        run.kv_call("put", long_key),
    )
    large = b'{"name":"' + b"a" * _LARGEST_BODY + b'"}'
    creating = {owner.network("kit"): plain("tinycloud.encryption/network.create")}
    await run.ask(
        "H5",
        "a body of more than 1,000,000 bytes for a network",
        status(413),
        "POST",
        NETWORKS,
        token=run.call(owner.session, creating, audience=run.did, proofs=[owner.sign_in]),
        body=large,
        headers=_JSON,
    )
    many = {f"x-conformance-{number}": "1" for number in range(120)}
    await run.ask("H5", "120 header lines", status(431), "GET", "/info", headers=many)


async def _tokens(run: Run, owner: Owner) -> None:
    resource = f"{owner.space()}/kv/x"
    many = {f"{owner.space()}/kv/{number}": plain(GET) for number in range(_MOST_CAPABILITIES + 1)}
    nested: object = 1
    for _ in range(_MOST_NESTED + 1):
        nested = [nested]
    proof = owner.sign_in.cid
    too_many_proofs = [proof] * (_MOST_PROOFS + 1)
    rights = {resource: plain(GET)}
    cases: tuple[tuple[str, Token], ...] = (
        ("1,025 capabilities", run.call(owner.session, many, proofs=[proof])),
        ("257 proofs", run.call(owner.session, rights, proofs=too_many_proofs)),
        ("257 facts", run.call(owner.session, rights, proofs=[proof], facts=[1] * 257)),
        ("facts nested 65 deep", run.call(owner.session, rights, proofs=[proof], facts=[nested])),
    )
    for asked, token in cases:
        await run.invoke("2.7", f"a token with {asked}", problem(401), token)
    own = owner.wallet.did.removeprefix("did:")
    spaces = {f"tinycloud:{own}:s{number}/kv": plain(PUT) for number in range(_MOST_SPACES + 1)}
    wide = run.call(
        owner.session, spaces, audience=owner.session.did, proofs=[proof], lifetime_s=600
    )
    await run.delegate("2.7", "a delegation with 65 spaces", status(400, 401), wide)
