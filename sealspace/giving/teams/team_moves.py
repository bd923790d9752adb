"""A client that moves a team to another wallet, because somebody else may know the team's key.

The new wallet is made first, with its space, its network and the memberships of the members who
come along. Then two admins sign, one after the other. From the second signature on, the node
refuses everything that the former wallet signed. At last, the secrets are copied to the new
wallet's space. Each step can be repeated.

Example:
    assert await client.team_moves.succession(client.session.owner) is None
    prepared = await client.team_moves.prepare(bytes(range(1, 33)), ())
    assert prepared.memberships == ()
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.memberships import Membership
from capabilities.principals import Principal, same_principal
from capabilities.resources import SpaceId
from capabilities.signatures import WalletSigner

from ...delegations import Delegations
from ...documents.places import place_of
from ...documents.secret_names import (
    OWN_FOLDER,
    SECRETS_SPACE,
    SecretName,
    is_protected,
    parse_secret_label,
    secret_at,
)
from ...documents.secret_payloads import Secret, secret_payload
from ...documents.successions import (
    MoveStatement,
    ProvenMove,
    parse_move_line,
    verify_move,
    verify_statement,
)
from ...encryption import Encryption, envelope_bytes
from ...errors import (
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
from ...kv import Kv
from ...secrets import VAULT_METADATA, Secrets, secret_label
from ...session import Grant, Session, network_of_owner, read_grant, space_of
from ...wallets import AnyWallet, wallet_of
from ...wire.caller import Caller
from ...wire.node_answers import decoded
from ...wire.sign_in import SignIn, register, wallet_sign_in
from ...wire.transport import Request, path_segment
from ...wire.values import KeptVersion
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
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_MAX_NUMBER_DIGITS = 18
_ERRORS_OF_ONE_VALUE = (EncryptionError, InvalidInput, NotFound, Unauthorized, ValueTooLarge)
"""Errors about a single value. Every writer can store such a value, so the other values are copied
nevertheless."""
_MADE_BY_RUNNER = "a runner made it, so only a runner can make it again"
_Progress = Callable[[int, int], None]


class _SuccessionAnswer(msgspec.Struct):
    """The node's answer about an owner. The last three members are empty if the owner is not moved.

    Attributes:
        owner: DID of the owner.
        successor: DID of the new wallet.
        at: when the node wrote the move, epoch seconds.
        tokens: the statements, and the delegations above them.
    """

    owner: str
    successor: str | None
    at: float | None
    tokens: tuple[str, ...]


_SUCCESSION_ANSWER = msgspec.json.Decoder(_SuccessionAnswer)


class PreparedTeam(NamedTuple):
    """The new wallet of a team, and what was signed with it.

    Attributes:
        team: DID of the new wallet.
        memberships: memberships that were signed by this call.
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
            SealspaceError: the same errors as `Kv.list`, or the node does not answer.
        """
        secrets = Secrets(self._caller, self._encryption, self._space)
        now = self._caller.clock.now()
        unreadable = []
        async for secret in _list_secrets(Kv(self._caller, self._space)):
            reason = await _why_unreadable(secrets, self._space, secret, now=now)
            if reason is not None:
                unreadable.append((secret.label, reason))
        return tuple(unreadable)

    async def prepare(self, seed: bytes, members: Sequence[TeamMember]) -> PreparedTeam:
        """Make the new wallet's space and network, and sign memberships with it.

        A member who already has a membership with the same role and secrets is left out, so the
        call can be repeated.

        Args:
            seed: the private key of the new wallet, 32 random bytes.
            members: memberships of the former team, of those who come along.
        Raises:
            InvalidInput: the seed is not a key.
            SpacesNotHosted: the node does not admit the new wallet as an owner.
            SealspaceError: the same errors as `Client.sign_in` and `Encryption.ensure_network`.
        """
        wallet = _wallet_from_seed(seed)
        session = await self._sign_in(wallet)
        team_caller = self._caller.acting(session)
        await Encryption(team_caller).ensure_network()
        present_members = (await Teams(team_caller).members()).live
        present_terms = {terms_of(member) for member in present_members}
        memberships = []
        for member in members:
            if terms_of(member) in present_terms:
                continue
            present_terms.add(terms_of(member))
            statement = Membership(
                member=member.did,
                role=member.role,
                end=member.ends_at,
                paths=_resources(member.secrets, session.owner),
                name=member.name,
            )
            membership = await sign_statement(
                team_caller, wallet, session.owner, statement, parent=None
            )
            memberships.append(membership)
        await Delegations(team_caller).revoke(session.grants[0].cid)
        return PreparedTeam(team=session.owner, memberships=tuple(memberships))

    async def _sign_in(self, wallet: WalletSigner) -> Session:
        """Sign the new wallet in for an hour."""
        sign_in = SignIn(space=SECRETS_SPACE, ttl_s=_BRIEF_TTL_S)
        return await wallet_sign_in(self._caller, wallet, sign_in)

    async def name(self, successor: str, *, wallet: AnyWallet) -> Grant:
        """Sign the first statement: that the team moves to another wallet (TM16).

        Nothing changes before another admin signs the second one.

        Args:
            successor: DID of the new wallet.
            wallet: wallet of the admin who signs.
        Raises:
            InvalidInput: the admin's membership ends within a day.
            NotAMember: the wallet is not that of an admin.
            NodeRefused: the membership is younger than 7 days.
            SealspaceError: the same errors as `Teams.members`.
        """
        return await self._sign_move(successor, wallet)

    async def is_live(self, statement: MoveStatement) -> bool:
        """Register a first statement again, and return whether it can be countersigned.

        False means that it was revoked: everybody who has the team's key can do that. Call `name`
        to sign another one.

        Args:
            statement: the result of `name`, verified.
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

        Args:
            line: untrusted.
        Returns:
            The first statement of a move of this team, which an admin signed and which has not
            ended.
        Raises:
            SuccessionInvalid: the line is altered, or is for another node or team. Also if its
                statement has ended, or its signer is not an admin of this team.
            SealspaceError: the same errors as `Teams.members`.
        """
        move_line = parse_move_line(line)
        if move_line.node_did != await self._caller.node_id():
            raise SuccessionInvalid(
                "the line is for another node", hint=f"use it at {move_line.node[:200]}"
            )
        now = self._caller.clock.now()
        statement = verify_statement(move_line.statement, now=now)
        if not same_principal(statement.owner, self._team):
            raise SuccessionInvalid("the line is for another team")
        is_second_statement = statement.countersigns is not None
        has_ended = statement.ends_at <= now
        if is_second_statement or has_ended:
            raise SuccessionInvalid("this statement of the move cannot be countersigned")
        listed = await Teams(self._caller).members()
        if statement.signer not in listed.admins:
            raise SuccessionInvalid("the wallet that signed the line is not that of an admin")
        return statement

    async def countersign(self, statement: MoveStatement, *, wallet: AnyWallet) -> Grant:
        """Sign the second statement. From then on the node refuses the former wallet (TM17).

        Call it only after both admins compared the words.

        Args:
            statement: the result of `examine`.
            wallet: the wallet of the second admin.
        Returns:
            The second statement, registered with the node.
        Raises:
            InvalidInput: the admin's membership ends within a day, or the admin has also signed the
                first statement.
            NotAMember: the wallet is not that of an admin.
            NodeRefused: one of the two admins, or a third admin, is above both memberships. Also if
                a membership is younger than 7 days, or the first statement younger than a minute.
            SealspaceError: the same errors as `Teams.members`.
        """
        if same_principal(statement.signer, wallet_of(wallet).did):
            raise InvalidInput(
                "two different admins sign", hint="another admin of the team does this"
            )
        return await self._sign_move(statement.successor, wallet, first_statement=statement)

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
            max_answer_bytes=_MAX_ANSWER_BYTES,
        )
        response = await self._caller.transport.require(request)
        answer = decoded(_SUCCESSION_ANSWER, response, "an answer about an owner's wallet")
        if answer.successor is None:
            return None
        now = self._caller.clock.now()
        move = verify_move(owner, answer.tokens, at=answer.at or 0.0, now=now)
        if move.successor != answer.successor:
            raise SuccessionInvalid("the node names another wallet than the statements")
        return move

    async def take_along(
        self, move: ProvenMove, seed: bytes, *, progress: _Progress = lambda _done, _all: None
    ) -> MovedValues:
        """Store the secrets of a moved team for the new wallet (TM20).

        The versions of a secret are stored one after the other, the oldest first. A value that a
        member has stored for the new wallet is never replaced. The call can be interrupted at any
        time and repeated.

        Args:
            move: the result of `succession`.
            seed: the private key of the new wallet.
            progress: called after each secret with the number of secrets so far, and of all.
        Raises:
            InvalidInput: the seed is that of another wallet.
            SealspaceError: a request failed; the secrets so far are stored.
        """
        wallet = _wallet_from_seed(seed)
        if not same_principal(wallet.did, move.successor):
            raise InvalidInput(f"the team has moved to {move.successor}, not to {wallet.did}")
        new_session = await self._sign_in(wallet)
        new_caller = self._caller.acting(new_session)
        reading_session = await self._sign_in_for_reading(move, wallet)
        copier = _Copier(former=self._caller.acting(reading_session), new=new_caller)
        secrets = [secret async for secret in _list_secrets(copier.source)]
        moved: list[str] = []
        kept: list[str] = []
        failed: list[tuple[str, str]] = []
        for done_count, secret in enumerate(secrets, start=1):
            try:
                is_stored = await copier.copy(secret)
            except _ERRORS_OF_ONE_VALUE as error:
                failed.append((secret.label, error.message))
            else:
                if is_stored:
                    moved.append(secret.label)
                else:
                    kept.append(secret.label)
            progress(done_count, len(secrets))
        await Delegations(new_caller).revoke(new_session.grants[0].cid)
        return MovedValues(moved=tuple(moved), kept=tuple(kept), failed=tuple(failed))

    # --- details ----------------------------------------------------------------------------------

    @property
    def _team(self) -> Principal:
        return self._caller.session.owner

    @property
    def _space(self) -> SpaceId:
        return space_of(self._team, SECRETS_SPACE)

    async def _sign_move(
        self, successor: str, wallet: AnyWallet, *, first_statement: MoveStatement | None = None
    ) -> Grant:
        """Sign and register a statement of the move.

        Without `first_statement`, it is the first statement. Otherwise it is the second one, which
        countersigns the first.
        """
        listed = await Teams(self._caller).members()
        first_wallets = frozenset[Principal]()
        if first_statement is not None:
            first_wallets = wallets_above(listed, cited_membership(first_statement.token))
        least_end = self._caller.clock.now() + LEAST_LEFT_S
        membership = _choose_membership(
            listed, wallet, least_end=least_end, first_wallets=first_wallets
        )
        statement = Membership(
            member=successor,
            role="successor",
            end=membership.ends_at,
            countersigns=None if first_statement is None else first_statement.cid,
        )
        return await sign_statement(
            self._caller, wallet, self._team, statement, parent=membership.grant
        )

    async def _sign_in_for_reading(self, move: ProvenMove, wallet: WalletSigner) -> Session:
        """Sign the new wallet in to the former space, with the right from a statement of the move.

        The statement that ends later is tried first. An admin can end the own membership after the
        move, which revokes the statement below it. Then the other statement is used.
        """
        now = self._caller.clock.now()
        statements = sorted(
            (move.first, move.second), key=lambda statement: statement.ends_at, reverse=True
        )
        last_error: SealspaceError = SuccessionInvalid(
            "the statements of the move have ended, so the former secrets cannot be read any more",
            hint="store the secrets again",
        )
        for statement in statements:
            if statement.ends_at <= now:
                continue
            grant = read_grant(statement.token)
            try:
                return await Teams(self._caller).sign_in(wallet, grant, ttl_s=_BRIEF_TTL_S)
            except DelegationRevoked as error:
                last_error = error
        raise last_error


def _choose_membership(
    listed: TeamMembers,
    wallet: AnyWallet,
    *,
    least_end: float,
    first_wallets: frozenset[Principal],
) -> TeamMember:
    """Choose the membership under which an admin signs a statement.

    An admin can have several memberships, because another admin may have admitted the admin once
    more. That must not prevent the move. So memberships that do not depend on the first statement's
    signers come first, then those with the fewest admins above, then those that were signed first.

    Args:
        listed: the team's members.
        wallet: wallet of the admin.
        least_end: when the membership may end at the earliest, epoch seconds.
        first_wallets: the wallets above the first statement, which may not be above the second one
            (TM17); empty for the first statement.
    Raises:
        NotAMember: the wallet is not that of an admin.
        InvalidInput: each membership ends before `least_end`.
    """
    did = admin_of(listed, wallet).did
    memberships = []
    for membership in listed.of(did):
        if membership.role == "admin" and membership.ends_at >= least_end:
            memberships.append(membership)
    if not memberships:
        raise InvalidInput(
            "your membership ends within a day, and with it the time to move the secrets",
            hint="let another admin sign",
        )

    def disadvantages(membership: TeamMember) -> tuple[bool, int, float]:
        wallets = wallets_above(listed, membership.grant.cid)
        depends_on_first = not wallets.isdisjoint(first_wallets)
        return depends_on_first, len(wallets), membership.since or least_end

    return min(memberships, key=disadvantages)


class _Copier:
    """Copies secrets from a team's former space to the new one.

    Args:
        former: a caller that may read the former space.
        new: a caller that may write to the new space.
    """

    def __init__(self, *, former: Caller, new: Caller) -> None:
        self.source = Kv(former, space_of(former.session.owner, SECRETS_SPACE))
        self._secrets = Secrets(former, Encryption(former), self.source.space)
        self._target = Kv(new, space_of(new.session.owner, SECRETS_SPACE))
        self._network = network_of_owner(new.session.owner)
        self._encryption = Encryption(new)
        self._clock = new.clock

    async def copy(self, secret: SecretName) -> bool:
        """Copy a secret with its former versions.

        Returns True if the current version was stored by this call. False means that the new space
        has it already, or has a value that a member stored.
        """
        if is_protected(secret.name):
            raise EncryptionError(_MADE_BY_RUNNER)
        versions = await self.source.versions(secret.path)
        newest_number = versions[0].version
        copied = await self._read_progress(secret, newest_number)
        etag = copied.etag
        for version in reversed(versions):  # the oldest first
            if version.version <= copied.number:
                continue
            try:
                etag = await self._copy_version(secret, version, replaced_etag=etag)
            except PreconditionFailed:
                return False  # a member stored a value meanwhile
            except _ERRORS_OF_ONE_VALUE:
                # A former version that cannot be copied is left out.
                if version.is_current:
                    raise
        return copied.number < newest_number

    async def _read_progress(self, secret: SecretName, newest_number: int) -> "_Copied":
        """Read how far earlier calls have copied a secret.

        A value that a member stored in the new space counts as a copy of the newest version, so it
        is not replaced.
        """
        try:
            stored = await self._target.metadata(secret.path)
        except NotFound:
            return _Copied(etag=None, number=0)
        number = _parse_version_number(stored.metadata.get(MOVED_FROM, ""))
        if number is None:
            return _Copied(etag=stored.etag, number=newest_number)
        return _Copied(etag=stored.etag, number=number)

    async def _copy_version(
        self, secret: SecretName, version: KeptVersion, *, replaced_etag: str | None
    ) -> str:
        """Open a version, store it in the new space, and return its ETag there.

        It replaces exactly the value with `replaced_etag`; with None, there must be no value.
        Otherwise PreconditionFailed is raised.
        """
        former_number = None if version.is_current else version.version
        opened = await self._secrets.read(secret.name, scope=secret.scope, version=former_number)
        payload = _encode_payload(opened, self._target.space, secret, now=self._clock.now())
        envelope = await self._encryption.encrypt(
            payload,
            network=self._network,
            label=secret_label(self._target.space, secret),
            metadata=VAULT_METADATA,
        )
        return await self._target.put(
            secret.path,
            envelope_bytes(envelope).decode(),
            metadata={MOVED_FROM: str(version.version)},
            if_absent=replaced_etag is None,
            if_match=replaced_etag,
        )


class _Copied(NamedTuple):
    """How far a secret was copied.

    Attributes:
        etag: version of the value in the new space; None if there is none.
        number: number of the former version of which that value is a copy; 0 if there is none.
    """

    etag: str | None
    number: int


async def _list_secrets(kv: Kv) -> AsyncIterator[SecretName]:
    """Yield the secrets of a space."""
    async for key in kv.list(OWN_FOLDER):
        secret = secret_at(key)
        if secret is not None:
            yield secret


def _encode_payload(opened: Secret, space: SpaceId, secret: SecretName, *, now: float) -> bytes:
    """Encode the plaintext with which a value is stored again in a space."""
    return secret_payload(
        opened.value,
        place=place_of(space, secret.path),
        now=now,
        created_at=opened.created_at,
    )


def _parse_version_number(text: str) -> int | None:
    """Parse the number in the metadata of a value, untrusted; None if it is not a number."""
    if not text.isdecimal() or len(text) > _MAX_NUMBER_DIGITS:
        return None
    return int(text)


async def _why_unreadable(
    secrets: Secrets, space: SpaceId, secret: SecretName, *, now: float
) -> str | None:
    """Try to open and encode a secret. Return why it cannot be taken along; None: it can."""
    if is_protected(secret.name):
        return _MADE_BY_RUNNER
    try:
        opened = await secrets.read(secret.name, scope=secret.scope)
        # The new place has the same length, so a value that is too long there is too long here.
        _encode_payload(opened, space, secret, now=now)
    except NotFound:
        return None  # it was deleted meanwhile
    except _ERRORS_OF_ONE_VALUE as error:
        return error.message
    return None


def _resources(labels: Iterable[str], team: Principal) -> tuple[str, ...]:
    """Return the resources of a team's secrets, as memberships state them: sorted."""
    space = space_of(team, SECRETS_SPACE)
    resources = []
    for label in labels:
        path = parse_secret_label(label).path
        resources.append(f"{space.text}/kv/{path}")
    return tuple(sorted(resources))


def _wallet_from_seed(seed: bytes) -> WalletSigner:
    try:
        return WalletSigner(seed)
    except (ValueError, CapabilityError) as exc:
        raise InvalidInput("the seed is not the key of a wallet: 32 random bytes") from exc
