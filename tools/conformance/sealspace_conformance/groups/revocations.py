"""Revocation: by whom, of what, and what ends with it; status and lists of delegations."""

import json
from collections.abc import Mapping
from typing import Any

from sealspace_conformance.expectations import data, json_body, members, status, text
from sealspace_conformance.groups.delegations import GET, Chain
from sealspace_conformance.groups.sign_in import ANOTHER_KIND, respell
from sealspace_conformance.keys import Key, new_key
from sealspace_conformance.run import Owner, Run
from sealspace_conformance.tokens import SignIn, Token, plain, wallet_revocation
from sealspace_conformance.transport import Answer

_REVOKE = "tinycloud.delegation/revoke"
_STATUS = "tinycloud.delegation/status"
_JSON = {"content-type": "application/json"}
_UNKNOWN = "bafkr4icirrvuxv7lh3w2mlk3rlsjqdsw4jftqlcclmgc7abf4hthohxruy"


def revocation(run: Run, signer: Key, *targets: str, **changes: Any) -> Token:
    """Return a revocation of one or several delegations by a key."""
    return run.call(signer, {f"urn:cid:{cid}": plain(_REVOKE) for cid in targets}, **changes)


async def revocations(run: Run) -> None:
    """Check revocations by a session's key."""
    owner = run.hosted_owner()
    chain = Chain(run, owner)
    await chain.register()
    below = chain.passed_on({chain.kv("shared"): plain(GET)})
    await run.prepare("a grant passed on", below)
    target = chain.to_bob.cid
    await _refused(run, chain)
    await run.invoke(
        "W25", "use the grant before", data(b"for Bob"), chain.get(chain.bob, chain.to_bob)
    )
    await _status(run, owner.session, target, "active")
    done = json_body({"revoked": True, "cid": target})
    revoking = revocation(run, owner.session, target)
    await _post(run, "W27", "revoke a grant", done, revoking)
    await _post(run, "W26", "post the revocation again", done, revoking)
    await _post(run, "W24", "revoke it twice", done, revocation(run, owner.session, target))
    await run.invoke(
        "W25",
        "use the revoked grant",
        text(401, f"delegation-revoked: {target}"),
        chain.get(chain.bob, chain.to_bob),
    )
    await run.invoke(
        "W25",
        "use a grant below it",
        text(401, f"delegation-ancestor-revoked: ancestor={target} invoked={below.cid}"),
        chain.get(chain.carol, below),
    )
    await run.delegate(
        "D23",
        "register a grant below it",
        text(401, f"delegation-parent-revoked: {target}"),
        chain.passed_on({chain.kv("shared/z"): plain(GET)}),
    )
    deeper = run.grant(
        chain.carol, new_key(), {chain.kv("shared"): plain(GET)}, proofs=[below], lifetime_s=200
    )
    await run.delegate(
        "D23",
        "register a grant two levels below it",
        text(401, f"delegation-ancestor-revoked: ancestor={target} parent={below.cid}"),
        deeper,
    )
    await run.delegate(
        "Q6",
        "register it again",
        text(401, f"delegation-revoked: {target}"),
        chain.to_bob,
    )
    await _status(run, owner.session, target, "revoked")


async def _post(run: Run, rule: str, asked: str, expectation: Any, token: Token) -> Answer:
    return await run.ask(rule, asked, expectation, "POST", "/revoke", token=token)


async def _refused(run: Run, chain: Chain) -> None:
    target = chain.to_bob.cid
    session = chain.owner.session
    await _post(
        run,
        "W20",
        "revoke what was never registered",
        text(403, "Cannot find parent delegation"),
        revocation(run, session, _UNKNOWN),
    )
    nobody = text(403, "Unauthorized Revoker")
    await _post(run, "W22", "revoke as a stranger", nobody, revocation(run, chain.mallory, target))
    citing = revocation(run, chain.carol, target, proofs=[chain.to_bob])
    await _post(run, "W21", "revoke with a proof to somebody else", nobody, citing)
    # A node that takes one of these revokes a grant that no other row uses.
    spare = [
        run.grant(
            session,
            new_key(),
            {chain.kv("spare"): plain(GET)},
            proofs=[chain.owner.sign_in],
        )
        for _ in range(2)
    ]
    for grant in spare:
        await run.prepare("a further grant", grant)
    await _post(
        run,
        "T8",
        "a revocation for another node",
        text(401, ANOTHER_KIND),
        revocation(run, session, spare[0].cid, audience=new_key().did),
    )
    mixed = run.call(
        session, {f"urn:cid:{spare[1].cid}": plain(_REVOKE), chain.kv("shared"): plain(GET)}
    )
    await _post(run, "V1", "a revocation with another right", text(401, ANOTHER_KIND), mixed)
    without = run.call(session, {chain.kv("shared"): plain(GET)})
    await _post(run, "Q8", "a revocation without a target", status(401), without)


