"""Tests of rules TM16 and TM17, the two statements by which a team moves to another wallet."""

from typing import Any

import pytest
from tests_support import altered

from capabilities.capability_errors import MalformedToken
from capabilities.cids import Cid, cid_text, parse_cid
from capabilities.memberships import Membership, stated_membership
from capabilities.signatures import WalletSigner
from capabilities.successions import Move, check_pair, is_succession

SECOND_ADMIN, HEIR = WalletSigner(b"\x0d" * 32), WalletSigner(b"\x0e" * 32)


def statement(world: Any, wallet: WalletSigner, admin: Any, **members: Any) -> Any:
    """Return the statement of an admin that names `HEIR` as the successor."""
    changes = {"role": "successor", **members}
    return world.member("reader", wallet=HEIR, by=admin, signer=wallet, changes=changes)


class Pair:
    """The two statements of a succession, by admins whom the team admitted."""

    def __init__(self, world: Any) -> None:
        self.world = world
        first_admin = world.member("admin", wallet=world.ADMIN)
        self.second_admin = world.member("admin", wallet=SECOND_ADMIN)
        self.first = statement(world, world.ADMIN, first_admin)
        self.first_cid = cid_text(self.first.delegation.cid)
        self.second = statement(
            world, SECOND_ADMIN, self.second_admin, countersigns=self.first_cid
        ).delegation

    @property
    def stated(self) -> Membership:
        """The statement of the second delegation."""
        return stated_membership(self.second, registered_at=self.world.now)

    def checked(self, *, countersigns: str) -> Move:
        """Check the statements, of which the second names the first by this CID."""
        stated = altered(self.stated, countersigns=countersigns)
        return check_pair(self.second, stated, self.second_admin, self.first)


def test_TM16_what_names_a_successor(world: Any) -> None:
    """Only a membership of the role `successor` is a statement of a succession (TM16)."""
    admin = world.member("admin", wallet=world.ADMIN)
    assert is_succession(statement(world, world.ADMIN, admin).delegation)
    for role in ("admin", "writer", "reader"):
        assert not is_succession(world.member(role).delegation)
    assert not is_succession(world.sign_in(world.session).delegation)


def test_TM16_a_malformed_statement_names_no_successor(world: Any) -> None:
    """A membership whose statement is no object names no successor (TM16)."""
    membership = world.member("reader").delegation
    (fact,) = membership.facts
    for value in (None, "successor", ["successor"], {}):
        malformed = altered(membership, facts=(dict.fromkeys(fact, value),))
        assert not is_succession(malformed)


def test_TM17_two_statements_move_a_team(world: Any) -> None:
    """The statements of two admins for the same wallet belong together (TM17)."""
    pair = Pair(world)
    moved = pair.checked(countersigns=pair.first_cid)
    assert (moved.team, moved.successor) == (world.owner, HEIR.did)


def test_TM17_the_first_statement_is_named_by_its_cid(world: Any) -> None:
    """The first statement is named by the CID of its token, and in no other form (TM17)."""
    pair = Pair(world)
    named = parse_cid(pair.first_cid)
    other_codec = Cid(0x71, named.hash_code, named.digest).text()
    assert parse_cid(other_codec).digest32 == named.digest32
    other_token = cid_text(pair.second.cid)
    for cid in (other_codec, other_token, pair.first_cid.upper()):
        with pytest.raises(MalformedToken, match="by another cid than that of its token"):
            pair.checked(countersigns=cid)
