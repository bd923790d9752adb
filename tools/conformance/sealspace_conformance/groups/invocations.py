"""Calls: replay, lifetime, audience, signature, and the rights behind them."""

from typing import Any

from sealspace_conformance.expectations import data, empty, json_body, problem, text
from sealspace_conformance.groups.delegations import (
    GET,
    LIST,
    PUT,
    UNKNOWN_PARENT,
    Chain,
    selector,
)
from sealspace_conformance.groups.sign_in import ANOTHER_KIND, BAD_SIGNATURE
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.run import Owner, Run, fresh_name
from sealspace_conformance.tokens import Grants, Token, Ucan, plain

_DUPLICATE = "duplicate invocation"


async def calls(run: Run) -> None:
    """Check a call's own properties: its use, window, signature, audience and kind."""
    owner = run.hosted_owner()
    path = fresh_name()
    resource = {f"{owner.space()}/kv/{path}": plain(GET)}
    await run.prepare("a value", run.kv_call("put", path), body=b"value")
    await _uses(run, path)

    def session_call(**changes: Any) -> Token:
        return run.call(owner.session, resource, proofs=[owner.sign_in], **changes)

    outside = text(401, "Invocation expired or not yet valid")
    await run.invoke("I2", "a call that has ended", outside, session_call(lifetime_s=-5))
    await run.invoke(
        "I2", "a call that has not begun", outside, session_call(not_before=run.now() + 30)
    )
    await run.invoke(
        "I4",
        "a call that lives for ten minutes",
        text(401, "Invocation lifetime exceeds server maximum"),
        session_call(lifetime_s=600),
    )
    await run.invoke(
        "I4", "a call that lives for 290 seconds", data(b"value"), session_call(lifetime_s=290)
    )
    await run.invoke("E5", "a call without a token", problem(401), "")
    await run.invoke("E1", "a call behind Bearer", problem(401), f"Bearer {session_call().text}")
    await _signatures(run, owner, resource)
    await run.invoke(
        "T8", "a call to the node's DID", data(b"value"), session_call(audience=run.did)
    )
    await run.invoke(
        "T8",
        "a call to another node",
        text(401, ANOTHER_KIND),
        session_call(audience=new_key().did),
    )
    await _kinds(run, owner, resource)


async def _uses(run: Run, path: str) -> None:
    once = run.kv_call("get", path)
    await run.invoke("I20", "a call", data(b"value"), once)
    await run.invoke("I12", "the same call again", text(409, _DUPLICATE), once)
    write = run.kv_call("put", path)
    await run.prepare("a write", write, body=b"value")
    await run.invoke(
        "I20", "the same write again, with another body", text(409, _DUPLICATE), write, body=b"x"
    )
    refused = run.call(new_key(), {f"{run.known_owner.space()}/kv/{path}": plain(GET)})
    await run.invoke("I31", "a stranger's call", text(401, UNKNOWN_PARENT), refused)
    await run.invoke("I12", "the refused call again", text(409, _DUPLICATE), refused)
    await run.invoke(
        "I22", "another call for the same value", data(b"value"), run.kv_call("get", path)
    )


async def _signatures(run: Run, owner: Owner, resource: Grants) -> None:
    forged = Ucan(
        signer=new_key(),
        audience=owner.session.did,
        grants=resource,
        ends_at=run.now() + 60,
        proofs=[owner.sign_in.cid],
        payload={"iss": owner.session.url},
    ).sign()
    await run.invoke(
        "I3", "a call in the session's name by another key", text(401, BAD_SIGNATURE), forged
    )


async def _kinds(run: Run, owner: Owner, resource: Grants) -> None:
    own = run.call(owner.session, resource, proofs=[owner.sign_in])
    await run.prepare("a grant to itself", own)
    await run.invoke("T9", "a call that was registered as a grant", text(401, ANOTHER_KIND), own)
    target = f"urn:cid:{owner.sign_in.cid}"
    for ability in ("tinycloud.delegation/revoke", "tinycloud.delegation/status"):
        await run.invoke(
            "T12",
            f"a token for {ability} as a call",
            text(401, ANOTHER_KIND),
            run.call(owner.session, {target: plain(ability)}),
        )


