"""A client for sharing secrets with other people.

A shared secret is a copy that is encrypted for the recipient's own network. The recipient opens it
as the owner of that network, so nothing that the owner keeps is granted. The copies of one
recipient are in a folder of the owner's space `secrets`, and the owner signs a grant to read it.
The folder's path names the recipient's public key, so the signature covers the key too. The owner
also signs the name of each shared secret, and only these are copied, whatever is in the store.

Example:
    await friend.encryption.ensure_network()
    await client.secrets().put("API_KEY", "open sesame")
    await client.sharing.share(["API_KEY"], friend.session.owner, wallet=lambda: wallet)
    received = await friend.sharing.received(client.session.owner)
    assert await received.get("API_KEY") == "open sesame"
    await client.sharing.put_many({"API_KEY": "changed"})  # renews the copies too
    await client.sharing.unshare(["API_KEY"], did=friend.session.owner)
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from capabilities.abilities import KV_GET, KV_LIST
from capabilities.capability_errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.tokens import Capability, parse_delegation, verify_delegation
from encryption_network.pins import NetworkPin, pin_of

from ..delegations import Delegations
from ..documents.secret_names import (
    OWN_FOLDER,
    SHARED_PREFIX,
    SecretName,
    SharedFolder,
    parse_secret_label,
    secret_at,
    shared_folder,
    shared_folder_at,
    shared_name_at,
)
from ..documents.unbound_values import unbound_value
from ..encryption import Encryption, require_usable
from ..errors import InvalidInput, NetworkKeyChanged, NetworkNotFound, NotShared
from ..kv import Kv
from ..secrets import SECRETS_SPACE, Secrets, writable_name
from ..session import Grant, network_of_owner, read_grant, space_capability, space_of
from ..wallets import AnyWallet
from ..wire.caller import Caller
from ..wire.delegation_history import MAX_PAGE_ITEMS
from ..wire.portable import PortableDelegation, portable_of
from ..wire.team_session import member_of_session

_Wallet = Callable[[], AnyWallet | None]
SHARE_TTL_S = 365 * 86_400.0
"""Default lifetime of a person's right to read, seconds."""
_ROUNDING_S = 2.0
"""Tolerance for ends that were rounded to whole seconds."""


class Share(NamedTuple):
    """A live right of a person to read the copies in a folder.

    Attributes:
        folder: the folder, which names the person and the key.
        grant: the grant, signed by the owner.
        copies: the names of the copies, for which the owner signed; only in `Sharing.shares`.
    """

    folder: SharedFolder
    grant: Grant
    copies: tuple[SecretName, ...] = ()

    @property
    def pin(self) -> NetworkPin:
        """The key of the person's network."""
        return NetworkPin(
            network=network_of_owner(self.folder.did).text,
            public_key=self.folder.key,
            key_version=self.folder.key_version,
        )

    def portable(self, host: str) -> PortableDelegation:
        """Return the grant in portable form, for a person at another node.

        `host` is the address of the owner's node.
        """
        return portable_of(self.grant, owner=self.grant.delegator, host=host)


