"""A client for teams whose members read and replace the same secrets.

A team is an owner with a wallet of its own, which nobody uses day by day (see `spec/teams.md`). The
wallet of the team, or of an admin, signs a membership for each member. A member signs in to a
session for the team with the own wallet. A client of that session then does for the team all that
a client does for an owner.

Example:
    created = await client.teams.create()
    (mine,) = await client.teams.memberships()
    team = client.acting(await client.teams.sign_in(wallet, mine))
    await team.secrets().put("API_KEY", "open sesame")
    await team.teams.admit(new_wallet().did, "reader", wallet=wallet)
    listed = await team.teams.members()
    assert {member.role for member in listed.members} == {"admin", "reader"}
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from capabilities.memberships import Role, is_membership, team_of
from capabilities.principals import Principal, same_principal
from capabilities.resources import SpaceId
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url

from ...delegations import Delegations
from ...documents.invitations import INVITATIONS_PATH, Invitation, invitation_rights, new_id
from ...errors import InvalidInput, LifetimeTooLong, NotAMember
from ...secrets import SECRETS_SPACE, parse_secret_label
from ...session import Grant, Session, space_of
from ...wallets import AnyWallet, wallet_of
from ...wire.caller import Caller
from ...wire.sign_in import MAX_SESSION_TTL_S, SESSION_TTL_S, pass_on, register
from .adoption import Adopted, adopt_secret
from .membership_records import fetch_membership_records, too_many_memberships
from .membership_signing import MEMBERSHIP_TTL_S, member_did, require_life, sign_membership
from .memberships import (
    OwnMemberships,
    TeamMember,
    TeamMembers,
    admin_of,
    ending_of_others,
    is_admitted,
    members_of,
    read_member,
    require_other_admin,
    verify_or_none,
    verify_records,
    with_descendants,
)
from .team_keys import CreatedTeam, create_team, recover_team

INVITATION_TTL_S = 2 * 86_400.0
"""Default lifetime of an invitation, seconds."""

_BRIEF_TTL_S = 600.0
"""Lifetime of a sign-in that serves one call, seconds."""


class Removal(NamedTuple):
    """The result of removing a member.

    Attributes:
        renewed: new memberships of others, which the removed member had admitted. Their holders
            sign in again.
        revoked: cids of the revoked memberships.
    """

    renewed: tuple[TeamMember, ...]
    revoked: tuple[str, ...]


class Teams:
    """A client for teams and memberships.

    Use `Client.teams` to get an instance. `create`, `memberships` and `sign_in` are for a session
    of the caller's own. The other methods are for a session for the team, as `sign_in` returns it,
    in `client.acting(session)`. The parameter `wallet` is the caller's own wallet.

    Args:
        caller: sends requests with the session's authority.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def caller(self) -> Caller:
        """Sends requests with the session's authority."""
        return self._caller

    @property
    def delegations(self) -> Delegations:
        """Methods for revoking what the session signed."""
        return Delegations(self._caller)

    # --- for oneself ------------------------------------------------------------------------------

    async def create(
        self,
        admins: Iterable[str] = (),
        *,
        ttl_s: float = MEMBERSHIP_TTL_S,
        names: Mapping[str, str] | None = None,
        seed: bytes | None = None,
    ) -> CreatedTeam:
        """Create a team, of which the owner of this session is an admin.

        The team's wallet is made in memory. Its session, which ends after ten minutes at the
        latest, creates the team's space and network, and signs the admins' memberships. An
        interrupted call can be repeated with the same seed.

        Args:
            admins: DIDs of the wallets of further admins. With only one admin, a lost key leaves
                the team without an admin.
            ttl_s: lifetime of the memberships, seconds, at most 1,830 days.
            names: DID to the name that the team uses for the admin.
            seed: the private key of the team's wallet, 32 random bytes; None: a new one.
        Returns:
            The DID, the memberships and the team's key, which is stored nowhere.
        Raises:
            InvalidInput: a DID is not that of a wallet, or a name or the lifetime is not valid.
                Also if the seed is not a key, or is the key of an admin's own wallet.
            SpacesNotHosted: the node does not admit the team as an owner.
            SealspaceError: the same errors as `Client.sign_in` and `Encryption.ensure_network`.
        """
        dids = (self._caller.session.owner, *admins)
        return await create_team(self._caller, dids, ttl_s=ttl_s, names=names, seed=seed)

    async def recover(
        self,
        seed: bytes,
        team: str,
        admin: str | None = None,
        *,
        ttl_s: float = MEMBERSHIP_TTL_S,
        name: str | None = None,
    ) -> Grant:
        """Admit an admin with the team's own key, for a team whose admins are lost (TM9).

        The key is compared with the team's DID, and the node has to have the team's network, before
        anything is signed. Other memberships stay as they are.

        Args:
            seed: the private key of the team's wallet, 32 bytes.
            team: DID of the team.
            admin: DID of a wallet; None: the owner of this session.
            ttl_s: lifetime of the membership, seconds, at most 1,830 days.
            name: how the team calls the admin.
        Returns:
            The membership, registered with the node.
        Raises:
            RecoveredKeyMismatch: the key is not that of this team.
            NetworkNotFound: this node does not have the team's network.
            InvalidInput: the DID is not that of a wallet, or the name or lifetime is not valid.
            SealspaceError: the same errors as `Client.sign_in`.
        """
        did = self._caller.session.owner if admin is None else admin
        return await recover_team(self._caller, seed, team, did, ttl_s=ttl_s, name=name)

    async def memberships(
        self, team: str | None = None, *, ended: bool = False
    ) -> tuple[TeamMember, ...]:
        """Return the memberships that the owner of this session has received, the latest first.

        Anybody can sign a membership of their own team for any wallet. So compare the team's DID
        with the one that an admin of the team named.

        Args:
            team: DID of a team; only its memberships are read.
            ended: also return those that have ended or were revoked.
        Raises:
            MalformedAnswer: `team` has more memberships than a client verifies. Without a team the
                result is cut instead; see `own_memberships`.
            SealspaceError: the same errors as `Delegations.query`.
        Does not check:
            The admin's membership that a membership cites. The node checks it on each use.
        """
        found = await self.own_memberships(team, ended=ended)
        if team is not None and found.is_cut:
            raise too_many_memberships()
        return found.memberships

    async def own_memberships(
        self, team: str | None = None, *, ended: bool = False
    ) -> OwnMemberships:
        """Return what `memberships` does, and whether older memberships were left out.

        Of each team the latest four are read, and 2,000 in all, so that a stranger who signs many
        for a person hides nobody's team.
        """
        session = self._caller.session
        found = await fetch_membership_records(
            self._caller,
            direction="received",
            account=None if session.space else SECRETS_SPACE,
            status=None if ended else "active",
            team=team,
        )
        now = self._caller.clock.now()
        delegations = verify_records(found.records, now=now)
        own_memberships = []
        for record in found.records:
            membership = read_member(record, delegations, now=now)
            if membership is not None and same_principal(membership.did, session.owner):
                own_memberships.append(membership)
        return OwnMemberships(memberships=tuple(own_memberships), is_cut=found.is_cut)

    async def membership(self, team: str) -> TeamMember:
        """Return the latest live membership of this session's owner in a team.

        Raises:
            NotAMember: there is none.
            SealspaceError: the same errors as `memberships`.
        """
        memberships = await self.memberships(team)
        if not memberships:
            raise _not_a_member(team)
        return memberships[0]

    async def sign_in(
        self,
        wallet: AnyWallet,
        membership: TeamMember | Grant,
        *,
        ttl_s: float = SESSION_TTL_S,
        domain: str = "localhost",
    ) -> Session:
        """Sign in to a fresh key as a member of a team (TM3).

        The wallet signs once. This client's session does not change; see `Client.acting`.

        Args:
            wallet: the member's wallet.
            membership: membership of the member.
            ttl_s: lifetime in seconds, at most 30 days; shorter if the membership ends earlier.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            A session whose owner is the team.
        Raises:
            InvalidInput: the lifetime is not valid, or the wallet is not the member's.
            NodeRefused, TransportError: the node did not register the sign-in.
        """
        grant = membership if isinstance(membership, Grant) else membership.grant
        wallet_signer = wallet_of(wallet)
        if not 0 < ttl_s <= MAX_SESSION_TTL_S:
            raise InvalidInput(
                "the lifetime of a session must be more than 0 s and at most 30 days"
            )
        if not same_principal(grant.delegate, wallet_signer.did):
            raise InvalidInput(
                f"the membership is for {grant.delegate}, not for {wallet_signer.did}"
            )
        delegation = verify_or_none(grant.header)
        if delegation is None or not is_membership(delegation):
            raise InvalidInput("this is not a membership", hint="ask an admin of the team for one")
        team = team_of(delegation)
        seed = self._caller.entropy.token(32)
        session_key = Ed25519Signer(seed)
        await register(self._caller, grant)
        sign_in = await pass_on(
            self._caller, wallet_signer, grant, session_key, ttl_s=ttl_s, domain=domain
        )
        return Session(
            signer=session_key,
            owner=team,
            space=space_of(team, SECRETS_SPACE),
            grants=(sign_in,),
            node_id=await self._caller.node_id(),
            seed=seed,
        )

    async def leave(self, team: str, *, wallet: AnyWallet) -> tuple[str, ...]:
        """End all memberships of this session's owner in a team.

        Args:
            team: DID of the team.
            wallet: the member's wallet. It signs once for each membership, or once if the member is
                an admin.
        Returns:
            The cids of the memberships that ended.
        Raises:
            NotAMember: there is no membership.
            InvalidInput: the member is the last admin, or the memberships that the member signed
                would end; see `remove`.
            SealspaceError: the same errors as `memberships` and `Delegations.revoke_by_wallet`.
        """
        memberships = await self.memberships(team)
        if not memberships:
            raise _not_a_member(team)
        for membership in memberships:
            if membership.role == "admin":
                # An admin removes the own memberships like those of another member. So the last
                # admin cannot leave.
                session = await self.sign_in(wallet, membership, ttl_s=_BRIEF_TTL_S)
                as_admin = Teams(self._caller.acting(session))
                removal = await as_admin.remove(membership.did, wallet=wallet)
                return removal.revoked
        cids = tuple([membership.grant.cid for membership in memberships])
        for cid in cids:
            await Delegations(self._caller).revoke_by_wallet(cid, wallet)
        return cids

    async def adopt(self, label: str, session: Session, *, keep: bool = False) -> Adopted:
        """Move one of the owner's own secrets into a team, with its versions (TM23).

        All versions that the node keeps are sealed for the team, in their order and with their
        times. Then they are read and compared, and one's own secret is deleted. A value that the
        team has already is never replaced. An interrupted call can be repeated. What was granted
        on one's own secret does not move.

        Args:
            label: `NAME` or `scope/NAME`.
            session: session for the team, of a writer or admin for all secrets.
            keep: do not delete one's own secret.
        Raises:
            NotFound: there is no such secret.
            InvalidInput: the name is reserved for runners, or the team has another value.
            NotGranted: the session is that of a reader, or of a member for some secrets.
            UnboundValue: a version does not state its place, and may be another secret's.
            PreconditionFailed: somebody wrote one of the two secrets at the same time; repeat the
                call.
            SealspaceError: the same errors as `Secrets.read`, `Secrets.versions` and `Kv.put`.
        """
        return await adopt_secret(self._caller, self._caller.acting(session), label, keep=keep)

    # --- for the team -----------------------------------------------------------------------------

    async def members(self, *, ended: bool = False) -> TeamMembers:
        """Return the members of the team.

        The node lists what was signed, and this client verifies each membership: signature, form,
        and who signed it (TM1, TM2). A node could leave out some.

        Args:
            ended: also return memberships that have ended or were revoked.
        Raises:
            NotGranted, Unauthorized: the session is not that of an admin.
            MalformedAnswer: the node lists more memberships than a client verifies.
            SealspaceError: the same errors as `Delegations.query`.
        """
        found = await fetch_membership_records(
            self._caller,
            direction="granted",
            account=self._space.text,
            status=None if ended else "active",
            team=self._team,
        )
        if found.is_cut:
            raise too_many_memberships()
        now = self._caller.clock.now()
        delegations = verify_records(found.records, now=now)
        members = []
        for record in found.records:
            member = read_member(record, delegations, now=now)
            if member is None or member.team != self._team:
                continue
            if is_admitted(record.cid, delegations):
                members.append(member)
        return TeamMembers(members=tuple(members))

    async def admin_membership(self, wallet: AnyWallet) -> TeamMember:
        """Return a membership that makes a wallet an admin of the team.

        The wallet signs grants of the team's secrets below it (TM6).

        Raises:
            NotAMember: the wallet is not that of an admin.
            SealspaceError: the same errors as `members`.
        """
        return admin_of(await self.members(), wallet)

    async def admit(
        self,
        did: str,
        role: Role,
        *,
        wallet: AnyWallet,
        secrets: Collection[str] = (),
        ttl_s: float | None = None,
        ends_at: int | None = None,
        name: str | None = None,
    ) -> Grant:
        """Admit a member, or give a member another membership beside the present one.

        Args:
            did: DID of the member's wallet. Compare it with the person: whoever has this wallet
                reads the secrets.
            role: `admin`, `writer` or `reader`.
            wallet: the wallet of the admin who signs.
            secrets: labels (`NAME` or `scope/NAME`) of the secrets, at most 64; empty: all.
            ttl_s: lifetime in seconds; None: a year, or until the admin's own membership ends.
            ends_at: the end in epoch seconds, in place of a lifetime.
            name: how the team calls the member.
        Returns:
            The membership, registered with the node. The member finds it with `memberships`.
        Raises:
            InvalidInput: an argument is not valid, or the membership would end after the admin's.
            NotAMember: the wallet is not that of an admin of this team.
            SealspaceError: the same errors as `members`.
        """
        admin_membership = await self.admin_membership(wallet)
        if ends_at is None:
            ends_at = self._membership_end(admin_membership, ttl_s)
        return await sign_membership(
            self._caller,
            wallet,
            member_did(did),
            role,
            secrets,
            ends_at=ends_at,
            name=name,
            parent=admin_membership.grant,
        )

    async def invite(
        self,
        team_name: str,
        role: Role,
        *,
        wallet: AnyWallet,
        secrets: Collection[str] = (),
        ttl_s: float = INVITATION_TTL_S,
        membership_ttl_s: float | None = None,
        name: str | None = None,
    ) -> Invitation:
        """Make an invitation for a person whose DID is not known (TM10).

        It opens nothing. `Inviting` in `sealspace.giving.teams.invitations` admits the person after
        both have compared four words.

        Args:
            team_name: a name of the team, which the person may use.
            role: role of the membership.
            wallet: the wallet of the admin, which signs when the words are confirmed.
            secrets: the same as in `admit`.
            ttl_s: lifetime of the invitation in seconds; shorter if the session ends earlier.
            membership_ttl_s: lifetime of the membership, from now; None: as in `admit`.
            name: how the team will call the member.
        Raises:
            InvalidInput, NotAMember, LifetimeTooLong: the same errors as `admit`.
            SealspaceError: the same errors as `members` and `Delegations.delegate`.
        """
        admin_membership = await self.admin_membership(wallet)
        labels = {parse_secret_label(label).label for label in secrets}  # in their one spelling
        if role == "admin" and labels:
            raise InvalidInput("an admin uses all secrets: name none")
        membership_end = self._membership_end(admin_membership, membership_ttl_s)
        entropy = self._caller.entropy
        seed = entropy.token(32)
        invitation_id = new_id(entropy)
        rights = invitation_rights(self._team, f"{INVITATIONS_PATH}{invitation_id}/")
        # It is `at_most`: the session of the admin may end before the invitation would.
        delegation = await self.delegations.delegate(
            Ed25519Signer(seed).did, rights, ttl_s=ttl_s, at_most=True
        )
        return Invitation(
            v=1,
            node=self._caller.transport.url,
            node_did=await self._caller.node_id(),
            team=self._team,
            name=team_name,
            admin=admin_membership.did,
            role=role,
            secrets=tuple(sorted(labels)),
            end=membership_end,
            id=invitation_id,
            seed=encode_url(seed),
            delegation=delegation.header,
            member_name=name,
        )

    async def change_role(
        self,
        did: str,
        role: Role,
        *,
        wallet: AnyWallet,
        secrets: Collection[str] = (),
        ttl_s: float | None = None,
        kept: Collection[str] | None = None,
    ) -> Removal:
        """Replace the memberships of a member by one with another role.

        The new membership is signed before the former ones are revoked, so a reader who becomes a
        writer can read all the time. The member signs in again. The name stays, and so does the
        end, unless `ttl_s` is given.

        Args:
            did: the member.
            role: the new role.
            wallet: the same as in `admit`.
            secrets: the same as in `admit`.
            ttl_s: lifetime of the new membership; None: until the former one ends.
            kept: the same as in `remove`.
        Raises:
            InvalidInput: the member is the last admin; or for the same reasons as in `remove`.
            NotAMember: the same errors as `remove`.
            SealspaceError: the same errors as `members`.
        """
        listed = await self.members()
        former_memberships = members_of(listed, did)
        latest = former_memberships[0]
        if role != "admin":
            require_other_admin(listed, did)
        ending_cids = with_descendants(listed, former_memberships)
        admin_membership = admin_of(listed, wallet, without=ending_cids)
        others = ending_of_others(listed, ending_cids, did)
        renewed = await self._sign_anew(others, kept, admin_membership, wallet)
        ends_at = min(latest.ends_at, admin_membership.ends_at)
        if ttl_s is not None:
            require_life(ttl_s)
            wanted_end = int(self._caller.clock.now() + ttl_s)
            ends_at = min(wanted_end, admin_membership.ends_at)
        await sign_membership(
            self._caller,
            wallet,
            latest.did,
            role,
            secrets,
            ends_at=ends_at,
            name=latest.name,
            parent=admin_membership.grant,
        )
        former_cids = tuple([membership.grant.cid for membership in former_memberships])
        await Delegations(self._caller).revoke(*former_cids)
        return Removal(renewed=renewed, revoked=former_cids)

    async def admitted_by(self, did: str, *, wallet: AnyWallet) -> tuple[TeamMember, ...]:
        """Return the memberships of others that end if a member is removed (TM15).

        The member signed these memberships as an admin, or the memberships above them. One of them
        can be for a second wallet of the same person. Members who keep another membership with the
        same role and secrets are left out.

        Args:
            did: the member.
            wallet: the wallet of the admin who is going to remove the member.
        Raises:
            SealspaceError: the same errors as `remove`.
        """
        removal = _plan_removal(await self.members(), did, wallet)
        return removal.others

    async def remove(
        self, did: str, *, wallet: AnyWallet, kept: Collection[str] | None = None
    ) -> Removal:
        """Remove a member. Afterwards, the member reads and writes nothing (TM7).

        Members whom a removed admin had admitted would lose their membership too. So their
        memberships are signed anew first, with the given wallet. An interrupted call can be
        repeated. The member still knows the values that were read before, so replace them.

        Args:
            did: the member.
            wallet: the wallet of the admin who removes the member.
            kept: cids of the memberships that are signed anew, of those that `admitted_by` returns.
                The others end. None: all are signed anew, also those of further admins. Use None
                only if the removed member was trusted until now.
        Raises:
            InvalidInput: the member is the last admin, or admitted the admin who removes.
            NotAMember: the DID is not a member, or the wallet is not that of an admin.
            SealspaceError: the same errors as `members` and `Delegations.revoke`.
        """
        removal = _plan_removal(await self.members(), did, wallet)
        renewed: tuple[TeamMember, ...] = ()
        if removal.admin_membership is not None:
            renewed = await self._sign_anew(removal.others, kept, removal.admin_membership, wallet)
        await Delegations(self._caller).revoke(*removal.revoked)
        return Removal(renewed=renewed, revoked=removal.revoked)

    # --- details ----------------------------------------------------------------------------------

    @property
    def _team(self) -> Principal:
        return self._caller.session.owner

    @property
    def _space(self) -> SpaceId:
        return space_of(self._team, SECRETS_SPACE)

    def _membership_end(self, admin_membership: TeamMember, ttl_s: float | None) -> int:
        """Return the end of a new membership, epoch seconds.

        A membership ends at the latest with that of the admin who signs it. The default lifetime
        is shortened to that; a requested one that is too long raises LifetimeTooLong.
        """
        life_s = MEMBERSHIP_TTL_S if ttl_s is None else ttl_s
        require_life(life_s)
        now = self._caller.clock.now()
        if now + life_s <= admin_membership.ends_at:
            return int(now + life_s)
        if ttl_s is None:
            return admin_membership.ends_at
        possible_s = admin_membership.ends_at - now
        raise LifetimeTooLong("a membership", asked_s=ttl_s, possible_s=possible_s)

    async def _sign_anew(
        self,
        ending: Iterable[TeamMember],
        kept: Collection[str] | None,
        admin_membership: TeamMember,
        wallet: AnyWallet,
    ) -> tuple[TeamMember, ...]:
        """Sign memberships that are about to end anew, below an admin's membership (TM7, TM15).

        With `kept`, only those with these cids are signed. So a membership that was signed after
        the person had chosen ends.
        """
        renewed = []
        for member in ending:
            if kept is not None and member.grant.cid not in kept:
                continue
            ends_at = min(member.ends_at, admin_membership.ends_at)
            grant = await sign_membership(
                self._caller,
                wallet,
                member.did,
                member.role,
                member.secrets,
                ends_at=ends_at,
                name=member.name,
                parent=admin_membership.grant,
            )
            renewed_member = member._replace(
                ends_at=ends_at,
                admitted_by=admin_membership.did,
                grant=grant,
                parent=admin_membership.grant.cid,
            )
            renewed.append(renewed_member)
        return tuple(renewed)


