"""Vectors of chains: for each rule of registering and invoking, a case that keeps it and one that
breaks it.

A case names tokens of the document's `tokens`. Those in `registered` are registered in order at
`NOW`, all live; then those in `revoked` are revoked; then `token` is judged at `now` as its `kind`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .cases import Case
from .minting import HOUR_LATER, NO_RECAP, NOW, Jwt, Key, SignIn, Token, Wallet, cid, plain

ALICE, ZOE = Wallet(0x11), Wallet(0x13)
SESSION, BOB, CAROL, DAVE, MALLORY = (Key(fill) for fill in (0x21, 0x31, 0x41, 0x61, 0x51))
SPACE = f"tinycloud:pkh:eip155:1:{ALICE.address}:default"
DAVES = f"tinycloud:{DAVE.did[4:]}:default"
NETWORK = f"urn:tinycloud:encryption:{ALICE.did}:default"
GET, PUT, LIST = "tinycloud.kv/get", "tinycloud.kv/put", "tinycloud.kv/list"
SQL_READ = "tinycloud.sql/read"
REVOKE = "tinycloud.delegation/revoke"
HOUR, YEAR = 3600, 365 * 86_400
_MAX_NODES = 64
_SELECTOR = "xyz.tinycloud.resource/selector"


class _Book:
    """A collection of named tokens, and of cases that refer to them."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.cases: list[Case] = []

    def add(self, name: str, token: Jwt | SignIn) -> Token:
        """Mint a token under a name."""
        minted = token.mint()
        if self.tokens.setdefault(name, minted) != minted:
            raise ValueError(f"token {name} stands for two")
        return minted

    def case(
        self,
        name: str,
        rules: str,
        kind: str,
        token: str,
        registered: str = "",
        *,
        expect: dict[str, Any],
        revoked: str = "",
        now: float = NOW,
        max_lifetime_s: int | None = None,
    ) -> None:
        """Add a case; `registered` and `revoked` are names separated by spaces."""
        ending = "_fail" if "code" in expect else ""
        case: Case = {"name": name + ending, "rules": rules.split(), "kind": kind, "now": now}
        case |= {
            "registered": registered.split(),
            "revoked": revoked.split(),
            "token": token,
            "expect": expect,
        }
        if max_lifetime_s is not None:
            case["max_lifetime_s"] = max_lifetime_s
        self.cases.append(case)

    def delegates(
        self, name: str, rules: str, token: str, registered: str = "", **more: Any
    ) -> None:
        """Add a case of a registration."""
        self.case(name, rules, "delegation", token, registered, **more)

    def invokes(self, name: str, rules: str, token: str, registered: str = "", **more: Any) -> None:
        """Add a case of an invocation."""
        self.case(name, rules, "invocation", token, registered, **more)

    def revokes(self, name: str, rules: str, token: str, registered: str = "", **more: Any) -> None:
        """Add a case of a revocation."""
        self.case(name, rules, "revocation", token, registered, **more)


def cases() -> tuple[list[Case], dict[str, Any]]:
    """Return all chain cases, and the tokens they name."""
    book = _Book()
    for part in _PARTS:
        part(book)
    return book.cases, {"tokens": {name: token.header for name, token in book.tokens.items()}}


def _failed(code: str, text: str) -> dict[str, str]:
    return {"code": code, "text": text}


_NOT_FOUND = _failed("parent-not-found", "Cannot find parent delegation")
_TOO_LARGE = _failed("chain-too-large", "delegation-chain-traversal-limit-exceeded")
_OUTSIDE = _failed("delegation-outside-window", "Delegation expired or not yet valid")
_NO_INVOKER = _failed("invoker-unauthorized", "Unauthorized Invoker")
_NO_REVOKER = _failed("revoker-unauthorized", "Unauthorized Revoker")


def _no_capability(resource: str, ability: str) -> dict[str, str]:
    return _failed("capability-unauthorized", f"Unauthorized Capability: {resource}, {ability}")


def _no_action(resource: str, ability: str) -> dict[str, str]:
    return _failed("action-unauthorized", f"Unauthorized Action: {resource} / {ability}")


def _closure(*names: str, **more: Any) -> dict[str, Any]:
    return {"closure": list(names), **more}


def _session(book: _Book) -> Token:
    att = {f"{SPACE}/kv": plain(GET, PUT, LIST)}
    return book.add("alice-to-session", SignIn(wallet=ALICE, audience=SESSION.url, att=att))


def _bob(book: _Book) -> Token:
    att = {f"{SPACE}/kv/shared": plain(GET, LIST)}
    jwt = Jwt(
        issuer=SESSION, audience=BOB.did, att=att, exp=NOW + 2 * HOUR, prf=[_session(book).cid]
    )
    return book.add("session-to-bob", jwt)


def _carol(book: _Book, name: str, **changes: Any) -> Token:
    att = {f"{SPACE}/kv/shared/x": plain(GET)}
    members: dict[str, Any] = {
        "issuer": BOB,
        "audience": CAROL.did,
        "att": att,
        "exp": NOW + HOUR,
    } | changes
    return book.add(name, Jwt(**members))


_CHAIN = "alice-to-session session-to-bob"


