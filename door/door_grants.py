"""The grants behind the tokens of a door, and these tokens (DR6, DR9, DR19)."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from capabilities.abilities import KV_GET, satisfies
from capabilities.clock_and_entropy import Clock, Entropy
from capabilities.principals import Principal, same_principal
from capabilities.resources import SpaceId, SpaceResource
from capabilities.strict_base64 import encode_url
from capabilities.tokens import Capability
from sealspace.client import Client
from sealspace.documents.secret_names import SECRETS_SPACE, SecretName, secret_at
from sealspace.errors import NotGranted
from sealspace.secrets import Secret, Secrets
from sealspace.session import iso_time, space_of
from sealspace.wire.token_line import MachineToken, token_of
from serving.shares import OPERATOR, Payer, ResourceUse, ShareFull, parts_of
from tee_backend.backend import Backend

from .api_requests import token_digest
from .cache import Cache
from .door_errors import DoorRefusal
from .kinds import BACKEND, MACHINE, OWNER, RECEIVER, Kind
from .limits import AT_ONCE, IDLE_S, MAX_GRANTS, REQUESTS_PER_MINUTE, Allowance, share_refusal
from .mounts import Mount

_TOKEN_BYTES = 32
_ACCESSOR_BYTES = 16
_PREFIX = "sdt_"
POLICY = "sealspace"
"""The name that clients see as the policy of every token."""


@dataclass(kw_only=True)
class DoorGrant:
    """A grant that the door uses for a caller, and the token that stands for it.

    Attributes:
        client: a client of the node that uses the grant.
        token: the door token; hidden when this object is printed.
        accessor: a name of the token that is not secret.
        path: the path of the login, or `auth/token/door` for the door's own grant.
        role: the role that the caller named at the login.
        holder: whose share its place and its requests count to (DR19): the owner of a machine
            token, or the trust of an ID token. `OPERATOR` for the door's own grant.
        began_at: epoch seconds of the login.
        used_at: epoch seconds of its last request.
        ends_at: epoch seconds at which the grant ends; None: it has no end.
        machine: the machine token; None for an owner's session.
        backend: the program that proves its code; None for other grants.
        requests: how many requests may reach the node.
        turns: the requests that wait for the node at the same time.
        has_place: whether it counts; False while a login is under way that takes its place.
        writes: how often it wrote.
    """

    client: Client
    token: str = field(repr=False)
    accessor: str
    path: str
    role: str
    holder: Payer
    began_at: float
    used_at: float
    ends_at: float | None
    machine: MachineToken | None
    requests: Allowance
    turns: asyncio.Semaphore
    has_place: bool = True
    backend: Backend | None = None
    writes: int = 0
    _received_shares: dict[str, Secrets] = field(default_factory=dict)

    def left_s(self, now: float) -> int:
        """Return the seconds until the grant ends, 0 for a grant without an end."""
        return 0 if self.ends_at is None else max(1, int(self.ends_at - now))

    def is_live(self, now: float) -> bool:
        """Return whether the grant has not ended."""
        return self.ends_at is None or now < self.ends_at

    def kind_at(self, mount: Mount) -> Kind:
        """Return what the grant may do at a mount."""
        if self.backend is not None:
            return BACKEND
        if self.machine is not None:
            return MACHINE
        return OWNER if self._is_own(mount) else RECEIVER

    async def secrets_at(self, mount: Mount) -> Secrets:
        """Return the secrets of a mount.

        Raises:
            NotGranted: the mount is of another owner, and a machine token reads only its owner's.
            SealspaceError: the other owner shares nothing, or the node does not answer; see
                `Sharing.received`.
        """
        if self._is_own(mount):
            return self.client.secrets()
        if self.machine is not None:
            raise NotGranted(
                f"the mount {mount.name} has secrets of {mount.owner}, but the machine token"
                f" {self.machine.name} reads those of {self.machine.owner}",
                hint="use a mount without an owner, or with this one",
            )
        share = self._received_shares.get(mount.name)
        if share is None:
            share = await self.client.sharing.received(str(mount.owner), team=mount.team)
            self._received_shares[mount.name] = share
        return share

    async def read(self, mount: Mount, secret: SecretName, version: int | None) -> Secret:
        """Read a secret, or one version of it.

        Raises:
            SealspaceError: the grant does not allow it, there is no such secret, or the node does
                not answer; see `Secrets.read`, `Backend.open_secret` and `secrets_at`.
            EvidenceSourceError: the platform of a backend makes no quote.
        """
        if self.backend is not None:
            owner = _require_owner(mount)
            return await self.backend.open_secret(owner, secret.name, scope=secret.scope)
        secrets = await self.secrets_at(mount)
        return await secrets.read(secret.name, scope=secret.scope, version=version)

    def named_secrets(self, mount: Mount) -> tuple[SecretName, ...]:
        """Return the secrets that a machine token, or a backend's live grants, name one by one.

        Call it only for these two kinds of grants.

        Raises:
            NotGranted: the grant is a backend's, and the mount names no owner.
        """
        if self.backend is None:
            assert self.machine is not None
            return self.machine.secrets
        secrets_space = space_of(_require_owner(mount), SECRETS_SPACE)
        names: dict[SecretName, None] = {}  # each once, in the order of the grants
        for held_grant in self.backend.grants:
            if held_grant.state != "live":
                continue
            for capability in held_grant.grant.capabilities:
                name = _readable_secret(capability, secrets_space)
                if name is not None:
                    names[name] = None
        return tuple(names)

    def forget_received(self, mount: Mount) -> None:
        """Look for the share of a mount again at the next request."""
        self._received_shares.pop(mount.name, None)

    def _is_own(self, mount: Mount) -> bool:
        """Return whether a mount has the secrets of the grant's own owner."""
        owner = self.client.session.owner
        return mount.owner is None or same_principal(mount.owner, owner)

    def auth(self, now: float) -> Mapping[str, Any]:
        """Return the member `auth` of an answer to a login."""
        return {
            "client_token": self.token,
            "accessor": self.accessor,
            "policies": [POLICY],
            "token_policies": [POLICY],
            "metadata": self._metadata(),
            "lease_duration": self.left_s(now),
            "renewable": False,
            "entity_id": "",
            "token_type": "service",
            "orphan": True,
            "mfa_requirement": None,
            "num_uses": 0,
        }

    def lookup_data(self, now: float) -> Mapping[str, Any]:
        """Return the data of `auth/token/lookup-self`."""
        lifetime_s = 0 if self.ends_at is None else int(self.ends_at - self.began_at)
        return {
            "id": self.token,
            "accessor": self.accessor,
            "creation_time": int(self.began_at),
            "creation_ttl": lifetime_s,
            "display_name": self.role or self.path.split("/")[1],
            "entity_id": "",
            "expire_time": None if self.ends_at is None else iso_time(self.ends_at),
            "explicit_max_ttl": lifetime_s,
            "issue_time": iso_time(self.began_at),
            "meta": self._metadata(),
            "num_uses": 0,
            "orphan": True,
            "path": self.path,
            "policies": [POLICY],
            "renewable": False,
            "ttl": self.left_s(now),
            "type": "service",
        }

    def _metadata(self) -> Mapping[str, str]:
        if self.backend is not None:
            return {"backend": self.backend.did, "role": self.role}
        return {"owner": self.client.session.owner, "role": self.role}


