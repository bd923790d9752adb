"""A client that moves a team to another wallet, because somebody else may know the team's key.

The new wallet is made first, with its space, its network and the memberships of the members who
come along. Then two admins sign, one after the other. From that moment the node refuses everything
that the former wallet signed, and the new wallet takes the values along. Each step can be repeated.

Example:
    assert await client.team_moves.succession(client.session.owner) is None
    prepared = await client.team_moves.prepare(bytes(range(1, 33)), ())
    assert prepared.memberships == ()
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.memberships import Membership
from capabilities.principals import Principal, same_principal
from capabilities.resources import SpaceId
from capabilities.signatures import WalletSigner

from ..delegations import Delegations
from ..documents.places import place_of
from ..documents.secret_names import (
    OWN_FOLDER,
    SECRETS_SPACE,
    SecretName,
    is_protected,
    parse_secret_label,
    secret_at,
)
from ..documents.secret_payloads import Secret, secret_payload
from ..documents.successions import (
    MoveStatement,
    ProvenMove,
    parse_move_line,
    verify_move,
    verify_statement,
)
from ..encryption import Encryption, envelope_bytes
from ..errors import (
    DelegationRevoked,
    EncryptionError,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    SealspaceError,
    SuccessionInvalid,
    Unauthorized,
    ValueTooLarge,
)
from ..kv import Kv
from ..secrets import VAULT_METADATA, Secrets, secret_label
from ..session import Grant, Session, network_of_owner, read_grant, space_of
from ..wallets import AnyWallet, wallet_of
from ..wire.caller import Caller
from ..wire.node_answers import decoded
from ..wire.sign_in import SignIn, register, wallet_sign_in
from ..wire.transport import Request, path_segment
from ..wire.values import KeptVersion
from .membership_signing import sign_statement
from .memberships import (
    TeamMember,
    TeamMembers,
    admin_of,
    cited_membership,
    terms_of,
    wallets_above,
)
from .teams import Teams

LEAST_LEFT_S = 86_400.0
"""Least time that the membership of an admin who signs still lasts."""
MOVED_FROM = "x-sealspace-moved-version"
"""Metadata of a moved value: the number of the version that it is a copy of."""

_BRIEF_TTL_S = 3_600.0
_MOST_ANSWER_BYTES = 4 * 1024 * 1024
_MOST_NUMBER_DIGITS = 18
_UNMOVABLE = (EncryptionError, InvalidInput, NotFound, Unauthorized, ValueTooLarge)
"""Errors about a single value. Whoever may write can store such a value, so the others go on."""
_Progress = Callable[[int, int], None]


class _Proof(msgspec.Struct):
    """The node's answer about an owner."""

    owner: str
    successor: str | None
    at: float | None
    tokens: tuple[str, ...]


_PROOF = msgspec.json.Decoder(_Proof)


class PreparedTeam(NamedTuple):
    """The new wallet of a team, and what was signed with it.

    Attributes:
        team: DID of the new wallet.
        memberships: those that were signed by this call.
    """

    team: Principal
    memberships: tuple[Grant, ...]


class MovedValues(NamedTuple):
    """The result of taking a team's secrets along.

    Attributes:
        moved: labels of the secrets that were stored by this call.
        kept: labels of those that were there already.
        failed: labels of those that could not be taken along, each with the reason.
    """

    moved: tuple[str, ...]
    kept: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