def _windows(book: _Book) -> None:
    of_keys: tuple[tuple[str, Case, float, bool], ...] = (
        ("at-its-end", {"exp": NOW}, NOW, True),
        ("after-its-end", {"exp": NOW}, NOW + 0.5, False),
        ("at-its-beginning", {"nbf": NOW}, NOW, True),
        ("before-its-beginning", {"nbf": NOW}, NOW - 0.5, False),
    )
    for name, changes, now, ok in of_keys:
        token = f"dave-to-bob-{next(iter(changes))}-now"
        members: Case = {
            "issuer": DAVE,
            "audience": BOB.did,
            "att": {f"{DAVES}/kv": plain(GET)},
            "exp": NOW + HOUR,
        }
        book.add(token, Jwt(**members | changes))
        expect = _closure(token) if ok else _OUTSIDE
        book.delegates(f"dave-to-bob-{name}", "D6 T4", token, now=now, expect=expect)
    att = {f"{SPACE}/kv": plain(GET)}
    of_wallets: tuple[tuple[str, Case, float, bool], ...] = (
        ("at-its-end", {"exp": "2026-11-18T11:06:40Z"}, NOW, True),
        ("after-its-end", {"exp": "2026-11-18T11:06:40Z"}, NOW + 0.5, False),
        ("at-its-beginning", {"nbf": "2026-11-18T11:06:40Z"}, NOW, False),
        ("after-its-beginning", {"nbf": "2026-11-18T11:06:40Z"}, NOW + 0.5, True),
    )
    for name, changes, now, ok in of_wallets:
        token = f"alice-to-bob-{next(iter(changes))}-now"
        book.add(token, SignIn(wallet=ALICE, audience=BOB.did, att=att, **changes))
        expect = _closure(token) if ok else _OUTSIDE
        book.delegates(f"alice-to-bob-{name}", "D6 C8", token, now=now, expect=expect)


def _roots_and_parents(book: _Book) -> None:
    _session(book)
    bob = _bob(book)
    unknown = cid(b"never registered")
    book.delegates(
        "alice-to-session-root",
        "D20 R1",
        "alice-to-session",
        expect=_closure("alice-to-session", expires_at=NOW + YEAR),
    )
    book.delegates(
        "session-to-bob-below-root",
        "D7 D27 D29",
        "session-to-bob",
        "alice-to-session",
        expect=_closure("session-to-bob", "alice-to-session", expires_at=NOW + 2 * HOUR),
    )
    network = {NETWORK: plain("tinycloud.encryption/decrypt")}
    book.add("alice-to-session-network", SignIn(wallet=ALICE, audience=SESSION.url, att=network))
    book.delegates(
        "alice-to-session-own-network",
        "D20 R2",
        "alice-to-session-network",
        expect=_closure("alice-to-session-network"),
    )
    book.add(
        "session-to-bob-urn", Jwt(issuer=SESSION, audience=BOB.did, att={"urn:x:y": plain("a/b")})
    )
    book.delegates(
        "session-to-bob-nobodys-resource", "D21 R3", "session-to-bob-urn", expect=_NOT_FOUND
    )
    book.add(
        "session-to-bob-unproved",
        Jwt(issuer=SESSION, audience=BOB.did, att={f"{SPACE}/kv": plain(GET)}),
    )
    book.delegates(
        "session-to-bob-without-parent", "D21", "session-to-bob-unproved", expect=_NOT_FOUND
    )
    _carol(book, "bob-to-carol-unknown", prf=[unknown])
    book.delegates("bob-to-carol-parent-unknown", "D22", "bob-to-carol-unknown", expect=_NOT_FOUND)
    _carol(book, "bob-to-carol-twice", prf=[bob.cid, bob.cid])
    book.delegates(
        "bob-to-carol-parent-twice", "D22 Q26", "bob-to-carol-twice", _CHAIN, expect=_NOT_FOUND
    )
    _carol(book, "bob-to-carol-one-unknown", prf=[bob.cid, unknown])
    book.delegates(
        "bob-to-carol-one-parent-unknown",
        "D22",
        "bob-to-carol-one-unknown",
        _CHAIN,
        expect=_NOT_FOUND,
    )
    _carol(book, "mallory-to-carol", issuer=MALLORY, prf=[bob.cid])
    delegator = _failed("delegator-unauthorized", f"Unauthorized Delegator: {MALLORY.did}")
    book.delegates(
        "mallory-to-carol-parent-of-bob", "D22", "mallory-to-carol", _CHAIN, expect=delegator
    )
    dave = {f"{DAVES}/kv": plain(GET)}
    book.add(
        "dave-to-bob-citing-unknown", Jwt(issuer=DAVE, audience=BOB.did, att=dave, prf=[unknown])
    )
    book.delegates(
        "dave-to-bob-root-with-unknown-parent",
        "D20 Q13",
        "dave-to-bob-citing-unknown",
        expect=_NOT_FOUND,
    )
    book.add(
        "dave-to-bob-citing-known",
        Jwt(issuer=DAVE, audience=BOB.did, att=dave, exp=NOW + YEAR, prf=[bob.cid]),
    )
    book.delegates(
        "dave-to-bob-root-with-known-parent",
        "D20 D25",
        "dave-to-bob-citing-known",
        _CHAIN,
        expect=_closure(
            "dave-to-bob-citing-known",
            "session-to-bob",
            "alice-to-session",
            expires_at=NOW + 2 * HOUR,
        ),
    )