class _PlannedRemoval(NamedTuple):
    """A removal before it is done.

    Attributes:
        revoked: cids of the member's memberships.
        others: memberships of others that end with them.
        admin_membership: the one below which `others` are signed anew; None if members remove
            themselves. Then no membership of others ends.
    """

    revoked: tuple[str, ...]
    others: tuple[TeamMember, ...]
    admin_membership: TeamMember | None


def _plan_removal(listed: TeamMembers, did: str, wallet: AnyWallet) -> _PlannedRemoval:
    """Check that a member can be removed, and return the memberships that this ends.

    The errors are those of `Teams.remove`.
    """
    memberships = members_of(listed, did)
    require_other_admin(listed, did)
    ending_cids = with_descendants(listed, memberships)
    removes_self = same_principal(memberships[0].did, wallet_of(wallet).did)
    has_descendants = len(ending_cids) > len(memberships)
    if removes_self and has_descendants:
        # A new membership cannot cite one that is about to end.
        raise InvalidInput(
            "cannot leave yet: the memberships that you signed would end with yours",
            hint="ask another admin to remove you; that signs these memberships anew first",
        )
    admin_membership = None
    if not removes_self:
        admin_membership = admin_of(listed, wallet, without=ending_cids)
    return _PlannedRemoval(
        revoked=tuple([membership.grant.cid for membership in memberships]),
        others=ending_of_others(listed, ending_cids, did),
        admin_membership=admin_membership,
    )


def _not_a_member(team: str) -> NotAMember:
    return NotAMember(f"you are not a member of the team {team}, or no longer")