async def _status(run: Run, signer: Key, target: str, wanted: str) -> None:
    token = run.call(signer, {f"urn:cid:{target}": plain(_STATUS)})
    body = json.dumps({"cid": target}).encode()
    await run.ask(
        "5.3",
        "ask for its status",
        members({"cid": target, "status": wanted, "exists": True, "revoked": wanted == "revoked"}),
        "POST",
        "/delegation/status",
        token=token,
        body=body,
        headers=_JSON,
    )


async def more_revocations(run: Run) -> None:
    """Check revocations by the wallet and of several grants, and what a stranger learns."""
    owner = run.hosted_owner()
    chain = Chain(run, owner)
    await chain.register()
    await _stranger(run, chain)
    await _by_wallet(run, chain)
    await _several(run, chain)
    await _signed_url(run, chain)


async def _stranger(run: Run, chain: Chain) -> None:
    unknown = members({"status": "not_found", "exists": False}, number=404)
    for asked, target in (("a grant", chain.to_bob.cid), ("what does not exist", _UNKNOWN)):
        await run.ask(
            "5.3",
            f"a stranger asks for the status of {asked}",
            unknown,
            "POST",
            "/delegation/status",
            token=run.call(chain.mallory, {f"urn:cid:{target}": plain(_STATUS)}),
            body=json.dumps({"cid": target}).encode(),
            headers=_JSON,
        )


async def _by_wallet(run: Run, chain: Chain) -> None:
    owner = chain.owner
    grant = SignIn(
        wallet=owner.wallet,
        audience=chain.mallory.did,
        grants={chain.kv("shared"): plain(GET)},
        issued_at=run.now(),
        ends_at=run.now() + 600,
    ).sign()
    await run.prepare("a grant by the wallet", grant)
    await _post(
        run,
        "V3",
        "a wallet revokes its grant",
        json_body({"revoked": True, "cid": grant.cid}),
        wallet_revocation(owner.wallet, grant.cid, issued_at=run.now()),
    )
    await run.delegate(
        "E9",
        "register the revoked grant in another spelling",
        status(401).and_that(
            "delegation-revoked", lambda answer: answer.text.startswith("delegation-revoked: ")
        ),
        respell(grant),
    )
    await run.invoke(
        "W25",
        "use the revoked grant",
        text(401, f"delegation-revoked: {grant.cid}"),
        chain.get(chain.mallory, grant),
    )


async def _several(run: Run, chain: Chain) -> None:
    if not run.is_sealspace:
        why = "only sealspace revokes several grants in one token"
        run.not_applicable("V5", "revoke two grants in one token", why)
        return
    first, second = (
        run.grant(
            chain.owner.session,
            chain.carol,
            {chain.kv(name): plain(GET)},
            proofs=[chain.owner.sign_in],
        )
        for name in ("one", "two")
    )
    for grant in (first, second):
        await run.prepare("a grant", grant)
    stranger = revocation(run, chain.carol, first.cid, _UNKNOWN)
    await _post(
        run,
        "V5",
        "revoke two targets of which one is unknown",
        text(403, "Cannot find parent delegation"),
        stranger,
    )
    await _status(run, chain.owner.session, first.cid, "active")
    both = json_body({"revoked": True, "cid": first.cid, "cids": [first.cid, second.cid]})
    await _post(
        run,
        "V5",
        "revoke two grants in one token",
        both,
        revocation(run, chain.owner.session, first.cid, second.cid),
    )
    await _status(run, chain.owner.session, second.cid, "revoked")