def _revoked_and_terminal(book: _Book) -> None:
    session, bob = _session(book), _bob(book)
    _carol(book, "bob-to-carol", prf=[bob.cid])
    book.delegates(
        "bob-to-carol-ordinary",
        "D7 D28",
        "bob-to-carol",
        _CHAIN,
        expect=_closure(
            "bob-to-carol", "session-to-bob", "alice-to-session", expires_at=NOW + HOUR
        ),
    )
    parent = _failed("parent-revoked", f"delegation-parent-revoked: {bob.cid}")
    ancestor = _failed(
        "ancestor-revoked", f"delegation-ancestor-revoked: ancestor={session.cid} parent={bob.cid}"
    )
    book.delegates(
        "bob-to-carol-parent-revoked",
        "D23",
        "bob-to-carol",
        _CHAIN,
        revoked="session-to-bob",
        expect=parent,
    )
    book.delegates(
        "bob-to-carol-ancestor-revoked",
        "D23",
        "bob-to-carol",
        _CHAIN,
        revoked="alice-to-session",
        expect=ancestor,
    )
    att = {f"{SPACE}/kv/shared": plain(GET)}
    fact = {"xyz.tinycloud.policy/delegationMode": "terminal"}
    jwt = Jwt(
        issuer=SESSION, audience=BOB.did, att=att, exp=NOW + HOUR, prf=[session.cid], fct=[fact]
    )
    terminal = book.add("session-to-bob-terminal", jwt)
    _carol(book, "bob-to-carol-below-terminal", prf=[terminal.cid])
    book.delegates(
        "bob-to-carol-parent-terminal",
        "D24",
        "bob-to-carol-below-terminal",
        "alice-to-session session-to-bob-terminal",
        expect=_failed("parent-terminal", "terminal-parent-cannot-redelegate"),
    )
    root = {"role": "policy-authority", "policy": "x"}
    book.add(
        "dave-to-bob-policy-root",
        Jwt(issuer=DAVE, audience=BOB.did, att={f"{DAVES}/kv": plain(GET)}, fct=[root]),
    )
    book.delegates(
        "dave-to-bob-policy-root",
        "D2",
        "dave-to-bob-policy-root",
        expect=_failed("policy-profile-refused", "policy-root-requires-registration"),
    )
    both = Jwt(
        issuer=DAVE,
        audience=BOB.did,
        att={f"{DAVES}/kv": plain(GET)},
        fct=[{"role": "policy-authority"}],
    )
    book.add("dave-to-bob-role-alone", both)
    book.delegates(
        "dave-to-bob-role-alone",
        "D2",
        "dave-to-bob-role-alone",
        expect=_closure("dave-to-bob-role-alone"),
    )


def _time_containment(book: _Book) -> None:
    bob = _bob(book)
    late = _failed("expiry-exceeds-parent", "Child delegation expiry exceeds parent expiry")
    early = _failed(
        "not-before-precedes-parent", "Child delegation not_before precedes parent not_before"
    )
    _carol(book, "bob-to-carol-as-long", exp=NOW + 2 * HOUR, prf=[bob.cid])
    closure = ("session-to-bob", "alice-to-session")
    book.delegates(
        "bob-to-carol-ends-with-parent",
        "D25",
        "bob-to-carol-as-long",
        _CHAIN,
        expect=_closure("bob-to-carol-as-long", *closure),
    )
    _carol(book, "bob-to-carol-longer", exp=NOW + 2 * HOUR + 0.5, prf=[bob.cid])
    book.delegates(
        "bob-to-carol-outlives-parent", "D25", "bob-to-carol-longer", _CHAIN, expect=late
    )
    att = {f"{SPACE}/kv": plain(GET)}
    zoe = book.add("alice-to-zoe", SignIn(wallet=ALICE, audience=ZOE.did, att=att, exp=HOUR_LATER))
    below = SignIn(wallet=ZOE, audience=CAROL.did, att=att, exp=None, prf=[zoe.cid58])
    book.add("zoe-to-carol-endless", below)
    book.delegates(
        "zoe-to-carol-endless-below-end", "D25", "zoe-to-carol-endless", "alice-to-zoe", expect=late
    )
    begun = Jwt(
        issuer=DAVE,
        audience=BOB.did,
        att={f"{DAVES}/kv": plain(GET)},
        exp=NOW + 2 * HOUR,
        nbf=NOW - 10,
    )
    parent = book.add("dave-to-bob-begun", begun)
    for name, nbf, ok in (
        ("without-beginning", None, False),
        ("begins-earlier", NOW - 11, False),
        ("begins-with", NOW - 10, True),
    ):
        token = f"bob-to-carol-{name}"
        _carol(book, token, att={f"{DAVES}/kv": plain(GET)}, nbf=nbf, prf=[parent.cid])
        expect = _closure(token, "dave-to-bob-begun", not_before=NOW - 10) if ok else early
        book.delegates(
            f"bob-to-carol-{name}-parent", "D25", token, "dave-to-bob-begun", expect=expect
        )
    short = Jwt(issuer=DAVE, audience=BOB.did, att={f"{DAVES}/kv": plain(GET)}, exp=NOW + 30)
    long = Jwt(issuer=DAVE, audience=BOB.did, att={f"{DAVES}/kv": plain(GET)}, exp=NOW + 2 * HOUR)
    other = Jwt(
        issuer=DAVE, audience=BOB.did, att={f"{DAVES}/sql": plain("x/y")}, exp=NOW + 2 * HOUR
    )
    cids = {
        name: book.add(f"dave-to-bob-{name}", jwt).cid
        for name, jwt in (("short", short), ("long", long), ("other", other))
    }
    dave = {f"{DAVES}/kv": plain(GET)}
    _carol(book, "bob-to-carol-short-and-long", att=dave, prf=[cids["short"], cids["long"]])
    book.delegates(
        "bob-to-carol-one-parent-lasts",
        "D25",
        "bob-to-carol-short-and-long",
        "dave-to-bob-short dave-to-bob-long",
        expect=_closure(
            "bob-to-carol-short-and-long",
            "dave-to-bob-short",
            "dave-to-bob-long",
            expires_at=NOW + 30,
        ),
    )
    _carol(book, "bob-to-carol-short-and-other", att=dave, prf=[cids["short"], cids["other"]])
    book.delegates(
        "bob-to-carol-lasting-parent-lacks-it",
        "D25 D27",
        "bob-to-carol-short-and-other",
        "dave-to-bob-short dave-to-bob-other",
        expect=_no_capability(f"{DAVES}/kv", GET),
    )


