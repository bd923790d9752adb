"""The chain rules as plain code, to be compared with the product.

Written from spec/capabilities.md alone: it imports nothing of the product. A grant is a `Token`, a
resource is a text, and a refusal is the text that the specification gives. Signatures, encodings,
machine tokens and trusts, limits on sizes, and hosting are left out.

Example:
    oracle = Oracle(names=names, node=node, cids=cids)
    oracle.register(grant)     # or Refused
    oracle.call(call)
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matrix.cases import Right, Token
from matrix.oracle_caveats import (
    check_database_caveats,
    check_delegated_caveats,
    check_invoked_caveats,
    check_met,
)
from matrix.oracle_places import Refused, canonical_text, contains, owner_of, place_of, satisfies

LIFETIME_S = 300
LONGEST_CHAIN = 64
REVOKE = "tinycloud.delegation/revoke"

MALFORMED = "token-malformed"
OTHER_KIND = "Token of another kind"
BAD_SIGNATURE = "Failed to verify signature"
NO_PARENT = "Cannot find parent delegation"
TOO_LONG = "delegation-chain-traversal-limit-exceeded"
NO_REVOKER = "Unauthorized Revoker"
USED = "duplicate-invocation"
_ABILITY = re.compile(r"[\w\-.+*]+/[\w\-.+*]+")


class Oracle:
    """What a node with these grants has to answer.

    Attributes:
        now: seconds since the beginning of the case, as in the tokens.
        node: the DID of the node.
        cids: the cid of each token by its label; written by whoever signs them.
    """

    def __init__(self, *, names: Iterable[str], node: str, cids: Mapping[int, str]) -> None:
        self.now = 0.0
        self.node = node
        self.cids = cids
        self._names = tuple(names)
        self._grants: dict[int, Token] = {}
        self._revoked: set[int] = set()
        self._used: set[int] = set()

    # --- registration (3) -------------------------------------------------------------------------

    def register(self, token: Token) -> None:
        """Judge a delegation, and keep it if it is valid."""
        _check_form(token)
        if token.is_broken:
            raise Refused(BAD_SIGNATURE)  # D5
        if token.audience == self.node and not token.is_cacao:
            raise Refused(OTHER_KIND)  # T10
        if token.label in self._grants:
            self._register_again(token)  # D4
            return
        if len(self._closure_of(token.proofs)) + 1 > LONGEST_CHAIN:
            raise Refused(TOO_LONG)  # D30
        if not self._is_in_own_window(token):
            raise Refused("Delegation expired or not yet valid")  # D6
        dependent = self._dependent(token)
        if dependent and not token.proofs:
            raise Refused(NO_PARENT)  # D21
        self._check_registered(token.proofs)  # D22
        if dependent:
            for parent in token.proofs:
                if self._grants[parent].audience != token.signer:
                    raise Refused(f"Unauthorized Delegator: {token.signer}")  # D22
        self._check_unrevoked(
            token.proofs, itself="delegation-parent-revoked", role="parent"
        )  # D23
        if dependent:
            self._check_passed_on(token, dependent)
        for right in self._in_order(token.rights):
            check_database_caveats(right)  # D32
        self._grants[token.label] = token

    def _register_again(self, token: Token) -> None:
        """Answer a delegation that is stored already (D4)."""
        own = self.cids[token.label]
        for member in self._closure_of([token.label]):
            if member in self._revoked and member == token.label:
                raise Refused(f"delegation-revoked: {own}")
            if member in self._revoked:
                raise Refused(
                    f"delegation-ancestor-revoked: ancestor={self.cids[member]} parent={own}"
                )
        if not self._is_in_own_window(token):
            raise Refused("Delegation expired or not yet valid")

    def _check_passed_on(self, token: Token, dependent: Sequence[Right]) -> None:
        """Check that the parents support what a delegation passes on (D24, D25, D27)."""
        parents = [self._grants[parent] for parent in token.proofs]
        for parent in parents:
            if parent.is_terminal:
                raise Refused("terminal-parent-cannot-redelegate")  # D24
        outliving = [parent for parent in parents if not _ends_before(parent, token)]
        supporting = [parent for parent in outliving if not _begins_after(parent, token)]
        if not supporting and len(outliving) < len(parents):
            raise Refused("Child delegation expiry exceeds parent expiry")  # D25
        if not supporting:
            raise Refused("Child delegation not_before precedes parent not_before")  # D25
        for right in dependent:
            reasons = self._reasons(right, supporting, check_delegated_caveats)
            if reasons == []:
                raise Refused(
                    f"Unauthorized Capability: {self._text(right)}, {right.ability}"
                )  # D27
            if reasons is not None:
                raise Refused(f"child-caveats-not-subset-of-parent: {reasons[-1]}")

    # --- invocation (4) ---------------------------------------------------------------------------

    def call(self, token: Token) -> None:
        """Judge an invocation."""
        _check_form(token)
        if not self._is_in_own_window(token):
            raise Refused("Invocation expired or not yet valid")  # I2
        if token.is_broken:
            raise Refused(BAD_SIGNATURE)  # I3
        if token.ends is None or token.ends > math.floor(self.now) + LIFETIME_S:
            raise Refused("Invocation lifetime exceeds server maximum")  # I4
        if token.audience not in (token.signer, self.node):
            raise Refused(OTHER_KIND)  # T8
        if token.label in self._used:
            raise Refused(USED)  # I20
        self._used.add(token.label)
        if token.label in self._grants:
            raise Refused(OTHER_KIND)  # T9
        if len(self._closure_of(token.proofs)) > LONGEST_CHAIN:
            raise Refused(TOO_LONG)  # I13
        dependent = self._dependent(token)
        if dependent and not token.proofs:
            raise Refused(NO_PARENT)  # I31
        self._check_registered(token.proofs)  # I30, I31
        if dependent:
            self._check_authority(token, dependent)
        for right in self._in_order(token.rights):
            check_met(right, self._names)  # I39

    def _check_authority(self, token: Token, dependent: Sequence[Right]) -> None:
        """Check that the cited grants cover a call (I32 to I35)."""
        cited = [self._grants[proof] for proof in token.proofs]
        for grant in cited:
            if grant.audience != token.signer:
                raise Refused("Unauthorized Invoker")  # I32
        self._check_unrevoked(token.proofs, itself="delegation-revoked", role="invoked")  # I32
        for member in self._closure_of(token.proofs):
            if not self._is_in_force_now(self._grants[member]):
                first = dependent[0]
                raise Refused(f"Unauthorized Action: {self._text(first)} / {first.ability}")  # I33
        for right in dependent:
            reasons = self._reasons(right, cited, check_invoked_caveats)
            if reasons == []:
                raise Refused(f"Unauthorized Action: {self._text(right)} / {right.ability}")  # I34
            if reasons is not None:
                raise Refused(f"invocation-caveats-not-subset-of-chain: {reasons[-1]}")  # I35

    # --- revocation (wire 5.5) --------------------------------------------------------------------

    def revoke(self, token: Token) -> None:
        """Judge a revocation, and mark its target."""
        if token.is_broken:
            raise Refused(BAD_SIGNATURE)
        if not token.is_cacao and token.audience not in (token.signer, self.node):
            raise Refused(OTHER_KIND)  # T8
        if not self._is_in_own_window(token):
            raise Refused("Revocation expired or not yet valid")
        target = None if token.target is None else self._grants.get(token.target)
        if target is None:
            raise Refused(NO_PARENT)  # W20
        acting = self._acting(token)
        owners = [
            owner_of(right.resource, self._names)
            for right in target.rights
            if place_of(right.resource, self._names) is not None
        ]
        if acting is None or acting not in (target.signer, target.audience, *owners):
            raise Refused(NO_REVOKER)  # W22
        self._revoked.add(target.label)

    def _acting(self, token: Token) -> str | None:
        """Return for whom a revocation acts (W21, W23)."""
        if not token.proofs:
            return token.signer
        if len(token.proofs) != 1 or token.proofs[0] not in self._grants:
            return None
        proof = self._grants[token.proofs[0]]
        if proof.audience != token.signer:
            return None
        for member in self._closure_of(token.proofs):
            if member in self._revoked or not self._is_in_force_now(self._grants[member]):
                return None
        for right in proof.rights:
            place = place_of(right.resource, self._names)
            if place is None or place.owner != proof.signer or right.ability != REVOKE:
                continue
            is_plain = place.query is None and place.fragment is None and right.caveats == ({},)
            if place.service == "delegation" and not place.path and is_plain:
                return proof.signer
        return None

    # --- what several rules need ------------------------------------------------------------------

    def _text(self, right: Right) -> str:
        return canonical_text(right.resource, self._names)

    def _in_order(self, rights: Iterable[Right]) -> list[Right]:
        """Return capabilities by resource, then by ability (T7)."""
        return sorted(rights, key=lambda right: (self._text(right), right.ability))

    def _dependent(self, token: Token) -> list[Right]:
        """Return the capabilities whose root the signer is not (R1 to R3)."""
        return [
            right
            for right in self._in_order(token.rights)
            if owner_of(right.resource, self._names) != token.signer
        ]

    def _closure_of(self, labels: Iterable[int]) -> list[int]:
        """Return grants with all their ancestors, without those that are not registered."""
        found: list[int] = []
        for label in labels:
            if label not in self._grants:
                continue
            for member in [label, *self._closure_of(self._grants[label].proofs)]:
                if member not in found:
                    found.append(member)
        return found

    def _check_registered(self, proofs: Sequence[int]) -> None:
        """Check that all proofs are registered and cited once (D22, I31)."""
        if len(set(proofs)) < len(proofs) or not self._grants.keys() >= set(proofs):
            raise Refused(NO_PARENT)

    def _check_unrevoked(self, proofs: Sequence[int], *, itself: str, role: str) -> None:
        for proof in proofs:
            for member in self._closure_of([proof]):
                if member in self._revoked and member == proof:
                    raise Refused(f"{itself}: {self.cids[proof]}")
                if member in self._revoked:
                    ancestor, named = self.cids[member], self.cids[proof]
                    raise Refused(
                        f"delegation-ancestor-revoked: ancestor={ancestor} {role}={named}"
                    )

    def _reasons(self, right: Right, grants: Sequence[Token], check: Any) -> list[str] | None:
        """Return why each capability of the right place and ability does not cover, or None.

        None: one of them covers. An empty list: none has the place and ability.
        """
        reasons = []
        for grant in grants:
            for held in self._in_order(grant.rights):
                if not satisfies(held.ability, right.ability):
                    continue
                if not contains(held.resource, right.resource, self._names):
                    continue
                try:
                    check(held, right)
                except Refused as refusal:
                    reasons.append(refusal.text)
                else:
                    return None
        return reasons

    def _is_in_own_window(self, token: Token) -> bool:
        """Return whether a token is valid now by its own times (T4, C8)."""
        if token.begins is not None:
            if token.is_cacao and self.now <= token.begins:
                return False
            if self.now < token.begins:
                return False
        return token.ends is None or self.now <= token.ends

    def _is_in_force_now(self, grant: Token) -> bool:
        """Return whether a grant has begun and has not reached its end (I33)."""
        if grant.begins is not None and self.now < grant.begins:
            return False
        return grant.ends is None or self.now < grant.ends


def _check_form(token: Token) -> None:
    for right in token.rights:
        if not _ABILITY.fullmatch(right.ability):
            raise Refused(MALFORMED)  # A1


def _ends_before(parent: Token, child: Token) -> bool:
    return parent.ends is not None and (child.ends is None or child.ends > parent.ends)


def _begins_after(parent: Token, child: Token) -> bool:
    return parent.begins is not None and (child.begins is None or child.begins < parent.begins)