class TeamMoves:
    """A client for moving a team to another wallet.

    Use `Client.team_moves` to get an instance. `name`, `examine`, `countersign` and `unreadable`
    are for the session of an admin for the team, the other methods for any session.

    Args:
        caller: sends requests with the session's authority.
        encryption: the encryption service of the same client.
    """

    def __init__(self, caller: Caller, encryption: Encryption) -> None:
        self._caller = caller
        self._encryption = encryption

    # --- before -----------------------------------------------------------------------------------

    async def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return the secrets that cannot be taken along, with the reasons.

        Every secret of the team is opened once. Values that state no place are for the owner alone,
        and values that a runner made are for runners.

        Raises:
            SealspaceError: as `Kv.list`, or the node does not answer.
        """
        secrets = Secrets(self._caller, self._encryption, self._space)
        now = self._caller.clock.now()
        found = []
        async for secret in _secrets_in(Kv(self._caller, self._space)):
            reason = await _why_unreadable(secrets, self._space, secret, now=now)
            if reason is not None:
                found.append((secret.label, reason))
        return tuple(found)

    async def prepare(self, seed: bytes, members: Sequence[TeamMember]) -> PreparedTeam:
        """Make the new wallet's space and network, and sign memberships with it.

        A member who has an equal membership already is left out, so the call can be repeated.

        Args:
            seed: the private key of the new wallet, 32 random bytes.
            members: memberships of the former team, of those who come along.
        Raises:
            InvalidInput: the seed is not a key.
            SpacesNotHosted: the node does not admit the new wallet as an owner.
            SealspaceError: as `Client.sign_in` and `Encryption.ensure_network`.
        """
        wallet = _wallet_of_seed(seed)
        session = await self._signed_in(wallet)
        acting = self._caller.acting(session)
        await Encryption(acting).ensure_network()
        present = {terms_of(one) for one in (await Teams(acting).members()).live}
        signed = []
        for member in members:
            if terms_of(member) in present:
                continue
            present.add(terms_of(member))
            space = space_of(session.owner, SECRETS_SPACE)
            paths = [_path_of(label) for label in member.secrets]
            stated = Membership(
                member=member.did,
                role=member.role,
                end=member.ends_at,
                paths=tuple(sorted([f"{space.text}/kv/{path}" for path in paths])),
                name=member.name,
            )
            signed.append(await sign_statement(acting, wallet, session.owner, stated, parent=None))
        await Delegations(acting).revoke(session.grants[0].cid)
        return PreparedTeam(team=session.owner, memberships=tuple(signed))

    async def _signed_in(self, wallet: WalletSigner) -> Session:
        """Sign the new wallet in for an hour."""
        asked = SignIn(space=SECRETS_SPACE, ttl_s=_BRIEF_TTL_S)
        return await wallet_sign_in(self._caller, wallet, asked)

    async def name(self, successor: str, *, wallet: AnyWallet) -> Grant:
        """Sign the first statement: that the team moves to another wallet (TM16).

        Nothing changes before another admin signs the second one.

        Args:
            successor: DID of the new wallet.
            wallet: of the admin who signs.
        Raises:
            InvalidInput: the admin's membership ends within a day.
            NotAMember: the wallet is not that of an admin.
            NodeRefused: the membership is younger than 7 days.
            SealspaceError: as `Teams.members`.
        """
        return await self._sign(successor, wallet)

    async def is_live(self, statement: MoveStatement) -> bool:
        """Send a first statement again, and return whether it can be countersigned.

        Whoever has the team's key can revoke it; then `name` signs another one.

        Args:
            statement: from `name`, verified.
        Raises:
            OwnerMoved: the team has moved to another wallet.
            SealspaceError: the node does not answer.
        """
        try:
            await register(self._caller, read_grant(statement.token))
        except DelegationRevoked:
            return False
        return True

    async def examine(self, line: str) -> MoveStatement:
        """Verify the line that another admin sent (TM21).

        Raises:
            SuccessionInvalid: the line is for another node or team, or is altered.
            NotAMember: its signer is not an admin of this team.
            SealspaceError: as `Teams.members`.
        """
        found = parse_move_line(line)
        if found.node_did != await self._caller.node_id():
            raise SuccessionInvalid(
                "the line is for another node", hint=f"use it at {found.node[:200]}"
            )
        now = self._caller.clock.now()
        statement = verify_statement(found.statement, now=now)
        if not same_principal(statement.owner, self._team):
            raise SuccessionInvalid("the line is for another team")
        if statement.countersigns is not None or statement.ends_at <= now:
            raise SuccessionInvalid("this statement of the move cannot be countersigned")
        listed = await Teams(self._caller).members()
        if statement.signer not in listed.admins:
            raise SuccessionInvalid("the wallet that signed the line is not that of an admin")
        return statement

    async def countersign(self, statement: MoveStatement, *, wallet: AnyWallet) -> Grant:
        """Sign the second statement. From then on the node refuses the former wallet (TM17).

        Call it only after both admins compared the words.

        Args:
            statement: from `examine`.
            wallet: of the admin who signs, not of the one who signed the first statement.
        Raises:
            InvalidInput: the admin's membership ends within a day, or it is the same admin.
            NotAMember: the wallet is not that of an admin.
            NodeRefused: the memberships depend on each other or on a third one, are younger than 7
                days, or the first statement is younger than a minute.
            SealspaceError: as `Teams.members`.
        """
        if same_principal(statement.signer, wallet_of(wallet).did):
            raise InvalidInput(
                "two different admins sign", hint="another admin of the team does this"
            )
        return await self._sign(statement.successor, wallet, countersigned=statement)

    # --- afterwards -------------------------------------------------------------------------------

    async def succession(self, owner: str) -> ProvenMove | None:
        """Return how an owner moved, verified by this client; None: the owner has not moved.

        Compare the new DID with somebody whom you know before you use it: the client cannot see how
        long the two admins had been admins.

        Args:
            owner: DID of the former wallet.
        Raises:
            SuccessionInvalid: the node cannot prove the move.
            SealspaceError: the node does not answer.
        """
        request = Request(
            "GET",
            f"/owners/{path_segment(owner)}/succession",
            repeatable=True,
            max_answer_bytes=_MOST_ANSWER_BYTES,
        )
        answer = await self._caller.transport.require(request)
        proof = decoded(_PROOF, answer, "an answer about an owner's wallet")
        if proof.successor is None:
            return None
        move = verify_move(owner, proof.tokens, at=proof.at or 0.0, now=self._caller.clock.now())
        if move.successor != proof.successor:
            raise SuccessionInvalid("the node names another wallet than the statements")
        return move

    async def take_along(
        self, move: ProvenMove, seed: bytes, *, progress: _Progress = lambda _done, _all: None
    ) -> MovedValues:
        """Store the secrets of a moved team for the new wallet (TM20).

        A secret is stored only if there is none of this name, its former versions first. So the
        call can be interrupted at any time and repeated, and never overwrites what a member stored.

        Args:
            move: from `succession`.
            seed: the private key of the new wallet.
            progress: called with the number of secrets that were looked at, and of all.
        Raises:
            InvalidInput: the seed is that of another wallet.
            SealspaceError: a request failed; the secrets so far are stored.
        """
        wallet = _wallet_of_seed(seed)
        if not same_principal(wallet.did, move.successor):
            raise InvalidInput(f"the team has moved to {move.successor}, not to {wallet.did}")
        session = await self._signed_in(wallet)
        new = self._caller.acting(session)
        reading = await self._reading(move, wallet)
        copying = _Copying(self._caller.acting(reading), new)
        secrets = [one async for one in _secrets_in(copying.source)]
        moved: list[str] = []
        kept: list[str] = []
        failed: list[tuple[str, str]] = []
        for done, secret in enumerate(secrets, 1):
            try:
                is_new = await copying.copy(secret)
            except _UNMOVABLE as error:
                failed.append((secret.label, error.message))
            else:
                (moved if is_new else kept).append(secret.label)
            progress(done, len(secrets))
        await Delegations(new).revoke(session.grants[0].cid)
        return MovedValues(moved=tuple(moved), kept=tuple(kept), failed=tuple(failed))

    # --- details ----------------------------------------------------------------------------------

    @property
    def _team(self) -> Principal:
        return self._caller.session.owner

    @property
    def _space(self) -> SpaceId:
        return space_of(self._team, SECRETS_SPACE)

    async def _sign(
        self, successor: str, wallet: AnyWallet, *, countersigned: MoveStatement | None = None
    ) -> Grant:
        listed = await Teams(self._caller).members()
        above = frozenset[Principal]()
        if countersigned is not None:
            above = wallets_above(listed, cited_membership(countersigned.token))
        until = self._caller.clock.now() + LEAST_LEFT_S
        own = _membership_to_sign(listed, wallet, until=until, other=above)
        stated = Membership(
            member=successor,
            role="successor",
            end=own.ends_at,
            countersigns=None if countersigned is None else countersigned.cid,
        )
        return await sign_statement(self._caller, wallet, self._team, stated, parent=own.grant)

    async def _reading(self, move: ProvenMove, wallet: WalletSigner) -> Session:
        """Sign the new wallet in under the statement that ends later, or else under the other one.

        An admin can end the own membership after the move, and a statement with it.
        """
        now = self._caller.clock.now()
        statements = sorted((move.first, move.second), key=lambda one: one.ends_at, reverse=True)
        refused: SealspaceError = SuccessionInvalid(
            "the statements of the move have ended, so the former secrets cannot be read any more",
            hint="store the secrets again",
        )
        for one in statements:
            if one.ends_at <= now:
                continue
            grant = read_grant(one.token)
            try:
                return await Teams(self._caller).sign_in(wallet, grant, ttl_s=_BRIEF_TTL_S)
            except DelegationRevoked as error:
                refused = error
        raise refused


def _membership_to_sign(
    listed: TeamMembers, wallet: AnyWallet, *, until: float, other: frozenset[Principal]
) -> TeamMember:
    """Return the membership under which an admin signs a statement.

    Whoever admits the admin once more, with good or bad intent, must not prevent the move. So it is
    the membership with the fewest admins above it, and of several the one that was signed first.

    Args:
        listed: the team's members.
        wallet: of the admin.
        until: when the membership may end at the earliest, epoch seconds.
        other: the wallets above the first statement, which may not be above the second (TM17).
    Raises:
        NotAMember: the wallet is not that of an admin.
        InvalidInput: each membership ends earlier.
    """
    did = admin_of(listed, wallet).did
    lasting = [one for one in listed.of(did) if one.role == "admin" and one.ends_at >= until]
    if not lasting:
        raise InvalidInput(
            "your membership ends within a day, and with it the time to move the secrets",
            hint="let another admin sign",
        )
    above = {one.grant.cid: wallets_above(listed, one.grant.cid) for one in lasting}
    independent = [one for one in lasting if not above[one.grant.cid] & other]
    return min(
        independent or lasting,
        key=lambda one: (len(above[one.grant.cid]), one.since or until),
    )


class _Copying:
    """The copying of secrets from a team's former space to the new one."""

    def __init__(self, former: Caller, new: Caller) -> None:
        self.source = Kv(former, space_of(former.session.owner, SECRETS_SPACE))
        self._secrets = Secrets(former, Encryption(former), self.source.space)
        self._target = Kv(new, space_of(new.session.owner, SECRETS_SPACE))
        self._network = network_of_owner(new.session.owner)
        self._encryption = Encryption(new)
        self._clock = new.clock

    async def copy(self, secret: SecretName) -> bool:
        """Store a secret and its former versions; False: the current one is there already."""
        if is_protected(secret.name):
            raise EncryptionError("a runner made it, so only a runner can make it again")
        kept = await self.source.versions(secret.path)
        newest = kept[0].version
        etag, done = await self._progress_of(secret, newest)
        for one in reversed(kept):  # the oldest first
            if one.version <= done:
                continue
            try:
                etag = await self._copy_version(secret, one, etag)
            except PreconditionFailed:
                return False  # a member stored a value meanwhile
            except _UNMOVABLE:  # a former value is left out
                if one.is_current:
                    raise
        return done < newest

    async def _progress_of(self, secret: SecretName, newest: int) -> tuple[str | None, int]:
        """Return the version that is stored in the new space, and of which number it is a copy.

        A value that a member stored counts as a copy of the newest.
        """
        try:
            stored = await self._target.metadata(secret.path)
        except NotFound:
            return None, 0
        number = _version_number(stored.metadata.get(MOVED_FROM, ""))
        return stored.etag, newest if number is None else number

    async def _copy_version(self, secret: SecretName, kept: KeptVersion, former: str | None) -> str:
        """Open a version, store it over the one with the ETag `former`, and return its ETag."""
        number = None if kept.is_current else kept.version
        opened = await self._secrets.read(secret.name, scope=secret.scope, version=number)
        return await self._put(secret, opened, kept.version, former)

    async def _put(
        self, secret: SecretName, opened: Secret, number: int, former: str | None
    ) -> str:
        payload = _payload(opened, self._target.space, secret, now=self._clock.now())
        envelope = await self._encryption.encrypt(
            payload,
            network=self._network,
            label=secret_label(self._target.space, secret),
            metadata=VAULT_METADATA,
        )
        return await self._target.put(
            secret.path,
            envelope_bytes(envelope).decode(),
            metadata={MOVED_FROM: str(number)},
            if_absent=former is None,
            if_match=former,
        )