class Sharing:
    """A client that shares secrets with people, and reads what others shared.

    Use `Client.sharing` to get an instance. A secret is named by its label, which is `NAME` or
    `scope/NAME`. The parameter `wallet` returns the wallet of this session's owner, or None if the
    session's key is the owner's own. It is called if the wallet has to sign.

    Args:
        caller: sends requests with the session's authority.
        encryption: the encryption service of the same client.
    """

    def __init__(self, caller: Caller, encryption: Encryption) -> None:
        self._caller = caller
        self._encryption = encryption

    async def shares(self) -> tuple[Share, ...]:
        """Return the live rights of others to read copies of the owner's secrets.

        Raises:
            SealspaceError: the same errors as `Delegations.query`.
        """
        signed = await self._fetch_live_grants(self._caller.session.owner)
        names = [target for target in signed if isinstance(target, SecretName)]
        shares = []
        for target, grants in signed.items():
            if isinstance(target, SharedFolder):
                # A name is signed for the whole team or person; each member has a copy of it.
                copies = [
                    name._replace(folder=target.path)
                    for name in names
                    if name.folder == target.group
                ]
                shares.append(Share(folder=target, grant=grants[0], copies=tuple(copies)))
        return tuple(shares)

    async def share(
        self,
        labels: Collection[str],
        did: str,
        *,
        team: str | None = None,
        wallet: _Wallet = lambda: None,
        ttl_s: float = SHARE_TTL_S,
        encryption: Encryption | None = None,
    ) -> Share:
        """Share secrets with a person who has an encryption network.

        The wallet signs once for each person, and once for each secret of a person or team. Later
        values are shared too, if they are stored with `put_many`. What the person has read stays
        known after `unshare`.

        Args:
            labels: the secrets. A new member of a team also gets those that the team has. Other
                members get copies of new ones with the next value, or by a call for each member.
            did: DID of the person.
            team: name of the team for which the copies are made; None: the person alone.
            wallet: see above.
            ttl_s: lifetime of a new right to read, seconds.
            encryption: encryption service of a client of the person's node; None: this node.
        Returns:
            The right to read. A person who has a network at another node needs it.
        Raises:
            InvalidInput: an argument is not valid, or the owner's wallet is missing.
            NotFound: there is no such secret.
            UnboundValue: a secret does not state its place; bind it first (EN46).
            NetworkNotFound, NetworkNotActive: the person has no network at that node.
            NetworkKeyChanged: earlier copies are sealed to another key of this person; see
                `renew_for`.
            SealspaceError: the same errors as `Secrets.get`, `Encryption.descriptor`, `Kv.put_many`
                and `Delegations.delegate`.
        """
        folder = shared_folder(team, did)
        shares = await self.shares()
        known = [share.pin for share in shares if share.folder.did == folder.did]
        pin = await self._pin(known, did=folder.did, encryption=encryption or self._encryption)
        for former in known:
            if former != pin:
                raise _needs_renewal(folder.did, former, pin)
        folder = folder._replace(key=pin.public_key, key_version=pin.key_version)
        members = {share.folder: share for share in shares if share.folder.group == folder.group}
        if folder not in members:
            # SH5: copies that an ended right left in the folder would be readable again with the
            # new right. In a team without members, the names that were left over are revoked too.
            is_new_team = bool(team) and not members
            with suppress(NotShared):  # nothing was left over
                await self.unshare(None, did=None if is_new_team else did, team=team)
            labels = {
                *labels,
                *(copy.label for member in members.values() for copy in member.copies),
            }
        # The names are checked first: protected and reserved ones are not shared (SH2).
        secret_names = [
            writable_name(name.name, name.scope) for name in map(parse_secret_label, labels)
        ]
        # Raises for a secret that does not exist or may not be copied, before a signature.
        await self._values_of(secret_names)
        signed = await self._fetch_live_grants(self._caller.session.owner)
        now = self._caller.clock.now()
        grants = signed.get(folder, [])
        ends_at = grants[0].expires_at if grants else None
        if ends_at is None:
            ends_at = now + ttl_s
        unsigned: list[SharedFolder | SecretName] = [] if grants else [folder]
        unsigned += _names_to_sign(secret_names, folder, signed, ends_at)
        grants = [*grants, *await self._sign(unsigned, ends_at - now, wallet)]
        await self._copy(secret_names, folder)
        return Share(folder, grants[0])

    async def renew(self, labels: Collection[str]) -> tuple[str, ...]:
        """Make the copies of secrets again, from the values that are stored now.

        Args:
            labels: the secrets. Those of which nobody has a copy are ignored.
        Returns:
            The labels of the secrets that were copied, in ascending order.
        Raises:
            UnboundValue: a value does not state its place; bind it first.
            SealspaceError: the same errors as `share`.
        """
        shared = {copy.label for share in await self.shares() for copy in share.copies}
        renewed = tuple(sorted(shared.intersection(labels)))
        await self._copy([parse_secret_label(label) for label in renewed], None)
        return renewed

    async def _copy(self, names: Sequence[SecretName], only: SharedFolder | None) -> None:
        """Store copies of secrets in one folder, or in all of them.

        The values are copied again if one of them was replaced in the meantime (SH6).
        """
        copied: dict[str, str | bytes] = {}
        while (values := await self._values_of(names)) != copied:
            await self.put_many(values, own=False, only=only)
            copied = values

    async def renew_for(
        self,
        did: str,
        *,
        wallet: _Wallet = lambda: None,
        encryption: Encryption | None = None,
    ) -> tuple[Share, ...]:
        """Share with a person again who has replaced the key of the network (SH15).

        The wallet signs once for each team of the person, and once for what is shared with the
        person alone. The new rights end when the former ones do. The person can read the former
        copies until the new ones are stored. An interrupted call can be repeated.

        Args:
            did: DID of the person.
            wallet: see above.
            encryption: encryption service of a client of the person's node; None: this node.
        Returns:
            The new rights to read; empty if every copy is sealed to the newest key already.
        Raises:
            InvalidInput: the DID is not valid, or the owner's wallet is missing.
            NotShared: nothing is shared with this person.
            NetworkKeyChanged: the person did not sign that the new key replaces the former one.
            SealspaceError: the same errors as `share`.
        """
        person = shared_folder(None, did).did
        of_person = [share for share in await self.shares() if share.folder.did == person]
        if not of_person:
            raise NotShared(
                f"nothing is shared with {person}",
                hint="list what is shared: sealspace team list",
            )
        known = [share.pin for share in of_person]
        pin = await self._pin(known, did=person, encryption=encryption or self._encryption)
        renewed = []
        for former in of_person:
            if former.pin != pin:
                renewed.append(await self._renew(former, pin, wallet))
        return tuple(renewed)

    async def _renew(self, former: Share, pin: NetworkPin, wallet: _Wallet) -> Share:
        """Replace a person's folder by one that names the person's newest key."""
        folder = former.folder._replace(key=pin.public_key, key_version=pin.key_version)
        signed = await self._fetch_live_grants(self._caller.session.owner)
        grants = signed.get(folder, [])
        if not grants:
            # SH5: copies that an ended right left in the folder would be readable again.
            await self._kv.delete_many(await self._labels_of_copies(folder.path, None))
            now = self._caller.clock.now()
            ends_at = former.grant.expires_at
            ttl_s = SHARE_TTL_S if ends_at is None else ends_at - now
            grants = await self._sign([folder], ttl_s, wallet)
        secret_names = [copy._replace(folder=OWN_FOLDER) for copy in former.copies]
        await self._copy(secret_names, folder)
        # The former right ends last, so the person can read one of the copies at any time.
        await Delegations(self._caller).revoke(*(grant.cid for grant in signed[former.folder]))
        await self._kv.delete_many(await self._labels_of_copies(former.folder.path, None))
        copies = tuple([name._replace(folder=folder.path) for name in secret_names])
        return Share(folder=folder, grant=grants[0], copies=copies)

    async def _values_of(self, names: Sequence[SecretName]) -> dict[str, str | bytes]:
        """Return the current values of the owner's secrets by their labels.

        Raises UnboundValue for a value without a place: it may be another secret's, and its copy
        would state the wrong place (EN46).
        """
        values = {}
        for name in names:
            secret = await self._secrets().read(name.name, scope=name.scope)
            if not secret.is_bound:
                raise unbound_value(name)
            values[name.label] = secret.value
        return values

    async def put_many(
        self,
        values: Mapping[str, str | bytes],
        *,
        own: bool = True,
        only: SharedFolder | None = None,
    ) -> None:
        """Encrypt and store several secrets, and renew their copies in the same commit.

        The owner signed the names and the keys of the copies, so no other node is needed.

        Args:
            values: label to text or bytes.
            own: whether to store the secrets themselves; False: only renew the copies.
            only: the folder whose copies are renewed; None: all copies.
        Raises:
            BatchIncomplete: one commit failed after others succeeded; store the same values again.
            SealspaceError: the same errors as `Secrets.put_many`, `Kv.delete_many` and `shares`.
        """
        values_by_name = {parse_secret_label(label): value for label, value in values.items()}
        texts = await self._secrets().sealed(values_by_name) if own else {}
        for share in await self.shares():
            if only in (None, share.folder):
                texts |= await self._secrets(share.folder).sealed(
                    {
                        copied_name: values[copied_name.label]
                        for copied_name in share.copies
                        if copied_name.label in values
                    }
                )
        await self._kv.put_many(texts)
        copied = {path for path in texts if path.startswith(SHARED_PREFIX)}
        if copied:
            # SH6: `unshare` could have deleted these copies before they were stored.
            live = {copy.path for live_share in await self.shares() for copy in live_share.copies}
            await self._kv.delete_many(copied - live)

    async def unshare(
        self, labels: Collection[str] | None, *, did: str | None = None, team: str | None = None
    ) -> tuple[str, ...]:
        """Delete copies, and revoke the names and rights to read for which nothing is left.

        A member of a team keeps the right to read what is shared with the team later, unless
        everything is unshared.

        Args:
            labels: the secrets; None: all.
            did: DID of the person; None: every person.
            team: the team. None: what is shared with a person alone, or everything if no person is
                given either.
        Returns:
            The labels of the secrets of which copies were deleted.
        Raises:
            InvalidInput: a DID or team is not valid, or it is about some secrets of one member.
            NotShared: nothing of it is shared.
            SealspaceError: the same errors as `shares`, `Delegations.revoke` and `Kv.delete_many`.
        """
        if labels is not None and did and team:
            raise InvalidInput("a team's secrets are for all its members; unshare with one of both")
        owner = self._caller.session.owner
        if member_of_session(self._caller.session) is not None:
            raise NotShared("a team shares no copies of its secrets: its members read them")
        prefix = _path_of_shared(team, did, owner)
        signed = await self._fetch_live_grants(owner)
        if labels is None:
            ending = [target for target in signed if target.path.startswith(prefix)]
        else:
            ending = _ending_with_names(signed, prefix, labels)
        # SH5: the grants are revoked before the copies are listed. Then the list contains the
        # copies that another command stored before; it deletes later ones itself (SH6).
        await Delegations(self._caller).revoke(
            *(of.cid for target in ending for of in signed[target])
        )
        copies = await self._labels_of_copies(prefix, labels)
        await self._kv.delete_many(copies)
        if not (ending or copies):
            raise NotShared(
                "these secrets are not shared, or not with this person or team",
                hint="list what is shared: sealspace team list",
            )
        return tuple(sorted(set(copies.values())))

    async def _labels_of_copies(
        self, prefix: str, labels: Collection[str] | None
    ) -> dict[str, str]:
        """Return the labels of the copies below a path by their paths.

        With `labels`, only the copies of these secrets are returned.
        """
        copies: dict[str, str] = {}
        async for path in self._kv.list(prefix):
            folder = shared_folder_at(path)
            if folder is None:
                continue
            copy = secret_at(path, folder.path)
            if copy is not None and (labels is None or copy.label in labels):
                copies[path] = copy.label
        return copies

    async def received(
        self,
        owner: str,
        *,
        team: str | None = None,
        wallet: _Wallet = lambda: None,
    ) -> Secrets:
        """Return an object for reading what another owner at this node shared.

        Args:
            owner: DID of the person who shares.
            team: name of the team, or "" for this session's owner alone; None: the only one.
            wallet: see above; it signs once for each session and grant.
        Raises:
            NotShared: nothing is shared, or it is not clear which team is meant.
            SealspaceError: the same errors as `Delegations.query` and `Delegations.accept`.
        """
        by_team: dict[str, Share] = {}
        for target, grants in (await self._fetch_live_grants(owner)).items():
            if not isinstance(target, SharedFolder) or target.did != self._caller.session.owner:
                continue
            name = target.team or ""  # "" is the person alone
            if team not in (None, name):
                continue
            # While an owner renews copies for a new key, those for the former key are complete.
            earlier = by_team.get(name)
            if earlier is None or target.key_version < earlier.folder.key_version:
                by_team[name] = Share(target, grants[0])
        matching = list(by_team.values())
        if len(matching) != 1:
            raise _not_one(owner, matching)
        return await self.opened(matching[0], wallet=wallet)

    async def received_folders(self) -> tuple[tuple[str, SharedFolder], ...]:
        """Return the folders at this node that others share with this session's owner.

        Each folder names the key for which its copies were made. It is given with the DID of the
        person who shares.

        Raises:
            SealspaceError: the same errors as `Delegations.query`.
        """
        session = self._caller.session
        query = Delegations(self._caller).query(
            direction="received",
            status="active",
            account=None if session.space else SECRETS_SPACE,
            tokens=True,
            page_items=MAX_PAGE_ITEMS,
        )
        folders: dict[tuple[str, SharedFolder], None] = {}
        async for record in query:
            share = read_share(record.token or "", record.delegator)
            if share is not None and share.folder.did == session.owner:
                folders[str(share.grant.delegator), share.folder] = None
        return tuple(folders)

    async def opened(
        self,
        share: Share,
        *,
        wallet: _Wallet = lambda: None,
        encryption: Encryption | None = None,
    ) -> Secrets:
        """Return an object for reading what another owner shared.

        Args:
            share: a right to read; see `read_share`. This client is one of the owner's node.
            wallet: see above; it signs once for each session and grant.
            encryption: encryption service of a client of the person's node; None: this node.
        Raises:
            SealspaceError: the same errors as `Delegations.accept`.
        """
        session = self._caller.session
        used = [grant for grant in session.grants if _is_or_cites(grant, share.grant.cid)]
        if not used:
            now = self._caller.clock.now()
            ends_at = session.expires_at or now + SHARE_TTL_S
            await Delegations(self._caller).accept(
                share.portable(self._caller.transport.url), wallet=wallet(), ttl_s=ends_at - now
            )
            used = [self._caller.session.grants[-1]]  # `accept` has added it at the end
        # The session would cite the first grant that covers a request, even one that the owner has
        # revoked. So the requests use a session with this grant alone.
        caller = self._caller.acting(replace(self._caller.session, grants=tuple(used)))
        space = space_of(share.grant.delegator, SECRETS_SPACE)
        return Secrets(caller, encryption or self._encryption, space, folder=share.folder)

    @property
    def _kv(self) -> Kv:
        return Kv(self._caller, self._caller.session.own_space(SECRETS_SPACE))

    def _secrets(self, folder: SharedFolder | None = None) -> Secrets:
        return Secrets(self._caller, self._encryption, self._kv.space, folder=folder)

    async def _pin(
        self, known: Sequence[NetworkPin], *, did: str, encryption: Encryption
    ) -> NetworkPin:
        """Return the key to seal to for a person (SH4).

        `known` are the keys in live grants that the owner signed for this person.
        """
        try:
            descriptor = await encryption.descriptor(network_of_owner(did))
        except NetworkNotFound as missing:
            if known:  # the person's network is at another node
                return known[0]
            missing.step = (
                f"ask {did} to run `sealspace login` with the address of your node; if they have a"
                " network at another node, add --at with its address"
            )
            raise
        require_usable(descriptor)
        offered = pin_of(descriptor)
        for pin in known:
            if pin == offered:
                continue
            try:
                # A node, or a writer of its store, could offer a key of their own. Only the
                # person's own statements replace a key in a live grant.
                await encryption.require_later_key(network_of_owner(did), pin, offered)
            except NetworkKeyChanged as changed:
                changed.step = (
                    f"ask {did} for the fingerprint that `sealspace network show` prints; only if"
                    f" it is {offered.fingerprint}, run `sealspace secret unshare --with {did}`,"
                    " remove them from their teams, and share again"
                )
                raise
        return offered

    async def _sign(
        self, unsigned: Sequence[SharedFolder | SecretName], ttl_s: float, wallet: _Wallet
    ) -> list[Grant]:
        """Grant folders and names with the owner's signature (SH3)."""
        if not unsigned:
            return []  # `wallet` is not called without need, because it may ask the person
        session = self._caller.session
        delegations = Delegations(self._caller)
        signing = wallet()
        if signing is None and session.did != session.owner:
            raise InvalidInput(
                "cannot share: only the owner's wallet can sign the grant, not a session's key",
                hint="sign it with the owner's wallet",
            )
        portables = [
            await delegations.delegate(
                _reader(target, session.owner),
                _rights(target, session.owner),
                ttl_s=ttl_s,
                wallet=signing,
            )
            for target in unsigned
        ]
        return [read_grant(portable.header) for portable in portables]

    async def _fetch_live_grants(self, owner: str) -> dict[SharedFolder | SecretName, list[Grant]]:
        """Return the folders and names in an owner's live grants, the latest first (SH3)."""
        session = self._caller.session
        if member_of_session(session) is not None:
            return {}  # the members of a team read the value itself, so there are no copies
        now = self._caller.clock.now()
        query = Delegations(self._caller).query(
            # What strangers send to the owner must not delay the owner's commands.
            direction="granted" if same_principal(owner, session.owner) else "received",
            status="active",
            space=space_of(owner, SECRETS_SPACE).text,
            account=None if session.space else SECRETS_SPACE,
            tokens=True,
            page_items=MAX_PAGE_ITEMS,
        )
        signed: dict[SharedFolder | SecretName, list[Grant]] = {}
        async for record in query:
            target_and_grant = _read_signed(record.token or "", owner)
            if target_and_grant is None:
                continue
            target, grant = target_and_grant
            if grant.is_live(now):  # a node could list a grant as active after its end
                signed.setdefault(target, []).append(grant)
        return signed


