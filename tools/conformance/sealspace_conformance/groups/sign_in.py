"""Sign-in by a wallet: hosting, repeats, and sign-ins that are refused."""

from collections.abc import Mapping
from typing import Any

from sealspace_conformance.encodings import b64url, from_b64url
from sealspace_conformance.expectations import members, problem, status, text
from sealspace_conformance.keys import new_key, new_wallet
from sealspace_conformance.run import KV, Blocked, Owner, Run, new_owner
from sealspace_conformance.tokens import Grants, SignIn, Token, cacao, plain, signed_text
from sealspace_conformance.transport import Answer

ANOTHER_KIND = "Token of another kind"
BAD_SIGNATURE = "Failed to verify signature"
_OUTSIDE_WINDOW = "Delegation expired or not yet valid"


async def sign_in(run: Run) -> None:
    """Sign in a new owner, whom the other groups use, and check what is refused."""
    owner = new_owner(run.now())
    first = await run.delegate(
        "J2", "a sign-in for three spaces", members({"cid": owner.sign_in.cid}), owner.sign_in
    )
    if first.status != 200:
        raise Blocked("the sign-in was not accepted")
    run.owner = owner
    run.hosting = ""
    answered = _spaces(first, "activated") | _spaces(first, "skipped")
    wanted = {owner.space(name) for name in ("default", "public", "secrets")}
    run.compare(
        "J2",
        "which spaces the answer names",
        f"each of {sorted(wanted)} under activated or skipped",
        holds=answered == wanted,
        seen=first.text,
    )
    if _spaces(first, "skipped"):
        await _host(run, owner)
    if not run.hosting:
        again = members({"cid": owner.sign_in.cid, "activated": sorted(wanted), "skipped": []})
        await run.delegate("Q6", "the same sign-in again", again, owner.sign_in)
        respelled = respell(owner.sign_in)
        await run.delegate("D4", "the same sign-in in another spelling", status(200), respelled)
    await _refusals(run, owner)


def _spaces(answer: Answer, member: str) -> set[str]:
    listed = answer.object.get(member)
    if not isinstance(listed, list):
        return set()
    return {space for space in listed if isinstance(space, str)}


async def _host(run: Run, owner: Owner) -> None:
    """Host the owner's spaces by a grant of the wallet to the node's DID for each space (D43)."""
    for name in ("default", "public", "secrets"):
        space = owner.space(name)
        peer = await run.node.send("GET", f"/peer/generate/{space}")
        grant = SignIn(
            wallet=owner.wallet,
            audience=peer.text if peer.text.startswith("did:") else run.did,
            grants={f"{space}/space": plain("tinycloud.space/host")},
            issued_at=run.now(),
            ends_at=None,
        ).sign()
        answer = await run.node.send("POST", "/delegate", token=grant.text)
        if space not in _spaces(answer, "activated"):
            run.hosting = "this node hosts no space of an unknown owner"
            run.not_applicable("D40", f"a host grant for the space {name}", run.hosting)
            return
    run.add("D40", "host grants for three spaces", "activated", "activated", "passed")


def respell(token: Token) -> Token:
    """Return a CACAO with the other spelling of the same signature: v is 0 or 1."""
    data = bytearray(token.event_bytes)
    # The signature is the last but one member in the order of C1, before "t": "eip191".
    at = data.index(b"\x61s\x58\x41") + 4 + 64
    data[at] -= 27
    return Token(b64url(bytes(data), padded=True), bytes(data))


async def _refusals(run: Run, owner: Owner) -> None:
    space = owner.space()
    grants: Grants = {f"{space}/kv": plain(*KV)}

    def draft(**changes: Any) -> SignIn:
        contents: Mapping[str, Any] = {
            "wallet": owner.wallet,
            "audience": owner.session.url,
            "grants": grants,
            "issued_at": run.now(),
            "ends_at": run.now() + 600,
        }
        return SignIn(**{**contents, **changes})

    await run.delegate("E5", "no token", problem(401), "")
    bearer = f"Bearer {draft().sign().text}"
    await run.delegate("E1", "a token behind Bearer", problem(401), bearer)
    unpadded = owner.sign_in.text.rstrip("=")
    if unpadded != owner.sign_in.text:
        await run.delegate("E3", "a CACAO without its padding", problem(401), unpadded)
    payload = draft().payload()
    forged = new_wallet().sign(signed_text(payload, owner.wallet.address))
    await run.delegate(
        "C5",
        "a sign-in that another wallet signed",
        text(401, BAD_SIGNATURE),
        cacao(payload, forged),
    )
    flipped = _with_other_nonce(draft().sign())
    await run.delegate(
        "C5", "a sign-in that was changed after it was signed", text(401, BAD_SIGNATURE), flipped
    )
    ended = draft(issued_at=run.now() - 600, ends_at=run.now() - 60).sign()
    await run.delegate("D6", "a sign-in that has ended", text(401, _OUTSIDE_WINDOW), ended)
    early = draft(not_before=run.now() + 300).sign()
    await run.delegate("D6", "a sign-in that has not begun", text(401, _OUTSIDE_WINDOW), early)
    unstated = draft(statement="I sign in.").sign()
    await run.delegate(
        "S7", "a statement without the sentence of the ReCap", problem(401), unstated
    )
    other = new_wallet()
    stolen = draft(wallet=other).sign()
    await run.delegate(
        "R1",
        "a sign-in for the space of another owner",
        text(401, "Cannot find parent delegation"),
        stolen,
    )
    await run.invoke("E4", "a CACAO as a call", problem(401), draft().sign())
    to_node = run.call(owner.session, grants, audience=run.did, proofs=[owner.sign_in])
    await run.delegate(
        "T10", "a UCAN to the node as a delegation", text(401, ANOTHER_KIND), to_node
    )
    nobody = run.grant(owner.session, new_key(), {}, proofs=[owner.sign_in])
    await run.delegate("D20", "a delegation of nothing", members({"cid": nobody.cid}), nobody)


def _with_other_nonce(token: Token) -> Token:
    """Return the token with another nonce under the old signature."""
    data = from_b64url(token.text)
    at = data.index(b"enonce") + len(b"enonce") + 2
    digit = b"0" if data[at : at + 1] != b"0" else b"1"
    changed = data[:at] + digit + data[at + 1 :]
    return Token(b64url(changed, padded=True), changed)
