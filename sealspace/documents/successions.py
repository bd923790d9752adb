"""Statements by which a team moves to another wallet, as a client reads and verifies them (TM21).

An admin signs the first statement and gives another admin a line with it. Both compare eight words,
and the other admin signs the second statement. Everybody can verify the two afterwards.

Example:
    line = move_line(node=url, node_did="did:key:z6Mk…", statement="…")
    assert parse_move_line(line).statement == "…"
    words = move_words(wallet.did, new_wallet().did, "bafy…")
    assert len(words) == 8
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from capabilities.capability_errors import CapabilityError, InvalidJson, MalformedToken
from capabilities.chain import Ancestor, Registered
from capabilities.cids import cid_text
from capabilities.members import check_admitted
from capabilities.memberships import is_membership, stated_membership, team_of
from capabilities.principals import Principal
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.strict_json import JsonObject, StrictRecord, parse_json, shaped
from capabilities.successions import check_pair, is_succession
from capabilities.tokens import Delegation, parse_delegation, verify_delegation
from encryption_network.canonical_json import canonical_bytes

from ..errors import SuccessionInvalid
from .comparison_words import comparison_words

PREFIX = "smove_"
"""How the line for the second admin begins."""
MAX_LINE_CHARS = 64 * 1024
WORD_COUNT = 8
"""The words have 88 bits: whoever searches for another statement with the same words fails."""
MAX_TOKENS = 64
"""Most tokens with which a succession is proven."""

_WORDS_LABEL = b"sealspace/succession/words/v1\0"
_Text = Annotated[str, Meta(max_length=4096)]


class MoveLine(StrictRecord):
    """The content of the line for the second admin (TM21).

    Attributes:
        v: version of the format.
        node: address of the node.
        node_did: DID of the node.
        statement: token of the first statement.
    """

    v: Literal[1]
    node: _Text
    node_did: _Text
    statement: Annotated[str, Meta(max_length=MAX_LINE_CHARS)]


class MoveStatement(NamedTuple):
    """A verified statement of a succession.

    Attributes:
        owner: DID of the team's former wallet.
        successor: DID of its new wallet.
        signer: DID of the admin who signed.
        cid: cid of the statement.
        ends_at: epoch seconds; the successor reads nothing afterwards.
        countersigns: cid of the first statement, in the second one; None in the first one.
        token: the statement itself.
    """

    owner: Principal
    successor: Principal
    signer: Principal
    cid: str
    ends_at: int
    countersigns: str | None
    token: str


class ProvenMove(NamedTuple):
    """A move whose two statements were verified.

    Attributes:
        first: the first statement.
        second: the one that countersigns it.
        at: when the node wrote it, epoch seconds, as the node says.
    """

    first: MoveStatement
    second: MoveStatement
    at: float

    @property
    def owner(self) -> Principal:
        """DID of the former wallet."""
        return self.first.owner

    @property
    def successor(self) -> Principal:
        """DID of the new wallet."""
        return self.first.successor

    @property
    def signers(self) -> tuple[Principal, Principal]:
        """DIDs of the two admins."""
        return self.first.signer, self.second.signer


def move_line(*, node: str, node_did: str, statement: str) -> str:
    """Return the line that the second admin gets.

    Args:
        node: address of the node.
        node_did: DID of the node.
        statement: token of the first statement.
    """
    line = MoveLine(v=1, node=node, node_did=node_did, statement=statement)
    return PREFIX + encode_url(canonical_bytes(msgspec.to_builtins(line)))


def parse_move_line(line: str) -> MoveLine:
    """Read the line for the second admin.

    Args:
        line: untrusted.
    Raises:
        SuccessionInvalid: the line is altered or incomplete. The message contains no part of it.
    Does not check:
        The statement; see `verify_statement`.
    """
    text = line.strip()
    data = None
    if text.startswith(PREFIX) and len(text) <= MAX_LINE_CHARS:
        data = decode_url(text.removeprefix(PREFIX))
    if data is None:
        raise SuccessionInvalid("this is not the line of a move, or not all of it")
    try:
        return shaped(parse_json(data, max_bytes=MAX_LINE_CHARS), MoveLine)
    except InvalidJson:
        raise SuccessionInvalid("the line of the move is altered or incomplete") from None


def move_words(owner: str, successor: str, statement_cid: str) -> tuple[str, ...]:
    """Return the eight words that both admins compare (TM21).

    They are 88 bits of a hash over both DIDs and the statement, as words of the English list of
    BIP-39.

    Args:
        owner: DID of the former wallet.
        successor: DID of the new wallet.
        statement_cid: cid of the first statement.
    """
    terms: JsonObject = {"from": owner, "statement": statement_cid, "to": successor}
    digest = sha256(_WORDS_LABEL + canonical_bytes(terms)).digest()
    return comparison_words(digest, WORD_COUNT)


def verify_statement(token: str, *, now: float) -> MoveStatement:
    """Verify one statement: its signature, its form and its rights (TM16).

    Args:
        token: untrusted.
        now: epoch seconds.
    Raises:
        SuccessionInvalid: the token is not the statement of a succession, or is not valid.
    Does not check:
        That its signer is an admin, and that it is live.
    """
    return _read_statement(_verify_token(token), token, now=now)


def verify_move(owner: str, tokens: Sequence[str], *, at: float, now: float) -> ProvenMove:
    """Verify how a team moved (TM22).

    Args:
        owner: DID of the former wallet.
        tokens: both statements and all delegations above them, in any order, untrusted.
        at: when the node wrote the move, epoch seconds.
        now: epoch seconds.
    Returns:
        The statements, which two independent admins of the team signed.
    Raises:
        SuccessionInvalid: the tokens prove no move of this owner.
    Does not check:
        That the delegations are live, and for how long the signers had been admins. The node does.
    """
    if len(tokens) > MAX_TOKENS:
        raise SuccessionInvalid(f"a move is proven with at most {MAX_TOKENS} tokens")
    delegations: dict[str, Delegation] = {}  # by cid
    first_statements: list[MoveStatement] = []
    second_statements: list[MoveStatement] = []
    for token in tokens:
        delegation = _verify_token(token)
        delegations[cid_text(delegation.cid)] = delegation
        if not is_succession(delegation):
            continue
        statement = _read_statement(delegation, token, now=now)
        if statement.countersigns is None:
            first_statements.append(statement)
        else:
            second_statements.append(statement)
    if len(first_statements) != 1 or len(second_statements) != 1:
        raise SuccessionInvalid("a move is proven with two statements")
    move = ProvenMove(first=first_statements[0], second=second_statements[0], at=at)
    if move.owner != owner:
        raise SuccessionInvalid("the statements are about another owner")
    try:
        _check_signers(move, delegations, now=now)
    except CapabilityError as exc:
        raise SuccessionInvalid(f"the move is not proven: {exc}") from exc
    return move


def _check_signers(move: ProvenMove, delegations: Mapping[str, Delegation], *, now: float) -> None:
    """Check that two independent admins of the team signed the statements (TM2, TM17).

    `delegations` has both statements and the delegations above them by their cids. Raises
    CapabilityError.
    """
    registered = {cid: _with_closure(cid, delegations, now=now) for cid in delegations}
    for statement in (move.first, move.second):
        _check_chain(statement.cid, delegations, registered)
    second = delegations[move.second.cid]
    check_pair(
        second,
        stated_membership(second, registered_at=now),
        registered[_require_one_parent(second)],
        registered[move.first.cid],
    )


def _verify_token(token: str) -> Delegation:
    """Verify the signature of a statement, or of a delegation above one."""
    try:
        return verify_delegation(parse_delegation(token))
    except CapabilityError as exc:
        raise SuccessionInvalid("a statement of the move is altered") from exc


def _read_statement(delegation: Delegation, token: str, *, now: float) -> MoveStatement:
    """Read the statement of a succession in a verified delegation (TM16)."""
    if not is_membership(delegation) or not is_succession(delegation):
        raise SuccessionInvalid("this is not the statement of a move")
    try:
        membership = stated_membership(delegation, registered_at=now)
        team = team_of(delegation)
    except CapabilityError as exc:
        raise SuccessionInvalid(f"the statement of the move is not valid: {exc}") from exc
    return MoveStatement(
        owner=team,
        successor=delegation.delegate,
        signer=delegation.delegator,
        cid=cid_text(delegation.cid),
        ends_at=membership.end,
        countersigns=membership.countersigns,
        token=token,
    )


def _require_one_parent(delegation: Delegation) -> str:
    """Return the cid of the only delegation that a statement or a membership cites."""
    if len(delegation.parents) != 1:
        raise MalformedToken("an admin cites the own membership alone")
    return delegation.parents[0].echo


def _with_closure(cid: str, delegations: Mapping[str, Delegation], *, now: float) -> Registered:
    """Return a delegation with all delegations above it, in the form that the rules take.

    The client does not know the times of registration, so every delegation gets the present time.
    """
    closure: dict[str, Ancestor] = {}
    signers: dict[Principal, None] = {}  # each once, in the order in which they are met
    pending_cids = [cid]
    while pending_cids:
        ancestor_cid = pending_cids.pop()
        if ancestor_cid in closure:
            continue
        ancestor = delegations.get(ancestor_cid)
        if ancestor is None:
            raise MalformedToken("a delegation above a statement is missing")
        closure[ancestor_cid] = Ancestor(ancestor.content_key, ancestor.cid)
        signers[ancestor.delegator] = None
        for parent in ancestor.parents:
            pending_cids.append(parent.echo)
    return Registered(
        delegation=delegations[cid],
        closure=tuple(closure.values()),
        not_before=None,
        expires_at=None,
        parents=(),
        registered_at=now,
        accounts=tuple(signers),
    )


def _check_chain(
    cid: str, delegations: Mapping[str, Delegation], registered: Mapping[str, Registered]
) -> None:
    """Check that the team, through its admins alone, is at the root of a statement (TM2).

    Follows the citations from the statement with a cid to the delegation that cites nothing.
    """
    for _ in range(len(delegations)):
        delegation = delegations[cid]
        membership = stated_membership(delegation, registered_at=registered[cid].registered_at)
        parents = []
        for parent in delegation.parents:
            if parent.echo in registered:
                parents.append(registered[parent.echo])
        check_admitted(delegation, membership, parents)
        if not delegation.parents:
            return
        cid = _require_one_parent(delegation)
    raise MalformedToken("the delegations cite each other")