async def rights(run: Run) -> None:
    """Check which grants cover a call."""
    owner = run.hosted_owner()
    chain = Chain(run, owner)
    await chain.register()
    await run.invoke(
        "I34", "read with a grant", data(b"for Bob"), chain.get(chain.bob, chain.to_bob)
    )
    beside = run.kv_call("put", f"{chain.folder}/shared2/x")
    await run.prepare("a value beside", beside, body=b"not for Bob")
    listing = run.call(chain.bob, {chain.kv("shared"): plain(LIST)}, proofs=[chain.to_bob])
    await run.invoke(
        "Q15",
        "list with a grant of a folder, beside a longer name",
        json_body([f"{chain.folder}/shared/x"]),
        listing,
    )
    space = owner.space()
    refusals = (
        ("a neighbouring path", chain.kv("shared2/x"), GET),
        ("a wider path", f"{space}/kv/{chain.folder}", LIST),
        ("no path", f"{space}/kv", LIST),
        ("another ability", chain.kv("shared/x"), PUT),
        ("another service", f"{space}/sql/{chain.folder}/shared/x", "tinycloud.sql/read"),
        (
            "another space",
            f"{owner.space('secrets')}/kv/{chain.folder}/shared/x",
            GET,
        ),
    )
    for asked, resource, ability in refusals:
        token = run.call(chain.bob, {resource: plain(ability)}, proofs=[chain.to_bob])
        await run.invoke(
            "I36",
            f"call with {asked}",
            text(401, f"Unauthorized Action: {resource} / {ability}"),
            token,
            body=b"x",
        )
    await _proofs(run, chain)
    await _existence(run, chain)


async def _proofs(run: Run, chain: Chain) -> None:
    unposted = run.grant(
        chain.owner.session,
        chain.bob,
        {chain.kv("shared"): plain(GET)},
        proofs=[chain.owner.sign_in],
    )
    missing = text(401, UNKNOWN_PARENT)
    await run.invoke("I31", "call without a proof", missing, chain.get(chain.bob))
    await run.invoke(
        "I31", "call with a grant that was never posted", missing, chain.get(chain.bob, unposted)
    )
    twice = chain.get(chain.bob, chain.to_bob, chain.to_bob)
    await run.invoke("I31", "call with a grant cited twice", missing, twice)
    stolen = chain.get(chain.mallory, chain.to_bob)
    await run.invoke(
        "I32", "call with a grant to somebody else", text(401, "Unauthorized Invoker"), stolen
    )
    below = chain.passed_on({chain.kv("shared/y"): plain(GET)})
    await run.prepare("a grant passed on", below)
    await run.invoke(
        "I34",
        "call what only an ancestor of the grant has",
        text(401, f"Unauthorized Action: {chain.kv('shared/x')} / {GET}"),
        chain.get(chain.carol, below),
    )
    skipping = chain.get(chain.carol, chain.to_bob)
    await run.invoke(
        "I32", "call with the parent of one's grant", text(401, "Unauthorized Invoker"), skipping
    )
    foreign = f"tinycloud:{chain.mallory.did.removeprefix('did:')}:default/kv/x"
    two = run.call(
        chain.bob,
        {chain.kv("shared/x"): plain(GET), foreign: plain(GET)},
        proofs=[chain.to_bob],
    )
    await run.invoke(
        "I37",
        "call two spaces with a right to one",
        text(401, f"Unauthorized Action: {foreign} / {GET}"),
        two,
    )


async def _existence(run: Run, chain: Chain) -> None:
    there = await run.node.send(
        "POST", "/invoke", token=chain.get(chain.mallory, chain.to_bob).text
    )
    absent = await run.node.send(
        "POST", "/invoke", token=chain.get(chain.mallory, chain.to_bob, path="shared/no").text
    )
    run.compare(
        "Q5",
        "a stranger asks for a value that exists, and for one that does not",
        "the same refusal",
        holds=there.status == absent.status == 401 and there.body == absent.body,
        seen=f"{there.status} {there.text}; {absent.status} {absent.text}",
    )


