"""Recorded wallet tokens of TinyCloud's JavaScript SDK, as sign-ins (IP2, J4)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from tests_support import json_lines, shared_vectors

from capabilities.chain import Ancestor, Marker, Registered
from capabilities.sign_ins import AuthorityFacts, owner_authority
from capabilities.tokens import Delegation, parse_delegation, verify_delegation

pytestmark = pytest.mark.shared

RECORDED = {
    ("sign-in", True): 33,
    ("session-grant", True): 2,
    ("session-grant", False): 1,  # the sign-in of its session is not among the recorded tokens
    ("taken-up", False): 12,
    ("host", False): 26,
}
"""Kind, and whether its key is then the owner in person -> how many."""
MAY_DECRYPT = 27
"""Sign-ins that hold decrypt."""


@dataclass(frozen=True)
class Token:
    """One recorded wallet token."""

    kind: str
    decrypts: bool
    scenario: str
    delegation: Delegation

    @property
    def signed_at(self) -> float:
        """The time one second after the token's issue time."""
        assert self.delegation.issued_at is not None
        return self.delegation.issued_at + 1

    @property
    def link(self) -> Registered:
        """The token as stored by a node that received it at once, without its proofs."""
        token = self.delegation
        own = Ancestor(token.content_key, token.cid)
        return Registered(
            token, (own,), token.not_before, token.expires_at, (), registered_at=self.signed_at
        )


def recorded() -> list[Token]:
    """Return every token, with its signature verified."""
    return [
        Token(
            row["kind"],
            row["decrypt"],
            row["scenario"],
            verify_delegation(parse_delegation(row["authorization"])),
        )
        for row in json_lines(shared_vectors("wire/sign-ins.jsonl"))
    ]


def is_in_person(token: Token, others: Sequence[Token] = (), *, now: float | None = None) -> bool:
    """Return whether a token's key is its signer in person, by this token and other live ones."""
    links = [token.link, *(other.link for other in others)]
    facts = AuthorityFacts(
        owner=token.delegation.delegator,
        invoker=token.delegation.delegate,
        cited=(token.delegation.content_key,),
        links={token.delegation.content_key: token.link},
        sessions=tuple(links[1:]),
        marks={link.delegation.content_key: Marker.LIVE for link in links},
        now=token.signed_at if now is None else now,
    )
    return owner_authority(facts).in_person is not None


def test_recorded_tokens_are_in_person_as_their_kind_says() -> None:
    """Sign-ins and later grants to their session key are in person, and other tokens are not."""
    tokens = recorded()
    found = Counter[tuple[str, bool]]()
    for token in tokens:
        others = [
            other for other in tokens if other is not token and other.scenario == token.scenario
        ]
        found[token.kind, is_in_person(token, others)] += 1
    for (kind, in_person), count in sorted(found.items()):
        print(f"{count:3} {kind}: {'in person' if in_person else 'not in person'}")
    assert RECORDED == found
    assert MAY_DECRYPT == sum(token.kind == "sign-in" and token.decrypts for token in tokens)


def test_recorded_sign_ins_stand_by_themselves() -> None:
    """A sign-in suffices alone; a later grant without capabilities/read does not."""
    for token in recorded():
        assert is_in_person(token) is (token.kind == "sign-in")


def test_recorded_sign_ins_end_with_themselves() -> None:
    """An expired sign-in does not count, nor one dated six minutes ahead."""
    sign_ins = [token for token in recorded() if token.kind == "sign-in"]
    assert sign_ins
    for token in sign_ins:
        assert token.delegation.expires_at is not None
        assert not is_in_person(token, now=token.delegation.expires_at)
        assert not is_in_person(token, now=token.signed_at - 360)
