"""A client for sharing secrets with other people.

A shared secret is a copy that is encrypted for the recipient's own network. The recipient opens it
as the owner of that network, so nothing that the owner keeps is granted. The copies of one
recipient are in a folder of the owner's space `secrets`, and the owner signs a grant to read it.
The folder's path names the recipient's public key, so the signature covers the key too.

Example:
    await friend.encryption.ensure_network()
    await client.secrets().put("API_KEY", "open sesame")
    await client.sharing.share(["API_KEY"], friend.session.owner, wallet=lambda: wallet)
    received = await friend.sharing.received(client.session.owner)
    assert await received.get("API_KEY") == "open sesame"
    await client.sharing.put_many({"API_KEY": "changed"})  # renews the copies too
    await client.sharing.unshare(["API_KEY"], did=friend.session.owner)
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from capabilities.abilities import KV_GET, KV_LIST
from capabilities.capability_errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.tokens import Capability, parse_delegation, verify_delegation
from encryption_network.networks import KEY_VERSION
from encryption_network.pins import NetworkPin, pin_of

from ..delegations import Delegations
from ..documents.secret_names import (
    SHARED_PREFIX,
    SecretName,
    SharedFolder,
    parse_secret_label,
    secret_at,
    shared_folder,
    shared_folder_at,
)
from ..encryption import Encryption, require_usable
from ..errors import InvalidInput, NetworkKeyChanged, NetworkNotFound, NotShared
from ..kv import Kv
from ..secrets import SECRETS_SPACE, Secrets, writable_name
from ..session import Grant, network_of_owner, read_grant, space_capability, space_of
from ..wallets import AnyWallet
from ..wire.caller import Caller
from ..wire.portable import PortableDelegation, portable_of

_Wallet: TypeAlias = Callable[[], AnyWallet | None]
SHARE_TTL_S = 365 * 86_400.0
"""Default lifetime of a person's right to read, seconds."""