def _capabilities(book: _Book) -> None:
    bob = _bob(book)
    for name, resource, ability in (
        ("wider-path", f"{SPACE}/kv", GET),
        ("neighbouring-path", f"{SPACE}/kv/shared2", GET),
        ("other-ability", f"{SPACE}/kv/shared/x", PUT),
        ("wildcard-ability", f"{SPACE}/kv/shared/x", "tinycloud.kv/*"),
        ("other-space", f"{DAVES}/kv/shared/x", GET),
    ):
        _carol(book, f"bob-to-carol-{name}", att={resource: plain(ability)}, prf=[bob.cid])
        expect = _no_capability(resource, ability)
        book.delegates(f"bob-to-carol-{name}", "D27", f"bob-to-carol-{name}", _CHAIN, expect=expect)
    two = {f"{SPACE}/kv/shared/a": plain(GET), f"{SPACE}/kv/shared/b": plain(PUT)}
    _carol(book, "bob-to-carol-one-of-two", att=two, prf=[bob.cid])
    expect = _no_capability(f"{SPACE}/kv/shared/b", PUT)
    book.delegates(
        "bob-to-carol-one-of-two-held", "D27", "bob-to-carol-one-of-two", _CHAIN, expect=expect
    )
    here = Jwt(issuer=DAVE, audience=BOB.did, att={f"{DAVES}/kv/a": plain(PUT)}, exp=NOW + HOUR)
    there = Jwt(issuer=DAVE, audience=BOB.did, att={f"{DAVES}/kv/b": plain(GET)}, exp=NOW + HOUR)
    proofs = [book.add("dave-to-bob-put-a", here).cid, book.add("dave-to-bob-get-b", there).cid]
    _carol(book, "bob-to-carol-get-a", att={f"{DAVES}/kv/a": plain(GET)}, prf=proofs)
    parents = "dave-to-bob-put-a dave-to-bob-get-b"
    expect = _no_capability(f"{DAVES}/kv/a", GET)
    book.delegates(
        "bob-to-carol-assembled-from-two", "D27", "bob-to-carol-get-a", parents, expect=expect
    )
    each = {f"{DAVES}/kv/a": plain(PUT), f"{DAVES}/kv/b": plain(GET)}
    _carol(book, "bob-to-carol-put-a-get-b", att=each, prf=proofs)
    closure = _closure("bob-to-carol-put-a-get-b", *parents.split())
    book.delegates(
        "bob-to-carol-one-parent-each", "D27", "bob-to-carol-put-a-get-b", parents, expect=closure
    )


def _caveats(book: _Book) -> None:
    resource = f"{DAVES}/kv/c"
    reason = "child-caveats-not-subset-of-parent"

    def under(name: str, caveats: Sequence[dict[str, Any]]) -> Token:
        jwt = Jwt(
            issuer=DAVE, audience=BOB.did, att={resource: {GET: list(caveats)}}, exp=NOW + HOUR
        )
        return book.add(f"dave-to-bob-{name}", jwt)

    def child(
        name: str, parent: str, caveats: Sequence[dict[str, Any]], refused: str | None
    ) -> None:
        token = f"bob-to-carol-{name}"
        _carol(book, token, att={resource: {GET: list(caveats)}}, prf=[book.tokens[parent].cid])
        expect = _closure(token, parent)
        if refused is not None:
            expect = dict(
                _failed("caveats-not-contained", f"child-caveats-not-subset-of-parent: {refused}")
            )
        book.delegates(token, "D27 3.5", token, parent, expect=expect)

    under("caveat", [{"k": 1}])
    under("no-caveat", [{}])
    under("prefix", [{"type": _SELECTOR, "kind": "prefix", "value": "a"}])
    under("exact", [{"type": _SELECTOR, "kind": "exact", "value": "a"}])
    child("caveat-repeated", "dave-to-bob-caveat", [{"k": 1}], None)
    child("caveat-dropped", "dave-to-bob-caveat", [{}], reason)
    child("caveat-changed", "dave-to-bob-caveat", [{"k": 2}], reason)
    child("caveat-as-other-number", "dave-to-bob-caveat", [{"k": 1.0}], reason)
    child("caveat-more", "dave-to-bob-caveat", [{"k": 1}, {"l": 1}], reason)
    child("caveat-added", "dave-to-bob-no-caveat", [{"k": 1}], None)
    child(
        "selector-below",
        "dave-to-bob-prefix",
        [{"type": _SELECTOR, "kind": "exact", "value": "a/b"}],
        None,
    )
    child(
        "selector-beside",
        "dave-to-bob-prefix",
        [{"type": _SELECTOR, "kind": "exact", "value": "ab"}],
        "selector-caveat-not-contained",
    )
    child(
        "selector-widened",
        "dave-to-bob-exact",
        [{"type": _SELECTOR, "kind": "prefix", "value": "a"}],
        "selector-caveat-not-contained",
    )
    child("selector-dropped", "dave-to-bob-prefix", [{}], "selector-caveat-not-contained")