def _needs_renewal(did: str, former: NetworkPin, newest: NetworkPin) -> NetworkKeyChanged:
    """Return the error for a person who has replaced the key that earlier grants name."""
    changed = NetworkKeyChanged(former, newest)
    changed.hint = f'renew the copies first: client.sharing.renew_for("{did}", wallet=…)'
    changed.step = f"sealspace team renew {did}"
    return changed


def _names_to_sign(
    names: Sequence[SecretName],
    folder: SharedFolder,
    signed: Mapping[SharedFolder | SecretName, Sequence[Grant]],
    ends_at: float,
) -> list[SecretName]:
    """Return the names of secrets in a folder that have no grant until a given time."""
    unsigned = []
    for name in names:
        target = name._replace(folder=folder.group)
        # SH3: a name does not end before the right to read.
        if not any(of.is_live(ends_at - _ROUNDING_S) for of in signed.get(target, ())):
            unsigned.append(target)
    return unsigned


def _path_of_shared(team: str | None, did: str | None, owner: str) -> str:
    """Return the path below which everything shared with a person or team is stored or named.

    Without a person and a team, this is everything that the owner shares.

    Raises:
        InvalidInput: the DID or the team is not valid.
    """
    meant = shared_folder(team, did or owner)  # the owner's DID is only for the check of the team
    if team and did:
        return f"{meant.group}{meant.did}/"
    if team or did:
        return meant.group
    return SHARED_PREFIX


