"""A run: the node under test, the throw-away owner with whom the kit signs in, and the rows."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from sealspace_conformance.expectations import Expectation
from sealspace_conformance.keys import Key, Wallet, new_key, new_wallet
from sealspace_conformance.quotes import Authority
from sealspace_conformance.report import FAILED, NOT_APPLICABLE, PASSED, Row, shown
from sealspace_conformance.tokens import Caveats, Grants, SignIn, Token, Ucan, plain
from sealspace_conformance.transport import Answer, Node

_MOST_UNANSWERED = 3
_SESSION_S = 3600
_CALL_S = 60
KV = tuple(f"tinycloud.kv/{name}" for name in ("del", "get", "list", "metadata", "put"))
SQL = tuple(f"tinycloud.sql/{name}" for name in ("admin", "read", "schema", "write"))
NETWORK_ABILITIES = (
    "sealspace.encryption/policy",
    "sealspace.encryption/receipts",
    "tinycloud.encryption/decrypt",
    "tinycloud.encryption/network.create",
    "tinycloud.encryption/network.revoke",
)
NETWORK_NAMES = (
    "default",
    "kit",
    "second",
    "refused",
    "array",
    "kinds",
    "kinds-second",
    "rotated",
)
"""The networks on which the session of a new owner has rights."""


class Silent(Exception):
    """The node no longer answers."""


class Blocked(Exception):
    """A group cannot go on, because something that it builds on failed."""


class Unsuitable(Exception):
    """A group is not applicable to this node."""


@dataclass
class Owner:
    """A throw-away owner: a wallet, its session's key, and the sign-in."""

    wallet: Wallet
    session: Key
    sign_in: Token

    def space(self, name: str = "default") -> str:
        """Return the id of one of the owner's spaces."""
        return f"tinycloud:{self.wallet.did.removeprefix('did:')}:{name}"

    def network(self, name: str = "default") -> str:
        """Return the id of one of the owner's networks."""
        return f"urn:tinycloud:encryption:{self.wallet.did}:{name}"


