"""A session: a key, the principal whose authority it carries, the grants that prove it, and the
tokens that it signs.

A session's key is drawn fresh for a wallet (the wallet signs once and is not asked again) or is the
caller's own key (a did:key owner, or an agent that uses what others grant it). Sessions are
immutable; taking up a grant gives a new one.

Example:
    session = key_session(seed)
    save_session(session, "session.json")
    session = load_session("session.json")
"""

import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import libipld
import msgspec

from capabilities.abilities import parse_ability, satisfies
from capabilities.cacao import Cacao, encode_cacao, header_text
from capabilities.capability_errors import CapabilityError, InvalidIdentifier
from capabilities.cids import cid_text, digest_of, parse_cid
from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal, parse_principal, principal_of, same_principal
from capabilities.recap import Recap, attach
from capabilities.resources import (
    NetworkId,
    OpaqueResource,
    SpaceId,
    SpaceResource,
    extends,
    network_id,
    network_of,
    parse_resource,
    parse_space_id,
    root_of,
)
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import SiweMessage, siwe_text
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, parse_json, shaped
from capabilities.tokens import Capability, parse_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.canonical_json import canonical_bytes
from encryption_network.pins import NetworkPin, parse_pins, pins_json

from .errors import (
    ClientNotReady,
    InvalidInput,
    InvalidNetworkId,
    InvalidPortableDelegation,
    InvalidSession,
    NotGranted,
    SessionExpired,
)
from .private_files import replace_file
from .wallets import SiteWallet, Wallet


def capability(resource: str, ability: str) -> Capability:
    """Make a capability from texts, a network's owner in its canonical spelling; raises
    InvalidInput."""
    try:
        parsed = parse_resource(resource)
        parse_ability(ability)
    except InvalidIdentifier as exc:
        hint = (
            "it is a whole URI, tinycloud:…:notes/kv/KEY or the id of a network, and an ability"
            " like tinycloud.kv/get"
        )
        raise InvalidInput(f"not a capability: {exc.text}", hint=hint) from exc
    network = network_of(parsed)
    return Capability(parsed if network is None else OpaqueResource(network.text), ability, {})


def space_capability(space: SpaceId, service: str, path: str | None, ability: str) -> Capability:
    """Make a capability on the raw path of a space, None for a service as a whole.

    Raises:
        InvalidInput: the path cannot be used in a URI as it is, or would be read as something else.
    """
    resource = SpaceResource(space, service, path)
    with suppress(InvalidIdentifier):
        if parse_resource(resource.text) == resource:
            return Capability(resource, ability, {})
    raise InvalidInput(
        "a key is the raw path of a URI",
        hint="percent-encode spaces, `?`, `#`, `%` and non-ASCII; no `.` or `..` segments",
    )


def covers(held: Capability, wanted: Capability) -> bool:
    """Whether a grant of `held` allows `wanted` without caveats (the node's own rule of
    containment)."""
    return (
        not held.caveats
        and satisfies(held.ability, wanted.ability)
        and extends(wanted.resource, held.resource)
    )