def _sql_caveats(book: _Book) -> None:
    resource = f"{DAVES}/sql/main"
    reason = "child-caveats-not-subset-of-parent"

    def fixed(value: object) -> dict[str, Any]:
        return {"name": "a", "sql": "SELECT ?", "fixedParams": [{"index": 0, "value": value}]}

    def only(*statements: dict[str, Any]) -> dict[str, Any]:
        return {"mode": "constrained-statements", "readOnly": True, "statements": [*statements]}

    def member(name: str, signer: Key, audience: Key, caveat: dict[str, Any], *prf: Token) -> Token:
        att = {resource: {SQL_READ: [caveat]}}
        proofs = [one.cid for one in prf]
        jwt = Jwt(issuer=signer, audience=audience.did, att=att, exp=NOW + HOUR, prf=proofs)
        return book.add(name, jwt)

    plain_a: dict[str, Any] = {"name": "a", "sql": "SELECT ?"}
    granted: dict[str, dict[str, Any]] = {
        "all": {},
        "tables": {"tables": ["notes", "tags"]},
        "read-only": {"readOnly": True},
        "statement": only(fixed(1)),
    }
    parents = {
        f"dave-to-bob-sql-{name}": member(f"dave-to-bob-sql-{name}", DAVE, BOB, caveat)
        for name, caveat in granted.items()
    }
    children: tuple[tuple[str, str, dict[str, Any], str | None], ...] = (
        ("tables-added", "all", {"tables": ["notes"]}, None),
        ("tables-fewer", "tables", {"tables": ["tags"], "columns": ["name"]}, None),
        ("tables-more", "tables", {"tables": ["tags", "private"]}, reason),
        ("tables-dropped", "tables", {}, reason),
        ("read-only-dropped", "read-only", {"readOnly": False}, reason),
        ("statement-nested", "statement", {"constrained-statements": only(fixed(1))}, None),
        ("statement-dropped", "statement", {}, "containment-caveat-required"),
        (
            "statement-more",
            "statement",
            only(fixed(1), {"name": "b", "sql": "SELECT 1"}),
            "containment-sql-statement-added",
        ),
        (
            "statement-changed",
            "statement",
            only(plain_a | {"sql": "SELECT ?, 1"}),
            "containment-sql-statement-added",
        ),
        (
            "parameter-dropped",
            "statement",
            only(plain_a),
            "containment-sql-fixed-param-dropped",
        ),
        (
            "parameter-changed",
            "statement",
            only(fixed(1.0)),
            "containment-sql-fixed-param-mismatch",
        ),
        ("misspelt", "all", {"tabels": ["notes"]}, "sql-caveat-unknown"),
        (
            "index-too-far",
            "all",
            only(plain_a | {"fixedParams": [{"index": 1000, "value": 1}]}),
            "sql-caveat-unknown",
        ),
        (
            "statement-writes",
            "all",
            only(fixed(1)) | {"readOnly": False},
            "sql-non-readonly-not-permitted",
        ),
    )
    for name, cited, caveat, refused in children:
        parent = f"dave-to-bob-sql-{cited}"
        token = f"bob-to-carol-sql-{name}"
        member(token, BOB, CAROL, caveat, parents[parent])
        expect = _closure(token, parent)
        if refused is not None:
            expect = dict(
                _failed("caveats-not-contained", f"child-caveats-not-subset-of-parent: {refused}")
            )
        book.delegates(token, "D27 D32 3.5", token, parent, expect=expect)
    member("dave-to-bob-sql-misspelt", DAVE, BOB, {"tabels": ["notes"]})
    text = "child-caveats-not-subset-of-parent: sql-caveat-unknown"
    book.delegates(
        "dave-to-bob-sql-misspelt",
        "D32",
        "dave-to-bob-sql-misspelt",
        expect=_failed("caveats-not-contained", text),
    )


def _size(book: _Book) -> None:
    """Add cases with one more token than a closure may have, as parents side by side.

    The limit counts all tokens, so a wide closure is treated like a deep one.
    """
    att = {f"{DAVES}/kv": plain(GET)}
    names = [f"dave-to-bob-{number:02}" for number in range(_MAX_NODES)]
    for name in names:
        book.add(name, Jwt(issuer=DAVE, audience=BOB.did, att=att, exp=NOW + HOUR, nonce=name[-2:]))
    cids = [book.tokens[name].cid for name in names]
    _carol(book, "bob-to-carol-63-parents", att=att, prf=cids[:-1])
    _carol(book, "bob-to-carol-64-parents", att=att, prf=cids)
    closure = _closure("bob-to-carol-63-parents", *names[:-1])
    book.delegates(
        "bob-to-carol-closure-of-64",
        "D3 D30",
        "bob-to-carol-63-parents",
        " ".join(names[:-1]),
        expect=closure,
    )
    book.delegates(
        "bob-to-carol-closure-of-65",
        "D3 D30",
        "bob-to-carol-64-parents",
        " ".join(names),
        expect=_TOO_LARGE,
    )
    _invoke(book, "bob-gets-64-proofs", BOB, att, cids)
    _invoke(book, "carol-gets-63-parents", CAROL, att, [book.tokens["bob-to-carol-63-parents"].cid])
    everything = " ".join([*names, "bob-to-carol-63-parents"])
    book.invokes(
        "bob-64-nodes",
        "I13",
        "bob-gets-64-proofs",
        " ".join(names),
        expect={"live": names, "dependent": 1},
    )
    live = ["bob-to-carol-63-parents", *names[:-1]]
    book.invokes(
        "carol-64-nodes",
        "I13",
        "carol-gets-63-parents",
        everything,
        expect={"live": live, "dependent": 1},
    )
    more = book.add(
        "dave-to-bob-one-more", Jwt(issuer=DAVE, audience=BOB.did, att=att, exp=NOW + HOUR)
    )
    _invoke(book, "bob-gets-65-proofs", BOB, att, [*cids, more.cid])
    book.invokes(
        "bob-65-nodes",
        "I13",
        "bob-gets-65-proofs",
        " ".join([*names, "dave-to-bob-one-more"]),
        expect=_TOO_LARGE,
    )