def _is_or_cites(grant: Grant, cid: str) -> bool:
    """Return whether a grant is the one with a CID, or was passed on from it."""
    if grant.cid == cid:
        return True
    return any(parent.echo == cid for parent in parse_delegation(grant.header).parents)


def _ending_with_names(
    signed: Collection[SharedFolder | SecretName], prefix: str, labels: Collection[str]
) -> list[SharedFolder | SecretName]:
    """Return what ends when some secrets are unshared, in the order of `signed`.

    The names of these secrets below a path end. With the last name of a person, who is not a member
    of a team, the person's right to read ends too.
    """
    ended: set[SecretName] = set()
    remaining_groups = set()
    for target in signed:
        if isinstance(target, SecretName):
            if target.path.startswith(prefix) and target.label in labels:
                ended.add(target)
            else:
                remaining_groups.add(target.folder)
    groups_without_names = {target.folder for target in ended} - remaining_groups
    ending: list[SharedFolder | SecretName] = []
    for target in signed:
        if isinstance(target, SecretName):
            is_ending = target in ended
        else:
            is_ending = target.team is None and target.group in groups_without_names
        if is_ending:
            ending.append(target)
    return ending


def read_share(token: str, owner: str) -> Share | None:
    """Parse a grant to read the copies in a folder, and verify its signature (SH3).

    Args:
        token: untrusted.
        owner: DID of the person who shares. Only this DID's own signature counts.
    Returns:
        The right to read, or None if the token is not such a grant.
    Does not check:
        Its times and revocation, which the node judges.
    """
    target_and_grant = _read_signed(token, owner)
    if target_and_grant is None:
        return None
    target, grant = target_and_grant
    if not isinstance(target, SharedFolder):  # the grant of a name
        return None
    return Share(target, grant)