async def conditions(run: Run) -> None:
    """Check caveats of a grant when it is used. Only an owner with a key can state them (S5)."""
    run.hosted_owner()
    root = new_key()
    reader = new_key()
    space = f"tinycloud:{root.did.removeprefix('did:')}:default"
    shared = f"{space}/kv/shared"
    exact = [selector("exact", f"{shared}/x")]
    grant = run.grant(root, reader, {shared: {GET: exact}}, proofs=[])
    odd = [{"type": "conformance.test/unknown", "limit": 1}]
    unknown = run.grant(root, reader, {shared: {GET: odd}}, proofs=[])
    for token in (grant, unknown):
        await run.prepare("a grant with a caveat", token)
    write = run.call(root, {f"{shared}/x": plain(PUT)})
    await _host(run, root, space)
    answer = await run.node.send("POST", "/invoke", token=write.text, body=b"selected")
    if answer.status == 404:
        why = "this node does not host the space of an owner with a key"
        run.not_applicable("I39", "use grants with caveats", why)
        return
    prefix = "invocation-caveats-not-subset-of-chain"
    await run.invoke(
        "I39",
        "read what the selector admits",
        data(b"selected"),
        run.call(reader, {f"{shared}/x": {GET: exact}}, proofs=[grant]),
    )
    await run.invoke(
        "I39",
        "read what the selector does not admit",
        text(401, f"{prefix}: selector-caveat-not-met"),
        run.call(reader, {f"{shared}/y": {GET: exact}}, proofs=[grant]),
    )
    await run.invoke(
        "I35",
        "read without repeating the selector",
        text(401, f"{prefix}: {prefix}"),
        run.call(reader, {f"{shared}/x": plain(GET)}, proofs=[grant]),
    )
    await run.invoke(
        "I39",
        "use a grant with a caveat of an unknown type",
        text(401, f"{prefix}: caveat-not-understood"),
        run.call(reader, {f"{shared}/x": {GET: odd}}, proofs=[unknown]),
    )


async def _host(run: Run, owner: Key, space: str) -> None:
    """Ask the node to host a space of an owner with a key by a grant (D40), if it needs one."""
    peer = await run.node.send("GET", f"/peer/generate/{space}")
    if peer.text.startswith("did:"):
        hosting = {f"{space}/space": plain("tinycloud.space/host")}
        grant = run.call(owner, hosting, audience=peer.text.strip())
        await run.node.send("POST", "/delegate", token=grant.text)


async def owners_with_a_key(run: Run) -> None:
    """Check an owner whose DID is a key, who needs no sign-in (U7)."""
    run.hosted_owner()
    key = new_key()
    space = f"tinycloud:{key.did.removeprefix('did:')}:default"
    resource = f"{space}/kv/x"
    await _host(run, key, space)
    answer = await run.node.send(
        "POST", "/invoke", token=run.call(key, {resource: plain(PUT)}).text, body=b"own"
    )
    if answer.status == 404:
        why = "this node does not host the space of an owner with a key"
        run.not_applicable("U7", "a first write by a key", why)
        return
    run.judge("U7", "a first write by a key that owns the space", empty(200), answer)
    await run.invoke(
        "I30", "read it without a proof", data(b"own"), run.call(key, {resource: plain(GET)})
    )
    await run.invoke(
        "Q13",
        "read it with a proof that nobody knows",
        text(401, UNKNOWN_PARENT),
        run.call(key, {resource: plain(GET)}, proofs=[run.kv_call("get", "x")]),
    )
    await run.invoke(
        "A7",
        "an ability that nobody knows",
        empty(200),
        run.call(key, {f"{space}/kv/x": plain("conformance.test/do")}),
    )
