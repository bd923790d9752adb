"""Tests of whom a key release counts for, below memberships."""

from typing import Any

import msgspec
import pytest
from tests_support import altered

from encryption_network.receipt import Receipt
from sealspace.giving.read_credits import ReadCredits
from sealspace.giving.readers import Reader
from sealspace.wire.delegation_history import DelegationRecord

ADMIN, MEMBER = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "did:key:z6MkMember"
MEMBERS = (
    Reader(kind="member", did=ADMIN, grant="admin"),
    Reader(kind="member", did=MEMBER, grant="member"),
)
CITED = {"admin": (), "member": ("admin",), "sign-in": ("member",), "passed-on": ("sign-in",)}
RELEASE = Receipt(
    node="did:key:z6MkNode",
    network="urn:n",
    owner="did:key:z6MkTeam",
    invoker="did:key:z6MkCaller",
    invocation="i",
    request_hash="0" * 64,
    receiver_public_key_hash="0" * 64,
    chain=(),
    policies=(),
    ground="off",
    mode="off",
    at_micros=0,
    evidence=None,
)


def record(cid: str, parents: tuple[str, ...]) -> DelegationRecord:
    shown: dict[str, Any] = dict.fromkeys(("issuedAt", "notBefore", "expiresAt"))
    shown |= {"cid": cid, "direction": "granted", "delegatorDid": ADMIN, "delegateDid": MEMBER}
    shown |= {"resources": (), "parents": parents, "status": "active"}
    return msgspec.convert(shown, DelegationRecord)


@pytest.mark.parametrize(
    ("chain", "credited"),
    [
        (("passed-on", "sign-in", "member", "admin"), {"passed-on", "sign-in", "member"}),
        (("sign-in", "member", "admin"), {"sign-in", "member"}),
        # The sign-in has ended, so nobody knows whose it was: the membership above may be an
        # admin's, and the member's may have been removed.
        (("ended", "admin"), {"ended"}),
        (("ended", "member", "admin"), {"ended"}),
    ],
)
def test_a_right_below_a_membership(chain: tuple[str, ...], credited: set[str]) -> None:
    """A read counts for the nearest membership alone, and for none if this one is unknown."""
    credits = ReadCredits(MEMBERS, [record(cid, parents) for cid, parents in CITED.items()])
    names = credits.names_of(altered(RELEASE, chain=chain))
    assert set(names) == {RELEASE.invoker, *credited}


def test_a_member_reads() -> None:
    """A member's read counts for that member's memberships, whatever else is in the chain."""
    credits = ReadCredits(MEMBERS, [])
    receipt = altered(RELEASE, ground="member", member=MEMBER, chain=("ended", "member", "admin"))
    assert set(credits.names_of(receipt)) == {RELEASE.invoker, "ended", "member"}