def _read_signed(token: str, owner: str) -> tuple[SharedFolder | SecretName, Grant] | None:
    """Parse a grant for a folder or a name, and verify its signature as `read_share` (SH3)."""
    try:
        unverified = parse_delegation(token)
        place = f"{space_of(owner, SECRETS_SPACE).text}/kv/"
        if not unverified.capabilities:
            return None
        # A resource outside this place differs from the expected capabilities, compared below.
        path = unverified.capabilities[0].resource.text.removeprefix(place)
        target = shared_folder_at(path) or shared_name_at(path)
        if (
            target is None
            or unverified.parents
            or not same_principal(unverified.delegator, owner)
            or not same_principal(unverified.delegate, _reader(target, owner))
            or unverified.capabilities != _rights(target, owner)
        ):
            return None
        verify_delegation(unverified)  # raises if the signature is wrong
    except CapabilityError:
        return None
    return target, read_grant(token)


def _reader(target: SharedFolder | SecretName, owner: str) -> str:
    # SH3: a name is granted to the owner, who has the right anyway, so nobody gets a right by it.
    return target.did if isinstance(target, SharedFolder) else owner


def _rights(target: SharedFolder | SecretName, owner: str) -> tuple[Capability, ...]:
    place = space_of(owner, SECRETS_SPACE)
    return tuple(
        space_capability(place, "kv", target.path, ability) for ability in (KV_GET, KV_LIST)
    )


def _not_one(owner: str, matching: Sequence[Share]) -> NotShared:
    """Return the error for an owner who shares nothing with the reader, or in several ways."""
    teams = sorted(share.folder.team or "" for share in matching)
    recipients = " and ".join(sorted(team or "you alone" for team in teams))
    options = " or ".join(f"--from {owner}/{team}" for team in teams)
    return NotShared(
        f"{owner} shares with you at this node: {recipients or 'nothing'}",
        step=f"choose one: {options}" if options else None,
    )