@dataclass
class Run:
    """The state of one run.

    Attributes:
        node: the node under test.
        did: its DID by `/info`.
        info: its `/info`.
        owner: the owner who signed in; `signed_in` gives it.
        hosting: why the node hosts no space of the owner; empty if it does.
        skew_s: how much the node's clock is ahead, by its `Date` header.
        authority: signs quotes that the node accepts; None: the kit was given none.
        runner: a runner that uses the node; None: the kit was given none.
    """

    node: Node
    authority: Authority | None = None
    runner: Node | None = None
    rows: list[Row] = field(default_factory=list)
    group: str = ""
    did: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    owner: Owner | None = None
    hosting: str = "no sign-in was tried"
    skew_s: float = 0.0
    unanswered: int = 0

    # --- rows ---------------------------------------------------------------------------------

    def add(self, rule: str, asked: str, expected: str, seen: str, verdict: str) -> None:
        """Add a row."""
        self.rows.append(
            Row(
                rule=rule,
                group=self.group,
                asked=asked,
                expected=shown(expected),
                seen=shown(seen),
                verdict=verdict,
            )
        )

    def judge(self, rule: str, asked: str, expectation: Expectation, answer: Answer) -> None:
        """Add the row of an answer.

        Raises:
            Silent: several requests in succession had no answer.
        """
        if expectation.elsewhere is not None and not self.is_sealspace:
            expectation = expectation.elsewhere
        if answer.failure:
            self.add(rule, asked, expectation.text, answer.failure, FAILED)
            self.unanswered += 1
            if self.unanswered >= _MOST_UNANSWERED:
                raise Silent
            return
        self.unanswered = 0
        difference = expectation.difference(answer)
        seen = f"{answer.status} {answer.text}".rstrip()
        if difference:
            self.add(rule, asked, expectation.text, f"{difference}: {seen}", FAILED)
        else:
            self.add(rule, asked, expectation.text, seen, PASSED)

    def compare(self, rule: str, asked: str, expected: str, *, holds: bool, seen: str) -> None:
        """Add the row of a comparison."""
        self.add(rule, asked, expected, seen, PASSED if holds else FAILED)

    def not_applicable(self, rule: str, asked: str, why: str) -> None:
        """Add a row that this node cannot have."""
        self.add(rule, asked, "", why, NOT_APPLICABLE)

    # --- requests -----------------------------------------------------------------------------

    async def ask(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        method: str,
        path: str,
        *,
        token: Token | str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and add its row."""
        signed = token if isinstance(token, str) else token.text
        answer = await self.node.send(method, path, token=signed, body=body, headers=headers)
        self.judge(rule, asked, expectation, answer)
        return answer

    async def invoke(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        token: Token | str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send an invocation and add its row."""
        return await self.ask(
            rule, asked, expectation, "POST", "/invoke", token=token, body=body, headers=headers
        )

    async def delegate(
        self, rule: str, asked: str, expectation: Expectation, token: Token | str
    ) -> Answer:
        """Post a delegation and add its row."""
        return await self.ask(rule, asked, expectation, "POST", "/delegate", token=token)

    async def prepare(
        self,
        what: str,
        token: Token,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a call or a delegation on which the following rows rest.

        Raises:
            Blocked: it was not answered with 200.
            Silent: several requests in succession had no answer.
        """
        path = "/delegate" if body is None else "/invoke"
        answer = await self.node.send("POST", path, token=token.text, body=body, headers=headers)
        if answer.failure:
            self.unanswered += 1
            if self.unanswered >= _MOST_UNANSWERED:
                raise Silent
        if answer.status != 200:
            raise Blocked(f"{what}: {answer.failure or f'{answer.status} {answer.text}'}")

    # --- time and tokens ----------------------------------------------------------------------

    def now(self) -> float:
        """Return the time by the node's clock."""
        return time.time() + self.skew_s

    def set_clock(self, answer: Answer) -> None:
        """Read the node's clock from a `Date` header; whole seconds, so small differences are
        ignored."""
        try:
            date = parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:
            return
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        skew = date.timestamp() - time.time()
        if abs(skew) > 2:
            self.skew_s = skew

    def call(
        self,
        signer: Key,
        grants: Grants,
        *,
        proofs: Sequence[Token | str] = (),
        audience: str | None = None,
        lifetime_s: float = _CALL_S,
        not_before: float | None = None,
        facts: Sequence[Any] = (),
        nonce: str | None = None,
    ) -> Token:
        """Return an invocation; its audience is its issuer unless another one is given."""
        return Ucan(
            signer=signer,
            audience=audience or signer.did,
            grants=grants,
            ends_at=round(self.now() + lifetime_s, 3),
            not_before=not_before,
            proofs=[proof if isinstance(proof, str) else proof.cid for proof in proofs],
            facts=facts,
            nonce=nonce,
        ).sign()

    def grant(
        self,
        signer: Key,
        audience: Key,
        grants: Grants,
        *,
        proofs: Sequence[Token | str],
        lifetime_s: float = 600,
        not_before: float | None = None,
        facts: Sequence[Any] = (),
    ) -> Token:
        """Return a delegation from one key to another."""
        return self.call(
            signer,
            grants,
            audience=audience.did,
            proofs=proofs,
            lifetime_s=lifetime_s,
            not_before=not_before,
            facts=facts,
        )

    def kv_call(
        self, name: str, path: str, *, space: str = "default", caveats: Caveats = ({},)
    ) -> Token:
        """Return a call of the owner's session on a value."""
        owner = self.known_owner
        resource = f"{owner.space(space)}/kv/{path}"
        return self.call(
            owner.session, {resource: {f"tinycloud.kv/{name}": caveats}}, proofs=[owner.sign_in]
        )

    # --- the owner ----------------------------------------------------------------------------

    @property
    def known_owner(self) -> Owner:
        """The owner who signed in.

        Raises:
            Blocked: no sign-in was accepted.
        """
        if self.owner is None:
            raise Blocked("the sign-in was not accepted")
        return self.owner

    def hosted_owner(self) -> Owner:
        """Return the owner, whose spaces are hosted.

        Raises:
            Blocked: no sign-in was accepted.
            Unsuitable: the node hosts no space of an unknown owner.
        """
        owner = self.known_owner
        if self.hosting:
            raise Unsuitable(self.hosting)
        return owner

    @property
    def is_sealspace(self) -> bool:
        """Whether the node has the routes of sealspace's own, by its `/info`."""
        return isinstance(self.info.get("oidcDid"), str)

    @property
    def features(self) -> list[Any]:
        """What the node offers, by its `/info`."""
        found = self.info.get("features")
        return found if isinstance(found, list) else []


def new_owner(now: float) -> Owner:
    """Return a new owner with a signed sign-in that has not been sent."""
    wallet = new_wallet()
    session = new_key()
    draft = Owner(wallet=wallet, session=session, sign_in=Token("", b""))
    grants: dict[str, Mapping[str, Caveats]] = {}
    for name in ("default", "public", "secrets"):
        space = draft.space(name)
        grants[f"{space}/kv"] = plain(*KV)
        grants[f"{space}/capabilities/all"] = plain("tinycloud.capabilities/read")
        grants[f"{space}/delegation"] = plain("tinycloud.delegation/list")
        grants[f"{space}/space"] = plain(
            "tinycloud.space/create", "tinycloud.space/info", "tinycloud.space/list"
        )
    grants[f"{draft.space()}/sql"] = plain(*SQL)
    for name in NETWORK_NAMES:
        grants[draft.network(name)] = plain(*NETWORK_ABILITIES)
    draft.sign_in = SignIn(
        wallet=wallet,
        audience=session.url,
        grants=grants,
        issued_at=now,
        ends_at=now + _SESSION_S,
    ).sign()
    return draft


def fresh_name() -> str:
    """Return a name that no earlier run used."""
    return secrets.token_hex(6)