def attenuations(capabilities: Iterable[Capability]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return resource to ability to the empty caveat, as ReCaps and tokens state it."""
    stated: dict[str, dict[str, list[dict[str, Any]]]] = {}  # Any: caveats, all empty
    for one in capabilities:
        stated.setdefault(one.resource.text, {})[one.ability] = [{}]
    return stated


def distinct_capabilities(capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return capabilities without repeats, in order of appearance."""
    return tuple({(one.resource.text, one.ability): one for one in capabilities}.values())


INVOCATION_TTL_S: Final = 60.0
"""Lifetime of a request's token; a node accepts at most 300 s, and a lost token expires soon."""

REVOCATION_TTL_S: Final = 600.0
"""Lifetime of a wallet's revocation: a person takes minutes to sign, and a copy of it can do
nothing else."""


def mint(
    signer: Ed25519Signer,
    entropy: Entropy,
    *,
    audience: str,
    capabilities: Sequence[Capability],
    proofs: Sequence[str],
    expires_at: float,
    facts: Sequence[Json] = (),
    issuer: str | None = None,
) -> str:
    """Return a token signed by a session key; `issuer` is the key's DID URL unless a bare DID is
    wanted (J5, J6).

    Args:
        signer: The session's key.
        entropy: Makes the nonce.
        audience: The DID that the token is addressed to.
        capabilities: The requested or granted capabilities.
        proofs: The cids of the delegations that it cites.
        expires_at: Its end, epoch seconds.
        facts: Further statements, such as what binds the token to a body.
        issuer: The DID that signs, if it is not the key's DID URL.
    """
    payload = UcanPayload(
        iss=issuer or signer.did_url,
        aud=audience,
        exp=round(expires_at, 3),
        nnc=f"urn:uuid:{uuid.UUID(bytes=entropy.token(16), version=4)}",
        fct=list(facts) or None,
        prf=list(proofs),
        att=attenuations(capabilities),
    )
    return encode_ucan(payload, signer)


def sign_message(
    wallet: Wallet,
    entropy: Entropy,
    *,
    domain: str,
    uri: str,
    issued_at: float,
    expires_at: float | None,
    capabilities: Sequence[Capability] = (),
    parents: Sequence[str] = (),
    resources: Sequence[str] = (),
    statement: str | None = None,
) -> str:
    """Ask a wallet to sign a message, and return the CACAO as a header (J4).

    Args:
        wallet: The owner's wallet.
        entropy: Makes the nonce.
        domain: Authority that the text names, unless the wallet has one of its own.
        uri: The DID that the grant is for, or the cid that is revoked.
        issued_at: Epoch seconds.
        expires_at: Epoch seconds; None: without an end.
        capabilities: The granted capabilities; none for a revocation.
        parents: The cids of the delegations that it rests on.
        resources: Further resources of the text.
        statement: A sentence for the person who signs.

    Raises:
        InvalidInput: The text would contain characters that are not printable.
    """
    siwe = SiweMessage(
        domain=wallet.domain if isinstance(wallet, SiteWallet) else domain,
        address=wallet.address,
        chain_id=wallet.chain_id,
        uri=uri,
        # as long as other clients' nonces; it binds nothing (C7)
        nonce=entropy.token(9).hex()[:17],
        issued_at=iso_time(issued_at),
        expiration_time=None if expires_at is None else iso_time(expires_at),
        statement=statement,
        resources=tuple(resources),
    )
    if capabilities:
        try:
            # Parents in a ReCap are written in base58btc (S6).
            cids = [libipld.decode_multibase(parse_cid(cid).text())[1] for cid in parents]
        except CapabilityError as exc:
            raise InvalidInput("not the id of a delegation") from exc
        recap = Recap(
            attenuations(capabilities), tuple(libipld.encode_multibase("z", cid) for cid in cids)
        )
        siwe = attach(siwe, recap)
    text = siwe_text(siwe)
    if not all(line.isprintable() for line in text.split("\n")):
        raise InvalidInput("a sign-in text holds printable characters only")
    return header_text(encode_cacao(Cacao(siwe, wallet.sign_eip191(text))))


def token_cid(token: str) -> str:
    """Return the id of a token as it is sent (E6, E7)."""
    return cid_text(digest_of(token.encode("ascii")))


def iso_time(epoch_s: float) -> str:
    """Return a time as other clients write it: UTC, milliseconds, `Z`."""
    moment = datetime.fromtimestamp(round(epoch_s, 3), tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_time(epoch_s: float) -> str:
    """Return a time as people read it: UTC, to the second."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


DEFAULT_NETWORK: Final = "default"
SECRETS_SPACE: Final = "secrets"

_MAX_SESSION_BYTES = 8 * 1024 * 1024
_MOST_NAMED, _MOST_NOTED = 4, 20
"""Missing permissions that one message names, and that notes do; the error has all."""


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """A delegation that a session holds; made by `read_grant`.

    Attributes:
        header: the delegation as it is posted and handed on.
        cid: its id, computed here.
        delegator: who signed it.
        delegate: the recipient.
        capabilities: what it grants.
        expires_at: epoch seconds; None: never.
    """

    header: str
    cid: str
    delegator: Principal
    delegate: Principal
    capabilities: tuple[Capability, ...]
    expires_at: float | None

    def is_live(self, now: float) -> bool:
        """Whether it has not ended."""
        return self.expires_at is None or now < self.expires_at

    def __repr__(self) -> str:
        return (
            f"Grant({self.cid} to {self.delegate}, {_count(self.capabilities, 'right')},"
            f" {until(self.expires_at)})"
        )


def read_grant(header: str) -> Grant:
    """Read a delegation.

    Args:
        header: CACAO or UCAN text, untrusted.
    Raises:
        InvalidPortableDelegation: it cannot be read.
    Does not check:
        Signature, time and chain: the node does, whenever it is used.
    """
    try:
        delegation = parse_delegation(header)
    except CapabilityError as exc:
        raise InvalidPortableDelegation("the delegation cannot be read") from exc
    return Grant(
        header=header,
        cid=cid_text(delegation.cid),
        delegator=delegation.delegator,
        delegate=delegation.delegate,
        capabilities=delegation.capabilities,
        expires_at=delegation.expires_at,
    )


def require_recipient(grant: Grant, *ours: str, holder: str = "session") -> None:
    """Raise InvalidPortableDelegation unless a grant is for one of these DIDs of a session, or of
    another holder."""
    if not any(same_principal(grant.delegate, did) for did in ours):
        raise InvalidPortableDelegation(
            f"the delegation is for {grant.delegate}, this {holder} is {ours[0]}",
            hint=f"ask the owner to delegate to this {holder}'s DID",
        )


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """A key that acts at a node, and what it may do.

    Attributes:
        signer: signs every request; its secret is in no text of this object.
        owner: the principal for whom it acts: the wallet that signed in, or the key itself.
        space: the primary space, where there is one.
        grants: delegations to the key, the sign-in first.
        node_id: DID of the node it was made at; None: any.
        pins: keys of the networks that it has sealed to, or opened from; see
            `Encryption.descriptor`.
        seed: the signer's secret, 32 bytes, for `encode_session`; None: the key is kept elsewhere
            and cannot be stored.
    """

    signer: Ed25519Signer
    owner: Principal
    space: SpaceId | None = None
    grants: tuple[Grant, ...] = ()
    node_id: str | None = None
    pins: tuple[NetworkPin, ...] = ()
    seed: bytes | None = None

    def __repr__(self) -> str:
        of = "itself" if self.owner == self.did else self.owner
        space = "no space" if self.space is None else f"space {self.space.name}"
        return (
            f"Session({self.did} for {of}, {space}, {_count(self.grants, 'grant')},"
            f" {until(self.expires_at)})"
        )

    @property
    def did(self) -> Principal:
        """The DID of the session's key; what a delegation to this session names."""
        return Principal(self.signer.did)

    @property
    def expires_at(self) -> float | None:
        """When the sign-in ends, epoch seconds; None: never, or there is none."""
        return self.grants[0].expires_at if self.grants else None

    def own_space(self, name: str) -> SpaceId:
        """Return a space of the owner by its short name, or any space by its full id.

        Raises:
            InvalidInput: neither a name nor an id.
        """
        return space_of(self.owner, name)

    def chosen_space(self, name: str | None) -> SpaceId:
        """Return a space as `own_space` does; with None the primary one.

        Raises:
            InvalidInput: neither a name nor an id.
            ClientNotReady: there is no primary space.
        """
        if name is not None:
            return self.own_space(name)
        if self.space is None:
            hint = 'name one, as in `client.kv("notes")`'
            raise ClientNotReady(
                "this session has no primary space", hint=hint, step="name one: --space NAME"
            )
        return self.space

    def proofs_for(self, wanted: Sequence[Capability], *, now: float) -> tuple[str, ...]:
        """Return the cids to cite for a request: none where the key is root, else as few as do.

        A single grant that covers everything is preferred, in the order of `grants`: what is cited
        decides which policies apply and whether the owner counts as present.

        Raises:
            NotGranted: no grant covers some of the capabilities; the error names each of them.
            SessionExpired: one did, and has ended.
        """
        dependent = [one for one in wanted if root_of(one.resource) != self.did]
        live = [grant for grant in self.grants if grant.is_live(now)]
        for grant in live:
            if all(_is_covered(grant, one) for one in dependent):
                return (grant.cid,) if dependent else ()
        missing = [
            one for one in dependent if not any(_is_covered(grant, one) for grant in self.grants)
        ]
        if missing:
            raise _not_granted(missing, owner=self.owner)
        cited: dict[str, None] = {}
        for one in dependent:
            proof = next((grant.cid for grant in live if _is_covered(grant, one)), None)
            if proof is None:
                raise SessionExpired("the grant that covers this has ended")
            cited[proof] = None
        return tuple(cited)

    def with_grant(self, grant: Grant) -> "Session":
        """Return a session that also holds a grant.

        Raises:
            InvalidPortableDelegation: the grant is for another key.
        """
        require_recipient(grant, self.did)
        if any(held.cid == grant.cid for held in self.grants):
            return self
        return replace(self, grants=(*self.grants, grant))

    def pin_of(self, network: NetworkId) -> NetworkPin | None:
        """Return the key that is pinned for a network; None where it was not used yet."""
        return next((pin for pin in self.pins if pin.network == network.text), None)

    def with_pin(self, pin: NetworkPin) -> "Session":
        """Return a session that pins this key for a network, in place of what was pinned for it
        before."""
        if pin in self.pins:
            return self
        return replace(
            self, pins=(*(held for held in self.pins if held.network != pin.network), pin)
        )


def _not_granted(missing: Sequence[Capability], *, owner: Principal) -> NotGranted:
    """Say what is missing, and who can grant it (MF13)."""
    lines = [f"{one.ability} on {one.resource.text}" for one in missing]
    more = len(lines) - _MOST_NAMED
    text = "; ".join(lines[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
    others = sorted({root for one in missing if (root := root_of(one.resource) or "") != owner})
    hint, step = (
        (
            "sign in again for it: `client.sign_in(wallet, sign_in_for(client.session,"
            " error.missing))`"
        ),
        None,
    )
    if others:
        whom = ", ".join(others)
        hint = f"ask {whom} for a delegation that holds it, and take it up"
        step = f"ask {whom} for a grant of it, then: sealspace grant accept FILE"
    error = NotGranted(
        f"nothing that this session holds covers {text}",
        missing=tuple(missing),
        hint=hint,
        step=step or NotGranted.default_step,
    )
    for line in lines[:_MOST_NOTED] if len(lines) > 1 else ():
        error.add_note(f"missing: {line}")
    return error


def until(expires_at: float | None) -> str:
    """Say when something ends, for a line about it."""
    if expires_at is None:
        return "without an end"
    try:
        return f"until {iso_time(expires_at)}"
    except (ValueError, OverflowError):  # a number of a token, which nobody has judged yet
        return "until no time of a calendar"


def _count(items: Sequence[object], noun: str) -> str:
    return f"1 {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def _is_covered(grant: Grant, wanted: Capability) -> bool:
    return any(covers(held, wanted) for held in grant.capabilities)


def key_session(key: Ed25519Signer | bytes, *, grants: Sequence[Grant] = ()) -> Session:
    """Return the session of a key that acts for itself: a did:key owner, or an agent with grants of
    others.

    Args:
        key: a signer, or a 32-byte seed; only a session made of a seed can be stored.
        grants: delegations to this key.
    Raises:
        InvalidInput: the seed is not 32 bytes.
        InvalidPortableDelegation: a grant is for another key.
    """
    seed = key if isinstance(key, bytes) else None
    if seed is not None and len(seed) != 32:
        raise InvalidInput("the seed of a key has 32 bytes")
    signer = Ed25519Signer(key) if isinstance(key, bytes) else key
    session = Session(signer=signer, owner=Principal(signer.did), seed=seed)
    for grant in grants:
        session = session.with_grant(grant)
    return session


def space_of(owner: str, name: str) -> SpaceId:
    """Return a space of an owner by its short name, or any space by its full id.

    Raises:
        InvalidInput: the owner is no DID, or the name neither a name nor an id.
    """
    try:
        is_id = name.startswith("tinycloud:")
        return parse_space_id(name if is_id else SpaceId(parse_principal(owner), name).text)
    except CapabilityError as exc:
        hint = (
            "a short name such as `notes`, without spaces and slashes, or a full id"
            " `tinycloud:…:notes`"
        )
        raise InvalidInput(f"not a space: {name[:100]}", hint=hint) from exc


def network_of_owner(owner: str, name: str = DEFAULT_NETWORK) -> NetworkId:
    """Return an encryption network of an owner; the owner's DID is canonical and without fragment
    in it.

    Raises:
        InvalidNetworkId: the owner is no DID, or the name no name of a network.
    """
    try:
        return network_id(parse_principal(owner), name)
    except CapabilityError as exc:
        raise InvalidNetworkId(f"not an encryption network: {exc.text}") from exc


# --- keeping --------------------------------------------------------------------------------------


def encode_session(session: Session) -> bytes:
    """Return a session as JSON. The text holds the session's secret key: keep it as you would keep
    a password.

    Raises:
        InvalidSession: the session's key was given as a signer, which does not reveal its secret.
    """
    if session.seed is None:
        raise InvalidSession(
            "this session's key cannot be stored", hint="make the session of a seed"
        )
    value: dict[str, Json] = {
        "v": 2,
        "seed": encode_standard(session.seed),
        "owner": session.owner,
        "space": None if session.space is None else session.space.text,
        "nodeId": session.node_id,
        "networks": pins_json(session.pins),
        "grants": [grant.header for grant in session.grants],
    }
    return canonical_bytes(value)


class _Stored(msgspec.Struct, rename="camel", kw_only=True):
    v: Literal[2]
    seed: str
    owner: str
    # A value that is not a text is not the same as none: a session without a node acts at any.
    space: str | None = None
    node_id: str | None = None
    networks: Any
    grants: list[str]


def decode_session(data: bytes) -> Session:
    """Read what `encode_session` wrote.

    Raises:
        InvalidSession: it is something else. The message contains no byte of it.
    """
    try:
        stored = shaped(parse_json(data, max_bytes=_MAX_SESSION_BYTES), _Stored)
        seed, pins = decode_standard(stored.seed), parse_pins(stored.networks)
        if seed is None or len(seed) != 32 or pins is None:
            raise InvalidSession(
                "the stored session has no key, or a network's key in it cannot be read"
            )
        session = Session(
            signer=Ed25519Signer(seed),
            owner=principal_of(stored.owner),
            space=None if stored.space is None else parse_space_id(stored.space),
            node_id=stored.node_id,
            pins=pins,
            seed=seed,
        )
        for header in stored.grants:
            session = session.with_grant(read_grant(header))
        return session
    except (CapabilityError, InvalidPortableDelegation) as exc:
        raise InvalidSession("the stored session cannot be read") from exc


def save_session(session: Session, path: str | Path) -> None:
    """Write a session to a file that only its owner can read, replacing it as a whole.

    Raises:
        InvalidSession: its key cannot be stored.
        OSError: the file cannot be written.
    """
    replace_file(Path(path), encode_session(session))


def load_session(path: str | Path) -> Session:
    """Read a session from a file.

    Raises:
        InvalidSession: the file holds something else.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return decode_session(file.read(_MAX_SESSION_BYTES + 1))