def _hosting(book: _Book) -> None:
    host = "tinycloud.space/host"
    other = SPACE.replace(":default", ":public")
    node = Key(0x71).did
    for name, att, hosts in (
        ("alice-hosts", {f"{SPACE}/space": plain(host)}, [SPACE]),
        (
            "alice-hosts-two",
            {f"{SPACE}/space": plain(host), f"{other}/space": plain(host)},
            [SPACE, other],
        ),
        ("alice-names-a-path", {f"{SPACE}/space/": plain(host)}, []),
        ("alice-names-a-fragment", {f"{SPACE}/space#x": plain(host)}, []),
        ("alice-names-a-query", {f"{SPACE}/space?x": plain(host)}, []),
        ("alice-names-another-service", {f"{SPACE}/kv": plain(host)}, []),
        ("alice-names-another-ability", {f"{SPACE}/space": plain("tinycloud.space/create")}, []),
    ):
        book.add(name, SignIn(wallet=ALICE, audience=node, att=att, exp=None))
        book.delegates(
            name, "D40 D42 D44", name, expect=_closure(name, expires_at=None, hosts=hosts)
        )


def _invoke(
    book: _Book, name: str, invoker: Key, att: Any, prf: Sequence[str] = (), **changes: Any
) -> None:
    book.add(
        name,
        Jwt(
            **{"issuer": invoker, "audience": invoker.did, "att": att, "prf": prf, "nonce": name}
            | changes
        ),
    )


def _invocation_windows(book: _Book) -> None:
    att = {f"{DAVES}/kv/a": plain(GET)}
    outside = _failed("invocation-outside-window", "Invocation expired or not yet valid")
    root = {"live": [], "dependent": 0}
    _invoke(book, "dave-gets", DAVE, att)
    book.invokes("dave-at-the-end", "I2", "dave-gets", now=NOW + 60, expect=root)
    book.invokes("dave-after-the-end", "I2", "dave-gets", now=NOW + 60.5, expect=outside)
    _invoke(book, "dave-gets-later", DAVE, att, nbf=NOW + 1)
    book.invokes(
        "dave-before-the-beginning", "I2", "dave-gets-later", now=NOW + 0.5, expect=outside
    )
    too_long = _failed("lifetime-too-long", "Invocation lifetime exceeds server maximum")
    _invoke(book, "dave-gets-300", DAVE, att, exp=NOW + 300)
    _invoke(book, "dave-gets-301", DAVE, att, exp=NOW + 300.5)
    book.invokes(
        "dave-lives-300-seconds",
        "I4",
        "dave-gets-300",
        now=NOW + 0.9,
        max_lifetime_s=300,
        expect=root,
    )
    book.invokes("dave-lives-longer", "I4", "dave-gets-301", max_lifetime_s=300, expect=too_long)


def _invocations(book: _Book) -> None:
    session, bob = _session(book), _bob(book)
    unknown = cid(b"never registered")
    shared = {f"{SPACE}/kv/shared/x": plain(GET)}
    held = {"live": ["session-to-bob", "alice-to-session"], "dependent": 1}
    _invoke(book, "dave-gets-own", DAVE, {f"{DAVES}/kv/a": plain(GET)})
    book.invokes("dave-root", "I30 U7", "dave-gets-own", expect={"live": [], "dependent": 0})
    _invoke(book, "dave-gets-own-citing-unknown", DAVE, {f"{DAVES}/kv/a": plain(GET)}, [unknown])
    book.invokes(
        "dave-root-with-unknown-proof", "I30 Q13", "dave-gets-own-citing-unknown", expect=_NOT_FOUND
    )
    _invoke(book, "bob-gets", BOB, shared, [bob.cid])
    book.invokes("bob-holds-it", "I14 I34", "bob-gets", _CHAIN, expect=held)
    _invoke(book, "bob-gets-unproved", BOB, shared)
    book.invokes("bob-without-proof", "I31", "bob-gets-unproved", _CHAIN, expect=_NOT_FOUND)
    _invoke(book, "bob-gets-citing-unknown", BOB, shared, [unknown])
    book.invokes("bob-proof-unknown", "I31", "bob-gets-citing-unknown", expect=_NOT_FOUND)
    _invoke(book, "bob-gets-citing-twice", BOB, shared, [bob.cid, bob.cid])
    book.invokes("bob-proof-twice", "I31", "bob-gets-citing-twice", _CHAIN, expect=_NOT_FOUND)
    _invoke(book, "mallory-gets", MALLORY, shared, [bob.cid])
    book.invokes("mallory-proof-of-bob", "I32", "mallory-gets", _CHAIN, expect=_NO_INVOKER)
    revoked = _failed("delegation-revoked", f"delegation-revoked: {bob.cid}")
    book.invokes(
        "bob-proof-revoked", "I32 W25", "bob-gets", _CHAIN, revoked="session-to-bob", expect=revoked
    )
    ancestor = _failed(
        "ancestor-revoked", f"delegation-ancestor-revoked: ancestor={session.cid} invoked={bob.cid}"
    )
    book.invokes(
        "bob-ancestor-revoked",
        "I32 W25",
        "bob-gets",
        _CHAIN,
        revoked="alice-to-session",
        expect=ancestor,
    )
    for name, resource, ability in (
        ("wider-path", f"{SPACE}/kv/other", GET),
        ("path-absent", f"{SPACE}/kv", GET),
        ("neighbouring-path", f"{SPACE}/kv/shared2", GET),
        ("other-ability", f"{SPACE}/kv/shared/x", PUT),
        ("other-service", f"{SPACE}/sql/shared/x", GET),
    ):
        _invoke(book, f"bob-gets-{name}", BOB, {resource: plain(ability)}, [bob.cid])
        book.invokes(
            f"bob-{name}",
            "I34 I36",
            f"bob-gets-{name}",
            _CHAIN,
            expect=_no_action(resource, ability),
        )
    lower = SPACE.replace(ALICE.address, ALICE.address.lower())
    _invoke(book, "bob-gets-lower-case", BOB, {f"{lower}/kv/shared/x": plain(GET)}, [bob.cid])
    book.invokes(
        "bob-other-spelling-of-space", "I34 U6", "bob-gets-lower-case", _CHAIN, expect=held
    )
    carol = _carol(book, "bob-to-carol", prf=[bob.cid])
    _invoke(book, "carol-gets-ancestors", CAROL, {f"{SPACE}/kv/shared/y": plain(GET)}, [carol.cid])
    expect = _no_action(f"{SPACE}/kv/shared/y", GET)
    book.invokes(
        "carol-what-only-an-ancestor-holds",
        "I34",
        "carol-gets-ancestors",
        f"{_CHAIN} bob-to-carol",
        expect=expect,
    )
    dave = book.add(
        "dave-to-bob",
        Jwt(issuer=DAVE, audience=BOB.did, att={f"{DAVES}/kv": plain(GET)}, exp=NOW + HOUR),
    )
    both = {**shared, f"{DAVES}/kv/a": plain(GET)}
    _invoke(book, "bob-gets-two-spaces", BOB, both, [bob.cid, dave.cid])
    closure = {"live": ["session-to-bob", "alice-to-session", "dave-to-bob"], "dependent": 2}
    book.invokes(
        "bob-two-spaces", "I37", "bob-gets-two-spaces", f"{_CHAIN} dave-to-bob", expect=closure
    )