class Share(NamedTuple):
    """A live right of a person to read the copies in a folder.

    Attributes:
        folder: the folder, which names the person and the key.
        grant: the grant, signed by the owner.
    """

    folder: SharedFolder
    grant: Grant

    @property
    def pin(self) -> NetworkPin:
        """The key of the person's network."""
        network = network_of_owner(self.folder.did).text
        return NetworkPin(network, self.folder.key, KEY_VERSION)

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
            SealspaceError: as `Delegations.query`.
        """
        return await self._shares(self._caller.session.owner)

    async def copies(self) -> tuple[tuple[SharedFolder, SecretName], ...]:
        """Return all copies of secrets, with the folder of each copy.

        Raises:
            SealspaceError: as `Kv.list`.
        """
        return tuple(
            [
                (folder, copy)
                async for path in self._kv.list(SHARED_PREFIX)
                if (folder := shared_folder_at(path)) and (copy := secret_at(path, folder.path))
            ]
        )

    async def share(
        self,
        labels: Collection[str] | None,
        did: str,
        *,
        team: str | None = None,
        wallet: _Wallet = lambda: None,
        ttl_s: float = SHARE_TTL_S,
        encryption: Encryption | None = None,
    ) -> Share:
        """Share secrets with a person who has an encryption network.

        The wallet signs once for each person and team. Later values are shared too, if they are
        stored with `put_many`. What the person has read stays known after `unshare`.

        Args:
            labels: the secrets; None: all that the team has.
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
            NetworkNotFound, NetworkNotActive: the person has no network at that node.
            NetworkKeyChanged: earlier copies are sealed to another key of this person.
            SealspaceError: as `Secrets.get`, `Encryption.descriptor`, `Kv.put_many` and
                `Delegations.delegate`.
        """
        session, person = self._caller.session, shared_folder(team, did).did
        shares = await self.shares()
        live = dict(reversed(shares))  # the latest counts
        if labels is None:
            # SH7: as in `put_many`, a path alone does not count.
            labels = {
                one.label for to, one in await self.copies() if to.team == team and to in live
            }
        # Names first (SH2): protected and reserved ones are not shared.
        named = [writable_name(one.name, one.scope) for one in map(parse_secret_label, labels)]
        values = {one: await self._secrets().get(one.name, scope=one.scope) for one in named}
        pin = await self._pin(
            [one.pin for one in shares if one.folder.did == person],
            did=person,
            encryption=encryption or self._encryption,
        )
        folder = SharedFolder(team, person, pin.public_key)
        grant = live.get(folder)
        if grant is None:
            signing = wallet()
            if signing is None and session.did != session.owner:  # SH3
                raise InvalidInput(
                    "cannot share: only the owner's wallet can sign the grant, not a session's key",
                    hint="sign it with the owner's wallet",
                )
            # SH5: copies that an expired right left behind would be readable again.
            await self._kv.delete_many(one.path for to, one in await self.copies() if to == folder)
            portable = await Delegations(self._caller).delegate(
                person, _rights(session.owner, folder), ttl_s=ttl_s, wallet=signing
            )
            grant = read_grant(portable.header)
        await self._kv.put_many(await self._secrets(folder).sealed(values))
        return Share(folder, grant)

    async def put_many(self, values: Mapping[str, str | bytes], *, own: bool = True) -> None:
        """Encrypt and store several secrets, and renew their copies in the same commit.

        Copies are sealed to the keys that the owner signed, so no other node is needed. Copies in a
        folder that no live grant names are left as they are.

        Args:
            values: label to text or bytes.
            own: whether to store the secrets themselves; False: only renew the copies.
        Raises:
            BatchIncomplete: one commit failed after others succeeded; store the same values again.
            SealspaceError: as `Secrets.put_many`, `copies` and `shares`.
        """
        named = {parse_secret_label(label): value for label, value in values.items()}
        texts = await self._secrets().sealed(named) if own else {}
        if copies := [one for one in await self.copies() if one[1].label in values]:
            # SH3: anyone who can write to the store can make a copy's path.
            live = dict(await self.shares())
            for folder, secret in copies:
                if folder in live:
                    texts |= await self._secrets(folder).sealed({secret: values[secret.label]})
        await self._kv.put_many(texts)

    async def unshare(
        self, labels: Collection[str] | None, *, did: str | None = None, team: str | None = None
    ) -> tuple[str, ...]:
        """Delete copies, and revoke the rights to read for which nothing is left.

        A member of a team keeps the right to read what is shared with the team later, unless
        everything is unshared.

        Args:
            labels: the secrets; without it, all.
            did: DID of the person; None: every person.
            team: the team for which the copies were made. None: copies for a person alone, or all
                copies if no person is given either.
        Returns:
            The labels of the secrets of which copies were deleted.
        Raises:
            NotShared: nothing of it is shared.
            SealspaceError: as `copies`, `shares`, `Delegations.revoke` and `Kv.delete_many`.
        """

        def is_meant(folder: SharedFolder) -> bool:
            is_one = did is None or same_principal(did, folder.did)
            return is_one and (team is did is None or folder.team == team)

        copies = [one for one in await self.copies() if is_meant(one[0])]
        ended = [one for one in copies if labels is None or one[1].label in labels]
        kept = {folder for folder, _ in set(copies) - set(ended)}
        revoked = [
            grant.cid
            for folder, grant in await self.shares()
            if is_meant(folder) and (labels is None or (folder.team is None and folder not in kept))
        ]
        if not ended and not revoked:
            raise NotShared(
                "these secrets are not shared, or not with this person or team",
                hint="list what is shared: sealspace team list",
            )
        # SH5: the right first. A copy that another command renews meanwhile cannot be read then.
        await Delegations(self._caller).revoke(*revoked)
        await self._kv.delete_many(one.path for _, one in ended)
        return tuple(dict.fromkeys(secret.label for _, secret in ended))

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
            SealspaceError: as `Delegations.query` and `Delegations.accept`.
        """
        found = {
            one.folder: one
            for one in reversed(await self._shares(owner))  # the latest counts
            if one.folder.did == self._caller.session.owner
            and team in (None, one.folder.team or "")
        }
        if len(found) != 1:
            teams = " and ".join(one.team or "you alone" for one in found) or "nothing"
            raise NotShared(f"{owner} shares with you at this node: {teams}")
        return await self.opened(found.popitem()[1], wallet=wallet)

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
            SealspaceError: as `Delegations.accept`.
        """
        session, cid = self._caller.session, share.grant.cid
        used = [
            one
            for one in session.grants
            if cid in (one.cid, *(to.echo for to in parse_delegation(one.header).parents))
        ]
        if not used:
            now = self._caller.clock.now()
            await Delegations(self._caller).accept(
                share.portable(self._caller.transport.url),
                wallet=wallet(),
                ttl_s=(session.expires_at or now + SHARE_TTL_S) - now,
            )
            used = [self._caller.session.grants[-1]]
        # Without grants that the owner has revoked: the session would cite the first that fits.
        caller = self._caller.acting(replace(self._caller.session, grants=tuple(used)))
        space = space_of(share.grant.delegator, SECRETS_SPACE)
        return Secrets(caller, encryption or self._encryption, space, folder=share.folder)

    @property
    def _kv(self) -> Kv:
        return Kv(self._caller, self._caller.session.own_space(SECRETS_SPACE))

    def _secrets(self, folder: SharedFolder | None = None) -> Secrets:
        return Secrets(self._caller, self._encryption, self._kv.space, folder=folder)

    async def _pin(
        self, known: Collection[NetworkPin], *, did: str, encryption: Encryption
    ) -> NetworkPin:
        """Return the key to seal to for a person (SH4)."""
        try:
            descriptor = await encryption.descriptor(network_of_owner(did))
        except NetworkNotFound as missing:
            missing.step = (
                f"ask {did} to run `sealspace login` with the address of your node; if they have a"
                " network at another node, add --at with its address"
            )
            for pin in known:  # the person's network is at another node
                return pin
            raise
        require_usable(descriptor)
        offered = pin_of(descriptor)
        for pin in known:
            if pin != offered:  # a node, or a writer of its store, could offer a key of their own
                changed = NetworkKeyChanged(pin, offered)
                changed.step = (
                    f"ask {did} for the fingerprint that `sealspace network show` prints; only if"
                    f" it is {offered.fingerprint}, run `sealspace secret unshare --with {did}`,"
                    " remove them from their teams, and share again"
                )
                raise changed
        return offered

    async def _shares(self, owner: str) -> tuple[Share, ...]:
        """Return the live grants to read copies that an owner signed, latest first."""
        account = None if self._caller.session.space else SECRETS_SPACE
        query = Delegations(self._caller).query(status="active", account=account, tokens=True)
        return tuple(
            [
                share
                async for one in query
                if (share := read_share(one.token or "", owner))
                and share.grant.is_live(self._caller.clock.now())  # the node could hide the end
            ]
        )


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
    try:
        parents = verify_delegation(parse_delegation(token)).parents
    except CapabilityError:
        return None
    grant, place = read_grant(token), f"{space_of(owner, SECRETS_SPACE).text}/kv/"
    folder = shared_folder_at(grant.capabilities[0].resource.text.removeprefix(place))
    if (
        folder is not None
        and not parents
        and same_principal(grant.delegator, owner)
        and grant.delegate == folder.did
        and grant.capabilities == _rights(owner, folder)
    ):
        return Share(folder, grant)
    return None


def _rights(owner: str, folder: SharedFolder) -> tuple[Capability, ...]:
    place = space_of(owner, SECRETS_SPACE)
    return tuple(space_capability(place, "kv", folder.path, one) for one in (KV_GET, KV_LIST))