async def _secrets_in(kv: Kv) -> AsyncIterator[SecretName]:
    """Yield the secrets of a space."""
    async for key in kv.list(OWN_FOLDER):
        secret = secret_at(key)
        if secret is not None:
            yield secret


def _payload(opened: Secret, space: SpaceId, secret: SecretName, *, now: float) -> bytes:
    """Return the plaintext with which a value is stored again in a space."""
    return secret_payload(
        opened.value,
        place=place_of(space, secret.path),
        now=now,
        created_at=opened.created_at,
    )


def _version_number(text: str) -> int | None:
    """Return the number in the metadata of a value, which any writer may have stored."""
    if not text.isdecimal() or len(text) > _MOST_NUMBER_DIGITS:
        return None
    return int(text)


async def _why_unreadable(
    secrets: Secrets, space: SpaceId, secret: SecretName, *, now: float
) -> str | None:
    """Return why a secret cannot be taken along; None: it can."""
    if is_protected(secret.name):
        return "a runner made it, so only a runner can make it again"
    try:
        opened = await secrets.read(secret.name, scope=secret.scope)
        # The new place has the same length, so a value that is too long there is too long here.
        _payload(opened, space, secret, now=now)
    except NotFound:
        return None  # it was deleted meanwhile
    except _UNMOVABLE as error:
        return error.message
    return None


def _path_of(label: str) -> str:
    """Return the path of a secret by its label."""
    return parse_secret_label(label).path


def _wallet_of_seed(seed: bytes) -> WalletSigner:
    try:
        return WalletSigner(seed)
    except (ValueError, CapabilityError) as exc:
        raise InvalidInput("the seed is not the key of a wallet: 32 random bytes") from exc