def _chain_windows(book: _Book) -> None:
    att = {f"{DAVES}/kv": plain(GET)}
    parent = book.add(
        "dave-to-bob-short", Jwt(issuer=DAVE, audience=BOB.did, att=att, exp=NOW + 30)
    )
    _invoke(
        book,
        "bob-gets-under-short",
        BOB,
        {f"{DAVES}/kv/b": plain(GET), f"{DAVES}/kv/a": plain(GET)},
        [parent.cid],
    )
    live = {"live": ["dave-to-bob-short"], "dependent": 2}
    expired = _no_action(f"{DAVES}/kv/a", GET)
    name = "dave-to-bob-short"
    book.invokes(
        "bob-before-the-chain-ends",
        "I33",
        "bob-gets-under-short",
        name,
        now=NOW + 29.5,
        expect=live,
    )
    book.invokes(
        "bob-when-the-chain-ends",
        "I33 Q17",
        "bob-gets-under-short",
        name,
        now=NOW + 30,
        expect=expired,
    )
    long = book.add(
        "dave-to-carol-long",
        Jwt(issuer=DAVE, audience=CAROL.did, att=att, exp=NOW + HOUR, prf=[parent.cid]),
    )
    _invoke(book, "carol-gets-under-long", CAROL, {f"{DAVES}/kv/a": plain(GET)}, [long.cid])
    registered = "dave-to-bob-short dave-to-carol-long"
    book.invokes(
        "carol-an-ancestor-ended",
        "I33",
        "carol-gets-under-long",
        registered,
        now=NOW + 30,
        expect=expired,
    )


def _invocation_caveats(book: _Book) -> None:
    resource = f"{DAVES}/kv/c"

    def selector(kind: str, value: str) -> list[dict[str, Any]]:
        return [{"type": "xyz.tinycloud.resource/selector", "kind": kind, "value": value}]

    def parent(name: str, caveats: list[dict[str, Any]]) -> Token:
        return book.add(
            name, Jwt(issuer=DAVE, audience=BOB.did, att={resource: {GET: caveats}}, exp=NOW + HOUR)
        )

    parents = {
        "dave-to-bob-caveat": parent("dave-to-bob-caveat", [{"k": 1}]),
        "dave-to-bob-no-caveat": parent("dave-to-bob-no-caveat", [{}]),
        "dave-to-bob-exact-c": parent("dave-to-bob-exact-c", selector("exact", "c")),
        "dave-to-bob-exact-other": parent("dave-to-bob-exact-other", selector("exact", "other")),
        "dave-to-bob-prefix-of-all": parent(
            "dave-to-bob-prefix-of-all", selector("prefix", f"{DAVES}/kv")
        ),
    }
    widened = "invocation-caveats-not-subset-of-chain"
    for name, cited, caveats, refused in (
        ("caveat-dropped", "dave-to-bob-caveat", [{}], widened),
        ("caveat-changed", "dave-to-bob-caveat", [{"k": 2}], widened),
        ("caveat-more", "dave-to-bob-caveat", [{"k": 1}, {"k": 1}], widened),
        ("selector-narrower", "dave-to-bob-prefix-of-all", selector("exact", "c"), widened),
        ("caveat-repeated", "dave-to-bob-caveat", [{"k": 1}], "caveat-not-understood"),
        ("caveat-added", "dave-to-bob-no-caveat", [{"k": 1}], "caveat-not-understood"),
        (
            "selector-not-met",
            "dave-to-bob-exact-other",
            selector("exact", "other"),
            "selector-caveat-not-met",
        ),
        ("selector-met", "dave-to-bob-exact-c", selector("exact", "c"), None),
        (
            "selector-met-as-prefix",
            "dave-to-bob-prefix-of-all",
            selector("prefix", f"{DAVES}/kv"),
            None,
        ),
        ("selector-added", "dave-to-bob-no-caveat", selector("exact", "c"), None),
    ):
        _invoke(book, f"bob-gets-{name}", BOB, {resource: {GET: caveats}}, [parents[cited].cid])
        expect: dict[str, Any] = {"live": [cited], "dependent": 1}
        if refused is not None:
            expect = _failed(
                "caveats-not-contained", f"invocation-caveats-not-subset-of-chain: {refused}"
            )
        book.invokes(f"bob-{name}", "I35 I39 3.5", f"bob-gets-{name}", cited, expect=expect)