async def _signed_url(run: Run, chain: Chain) -> None:
    body = json.dumps({"space": chain.owner.space(), "path": f"{chain.folder}/shared/x"}).encode()
    made = await run.node.send(
        "POST",
        "/signed/kv",
        token=chain.get(chain.bob, chain.to_bob).text,
        body=body,
        headers=_JSON,
    )
    url = str(made.object.get("url", "/signed/kv/none"))
    await run.ask("5.10", "read a URL made with a grant", data(b"for Bob"), "GET", url)
    revoking = revocation(run, chain.owner.session, chain.to_bob.cid)
    await run.node.send("POST", "/revoke", token=revoking.text)
    await run.ask(
        "Q24",
        "read it after the grant was revoked",
        text(401, "signed URL ticket is invalid"),
        "GET",
        url,
    )


async def accounts(run: Run) -> None:
    """Check the lists of delegations: those that touch a space, and those of an owner."""
    owner = run.hosted_owner()
    chain = Chain(run, owner)
    await chain.register()
    own = run.call(
        owner.session,
        {f"{owner.space()}/capabilities/all": plain("tinycloud.capabilities/read")},
        proofs=[owner.sign_in],
    )
    grant = chain.to_bob
    listed = status(200).and_that(
        "the grant with its delegate and its token",
        lambda answer: _is_listed(answer.object.get(grant.cid), chain.bob.did, grant.text),
    )
    await run.invoke("4.5", "list the delegations of a space", listed, own)
    await _query(run, owner, chain)


def _is_listed(item: Any, delegate: str, raw: str) -> bool:
    return isinstance(item, dict) and item.get("delegate") == delegate and item.get("raw") == raw


async def _query(run: Run, owner: Owner, chain: Chain) -> None:
    account = {f"{owner.space()}/delegation": plain("tinycloud.delegation/list")}

    def has_grant(answer: Answer) -> bool:
        items = answer.object.get("items")
        if not isinstance(items, list):
            return False
        return any(
            isinstance(item, dict)
            and item.get("cid") == chain.to_bob.cid
            and item.get("status") == "active"
            and item.get("delegateDid") == chain.bob.did
            for item in items
        )

    listed = members({"schemaVersion": 2}).and_that("the grant, which is active", has_grant)
    await run.ask(
        "5.4",
        "ask for the owner's delegations",
        listed,
        "POST",
        "/delegation/query",
        token=run.call(owner.session, account, proofs=[owner.sign_in]),
        body=json.dumps({"direction": "granted", "limit": 100}).encode(),
        headers=_JSON,
    )
    await _derived(run, owner, chain, account)
    refused = text(403, "Delegation query proof is not authorized")
    await run.ask(
        "5.4",
        "a stranger asks for them",
        refused,
        "POST",
        "/delegation/query",
        token=run.call(chain.mallory, account),
        body=b"{}",
        headers=_JSON,
    )
    await run.ask(
        "5.4",
        "a question with an unknown member",
        status(400).and_that(
            "Invalid delegation query", lambda a: a.text.startswith("Invalid delegation query: ")
        ),
        "POST",
        "/delegation/query",
        token=run.call(owner.session, account, proofs=[owner.sign_in]),
        body=b'{"colour":"green"}',
        headers=_JSON,
    )


async def _derived(run: Run, owner: Owner, chain: Chain, account: Mapping[str, Any]) -> None:
    """What a recipient passed on is listed on request only."""
    if not run.is_sealspace:
        why = "only sealspace lists what recipients passed on"
        run.not_applicable("5.4", "ask for what recipients passed on", why)
        return
    below = chain.passed_on({chain.kv("shared"): plain(GET)})
    await run.prepare("a grant passed on", below)

    def has_it(answer: Answer) -> bool:
        items = answer.object.get("items")
        if not isinstance(items, list):
            return False
        return any(isinstance(item, dict) and item.get("cid") == below.cid for item in items)

    shown = status(200).and_that("the grant passed on", has_it)
    hidden = status(200).and_that("not the grant passed on", lambda answer: not has_it(answer))
    for asked, expected, wanted in (
        ("what recipients passed on", shown, True),
        ("only what the owner granted", hidden, False),
    ):
        await run.ask(
            "5.4",
            f"ask for {asked}",
            expected,
            "POST",
            "/delegation/query",
            token=run.call(owner.session, account, proofs=[owner.sign_in]),
            body=json.dumps({"limit": 100, "derived": wanted}).encode(),
            headers=_JSON,
        )