def _readable_secret(capability: Capability, secrets_space: SpaceId) -> SecretName | None:
    """Return the secret that a capability allows to read.

    None if it is for another space or ability, or for a folder instead of one secret.
    """
    resource = capability.resource
    if not isinstance(resource, SpaceResource):
        return None
    is_for_secrets = resource.space == secrets_space and resource.service == "kv"
    if not is_for_secrets or not satisfies(capability.ability, KV_GET):
        return None
    return secret_at(resource.path or "")


def _require_owner(mount: Mount) -> Principal:
    """Return the owner of a mount's secrets, whom a backend's mount has to name.

    Raises:
        NotGranted: the mount names no owner.
    """
    if mount.owner is None:
        raise NotGranted(
            f"the mount {mount.name} names no owner, and a backend has grants of any owners",
            hint=f"start the door with --mount {mount.name}={mount.form},owner=DID",
        )
    return mount.owner


class DoorGrants:
    """The live grants of a door, by their tokens.

    Args:
        cache: where the values of the grants are; those of a grant that ends are removed.
        clock: source of the time.
        entropy: source of the tokens.
    """

    def __init__(self, cache: Cache, *, clock: Clock, entropy: Entropy) -> None:
        self._cache = cache
        self._clock = clock
        self._entropy = entropy
        self._by_token_digest: dict[bytes, DoorGrant] = {}
        self._by_credential: dict[bytes, DoorGrant] = {}
        self._places = ResourceUse(
            share_refusal(
                "callers are logged in at this door",
                "end tokens with auth/token/revoke-self, or start another door",
            )
        )

    def __iter__(self) -> Iterator[DoorGrant]:
        return iter([*self._by_token_digest.values()])

    def find(self, token: str | None) -> DoorGrant:
        """Return the grant of a token.

        Raises:
            DoorRefusal: there is no token, it is not a token of this door, or its grant has ended.
        """
        if token is None:
            raise DoorRefusal(
                403,
                "permission denied: the request has no token; next: log in, and send the token in"
                " the header X-Vault-Token",
            )
        grant = self._if_live(self._by_token_digest.get(token_digest(token)))
        if grant is None:
            raise DoorRefusal(
                403,
                "permission denied: the token is not a token of this door, or it has ended; next:"
                " log in again",
            )
        grant.used_at = self._clock.now()
        return grant

    def of_credential(self, credential: bytes) -> DoorGrant | None:
        """Return the live grant of an earlier login; None if there is none.

        Args:
            credential: the digest of what the caller logged in with.
        """
        return self._if_live(self._by_credential.get(credential))

    def _if_live(self, grant: DoorGrant | None) -> DoorGrant | None:
        """Return a grant if it is live; end it otherwise."""
        if grant is None or grant.is_live(self._clock.now()):
            return grant
        self.end(grant)
        return None

    @contextmanager
    def room(self, holder: Payer) -> Iterator[list[DoorGrant]]:
        """Keep a place for one more grant of a holder until the `with` block ends (DR19).

        Where the holder's share is full, an idle grant gives its place. It stays valid unless
        `add` is called, so a login that the node refuses ends no grant.

        Yields:
            The grants that give their places, for `add`.
        Raises:
            DoorRefusal: the holder, all holders that the operator did not name, or all holders
                together have no place left, and no idle grant gives one.
        """
        for grant in self:
            self._if_live(grant)  # those that have ended give their places back
        parts = parts_of(holder)
        leaving: list[DoorGrant] = []
        try:
            while (full := self._places.full(parts, 1, MAX_GRANTS)) is not None:
                idle = self._idle_grant(full, holder)
                if idle is None:
                    break
                self._count_out(idle)
                leaving.append(idle)
            # live grants and running logins have places (DR14, DR19)
            with self._places.reserve(parts, 1, MAX_GRANTS):
                yield leaving
        finally:
            for grant in leaving:
                if grant in self:
                    self._count_in(grant)

    def _idle_grant(self, full: ShareFull, holder: Payer) -> DoorGrant | None:
        """Return the grant that gives its place in a full share, or None.

        It is that of the largest holder that has an idle one, and the one that was idle the
        longest. A holder does not lose places to one that has more of them.
        """
        now = self._clock.now()
        counted = [grant for grant in self if grant.has_place]
        places = Counter(grant.holder for grant in counted)
        candidates = []
        for grant in counted:
            is_in_share = full.counter in parts_of(grant.holder)
            is_idle = now - grant.used_at >= IDLE_S
            is_larger = places[grant.holder] >= places[holder]
            if grant.holder != OPERATOR and is_in_share and is_idle and is_larger:
                candidates.append(grant)
        if not candidates:
            return None
        return max(candidates, key=lambda grant: (places[grant.holder], now - grant.used_at))

    def _count_in(self, grant: DoorGrant) -> None:
        """Count a grant, also where its share is full."""
        grant.has_place = True
        self._places.add(parts_of(grant.holder), 1)

    def _count_out(self, grant: DoorGrant) -> None:
        """Count a grant no more."""
        if grant.has_place:
            grant.has_place = False
            self._places.add(parts_of(grant.holder), -1)

    def add(
        self,
        client: Client,
        *,
        path: str,
        role: str,
        ends_at: float | None,
        holder: Payer = OPERATOR,
        leaving: Iterable[DoorGrant] = (),
        credential: bytes | None = None,
        backend: Backend | None = None,
    ) -> DoorGrant:
        """Add a grant with a new random token.

        Args:
            client: a client of the node that uses the grant.
            path: the path of the login.
            role: the role that the caller named at the login; "" for the door's own grant.
            ends_at: epoch seconds at which the grant ends; None: it has no end.
            holder: whose share it counts to.
            leaving: grants that give their places, and end now; see `room`.
            credential: digest of what the caller logged in with, by which a later login finds the
                grant; None: no login finds it.
            backend: the program whose grants of owners this grant stands for; None: it stands for
                the client's session.
        """
        now = self._clock.now()
        for other in leaving:
            self.end(other)
        # A backend's grants count, even if its client has the session of a machine token.
        machine = None if backend is not None else token_of(client.session)
        grant = DoorGrant(
            client=client,
            token=_PREFIX + encode_url(self._entropy.token(_TOKEN_BYTES)),
            accessor=encode_url(self._entropy.token(_ACCESSOR_BYTES)),
            path=path,
            role=role,
            holder=holder,
            began_at=now,
            used_at=now,
            ends_at=ends_at,
            machine=machine,
            backend=backend,
            requests=Allowance(REQUESTS_PER_MINUTE, "requests with this grant", self._clock),
            turns=asyncio.Semaphore(AT_ONCE),
            has_place=False,
        )
        self._count_in(grant)
        self._by_token_digest[token_digest(grant.token)] = grant
        if credential is not None:
            self._by_credential[credential] = grant
        return grant

    def end(self, grant: DoorGrant) -> None:
        """Forget a grant, its token and its values."""
        self._count_out(grant)
        self._by_token_digest.pop(token_digest(grant.token), None)
        for credential, known_grant in [*self._by_credential.items()]:
            if known_grant is grant:
                del self._by_credential[credential]
        self._cache.drop_grant(grant.accessor)