def _sql_invocation_caveats(book: _Book) -> None:
    resource = f"{DAVES}/sql/main"
    statement = {"name": "a", "sql": "SELECT 1"}
    only = {"mode": "constrained-statements", "readOnly": True, "statements": [statement]}
    granted: dict[str, dict[str, Any]] = {
        "all": {},
        "tables": {"tables": ["notes", "tags"]},
        "only": only,
    }
    parents = {
        name: book.add(
            f"dave-to-bob-sql-call-{name}",
            Jwt(
                issuer=DAVE, audience=BOB.did, att={resource: {SQL_READ: [caveat]}}, exp=NOW + HOUR
            ),
        )
        for name, caveat in granted.items()
    }
    widened = "invocation-caveats-not-subset-of-chain"
    calls: tuple[tuple[str, str, dict[str, Any], str | None], ...] = (
        ("tables-fewer", "tables", {"tables": ["tags"]}, None),
        ("tables-added", "all", {"tables": ["tags"], "readOnly": True}, None),
        ("tables-more", "tables", {"tables": ["tags", "private"]}, widened),
        ("tables-dropped", "tables", {}, widened),
        ("statement-repeated", "only", only, None),
        ("statement-dropped", "only", {}, "containment-caveat-required"),
    )
    for name, cited, caveat, refused in calls:
        token, parent = f"bob-queries-{name}", f"dave-to-bob-sql-call-{cited}"
        _invoke(book, token, BOB, {resource: {SQL_READ: [caveat]}}, [parents[cited].cid])
        expect: dict[str, Any] = {"live": [parent], "dependent": 1}
        if refused is not None:
            expect = _failed("caveats-not-contained", f"{widened}: {refused}")
        book.invokes(f"bob-sql-{name}", "I35 I39 3.5", token, parent, expect=expect)


def _revocations(book: _Book) -> None:
    session, bob = _session(book), _bob(book)

    def revocation(name: str, signer: Key, target: Token, prf: Sequence[str] = ()) -> str:
        att = {f"urn:cid:{target.cid}": plain(REVOKE)}
        book.add(name, Jwt(issuer=signer, audience=signer.did, att=att, prf=prf))
        return name

    def by_wallet(name: str, wallet: Wallet, target: Token) -> str:
        book.add(
            name,
            SignIn(wallet=wallet, audience=f"ucan:{target.cid}", att={}, exp=None, extra=NO_RECAP),
        )
        return name

    never = Token("", b"never registered")
    book.revokes(
        "session-target-unknown",
        "W20",
        revocation("session-revokes-unknown", SESSION, never),
        expect=_NOT_FOUND,
    )
    own = revocation("session-revokes-bob", SESSION, bob)
    book.revokes("session-own-grant", "W22 W23", own, _CHAIN, expect={"acting": SESSION.did})
    book.revokes(
        "session-own-grant-again",
        "W24",
        own,
        _CHAIN,
        revoked="session-to-bob",
        expect={"acting": SESSION.did},
    )
    book.revokes(
        "bob-what-he-received",
        "W22",
        revocation("bob-revokes-bob", BOB, bob),
        _CHAIN,
        expect={"acting": BOB.did},
    )
    owner = by_wallet("alice-revokes-bob", ALICE, bob)
    book.revokes("alice-owner-of-the-space", "W22 V3", owner, _CHAIN, expect={"acting": ALICE.did})
    book.revokes(
        "zoe-no-say", "W22", by_wallet("zoe-revokes-bob", ZOE, bob), _CHAIN, expect=_NO_REVOKER
    )
    book.revokes(
        "mallory-no-say",
        "W22",
        revocation("mallory-revokes-bob", MALLORY, bob),
        _CHAIN,
        expect=_NO_REVOKER,
    )
    control = SignIn(wallet=ALICE, audience=SESSION.url, att={f"{SPACE}/delegation": plain(REVOKE)})
    proof = book.add("alice-to-session-control", control)
    proved = revocation("session-revokes-session", SESSION, session, [proof.cid])
    registered = f"{_CHAIN} alice-to-session-control"
    book.revokes("session-with-control", "W21", proved, registered, expect={"acting": ALICE.did})
    book.revokes(
        "session-control-revoked",
        "W21",
        proved,
        registered,
        revoked="alice-to-session-control",
        expect=_NO_REVOKER,
    )
    lacking = revocation("session-revokes-bob-without-control", SESSION, bob, [session.cid])
    book.revokes("session-proof-lacks-control", "W21", lacking, _CHAIN, expect=_NO_REVOKER)
    double = revocation("session-revokes-bob-two-proofs", SESSION, bob, [proof.cid, session.cid])
    book.revokes("session-two-proofs", "W21", double, registered, expect=_NO_REVOKER)
    foreign = revocation("mallory-revokes-bob-with-control", MALLORY, bob, [proof.cid])
    book.revokes("mallory-control-of-session", "W21", foreign, registered, expect=_NO_REVOKER)
    outside = _failed("revocation-outside-window", "Revocation expired or not yet valid")
    book.revokes("session-token-ended", "W26", own, _CHAIN, now=NOW + 60.5, expect=outside)


_PARTS: tuple[Callable[[_Book], None], ...] = (
    _windows,
    _roots_and_parents,
    _revoked_and_terminal,
    _time_containment,
    _capabilities,
    _caveats,
    _sql_caveats,
    _size,
    _hosting,
    _invocation_windows,
    _invocations,
    _chain_windows,
    _invocation_caveats,
    _sql_invocation_caveats,
    _revocations,
)
