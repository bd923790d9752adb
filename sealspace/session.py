"""Sessions that sign and authorise a client's requests.

A session is a signing key together with the grants that authorise its requests. A wallet sign-in
draws a fresh session key: the wallet signs once, and the key signs every request after that. A
did:key owner, or an agent that uses grants of others, acts with its own key. Sessions are
immutable; accepting a grant returns a new session.

Example:
    session = key_session(seed)
    save_session(session, "session.json")
    session = load_session("session.json")
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import libipld
import msgspec

from capabilities.abilities import parse_ability, satisfies
from capabilities.cacao import Cacao, encode_cacao, header_text
from capabilities.capability_errors import CapabilityError, InvalidIdentifier
from capabilities.caveats import caveats_of
from capabilities.cids import cid_text, digest_of, parse_cid
from capabilities.clock_and_entropy import Entropy
from capabilities.frozen import frozen
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
from capabilities.strict_json import Json, JsonObject, parse_json, shaped
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
from .private_files import read_key, replace_file
from .wallets import SiteWallet, Wallet, signature_of


def capability(resource: str, ability: str, *caveats: Mapping[str, Json]) -> Capability:
    """Create a capability from a resource URI and an ability.

    Network ids are normalised.

    Args:
        resource: a whole URI (`tinycloud:…:notes/kv/KEY`), or the id of a network.
        ability: a full ability (`tinycloud.kv/get`).
        caveats: conditions of the capability, in the form of a token.
    Raises:
        InvalidInput: the resource is not a URI, or the ability is malformed.
    """
    try:
        parsed = parse_resource(resource)
        parse_ability(ability)  # raises for a malformed ability
    except InvalidIdentifier as exc:
        raise InvalidInput(
            f"not a capability: {exc.text}",
            hint="pass a whole URI, such as tinycloud:…:notes/kv/KEY, or the id of a network; and"
            " an ability, such as tinycloud.kv/get",
        ) from exc
    network = network_of(parsed)
    normalised = parsed if network is None else OpaqueResource(network.text)
    return Capability(resource=normalised, ability=ability, caveats=caveats_of(caveats))


def space_capability(space: SpaceId, service: str, path: str | None, ability: str) -> Capability:
    """Create a capability for a path in a space.

    Without a path, the capability is for a whole service, such as "kv".

    Args:
        space: the space.
        service: short name of the service, such as "kv".
        path: the raw path; None is the service as a whole.
        ability: a full ability.
    Raises:
        InvalidInput: the path cannot be used in a URI as it is, or would be read as another one.
    """
    resource = SpaceResource(space=space, service=service, path=path)
    try:
        # For example, a path with `?` would be read back as a shorter path and a query.
        is_read_back = parse_resource(resource.text) == resource
    except InvalidIdentifier:
        is_read_back = False
    if is_read_back:
        return Capability(resource=resource, ability=ability, caveats={})
    raise InvalidInput(
        "the name cannot be used as the path of a URI",
        hint="percent-encode spaces, `?`, `#`, `%` and non-ASCII; leave out `.` and `..` segments",
    )


def covers(held: Capability, wanted: Capability) -> bool:
    """Return whether one capability includes another.

    Nodes use the same rule. A capability with caveats covers only one with the same caveats.
    """
    return (
        held.caveats in ({}, wanted.caveats)
        and satisfies(held.ability, wanted.ability)
        and extends(wanted.resource, held.resource)
    )


def attenuations(capabilities: Iterable[Capability]) -> dict[str, dict[str, list[Any]]]:
    """Convert capabilities to their JSON form.

    Tokens and ReCap messages use this form. Each resource maps its abilities to their caveats, or
    to one empty caveat.
    """
    granted: dict[str, dict[str, list[Any]]] = {}  # Any: the caveats
    for right in capabilities:
        caveats = [*right.caveats.values()] or [{}]
        granted.setdefault(right.resource.text, {})[right.ability] = caveats
    return granted


def distinct_capabilities(capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Remove duplicates from capabilities, in the order of their first appearance."""
    return tuple({(right.resource.text, right.ability): right for right in capabilities}.values())


INVOCATION_TTL_S = 60.0
"""Lifetime of a request's token, seconds: short, so that a stolen token is soon useless.

Nodes accept at most 300 s.
"""

REVOCATION_TTL_S = 600.0
"""Lifetime of a wallet's revocation, seconds: a person may take minutes to sign.

A copy of the message is harmless, because it can only revoke.
"""


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
    """Create a signed token (J5, J6).

    Args:
        signer: the session's key.
        entropy: makes the nonce.
        audience: DID that the token is addressed to.
        capabilities: the requested or granted capabilities.
        proofs: cids of the cited delegations.
        expires_at: the end, epoch seconds.
        facts: further statements, such as a hash of the body.
        issuer: DID of the issuer; None: the key's DID URL.
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
    """Sign a SIWE message with a wallet (J4).

    Returns the signed message as a CACAO, encoded as the value of an HTTP header.

    Args:
        wallet: the owner's wallet.
        entropy: makes the nonce.
        domain: authority that the text names, unless the wallet has one of its own.
        uri: DID that the grant is for, or the cid to revoke.
        issued_at: epoch seconds.
        expires_at: epoch seconds; None: never.
        capabilities: the granted capabilities; empty for a revocation.
        parents: cids of the delegations that it depends on.
        resources: further resources of the text.
        statement: a sentence for the person who signs.
    Raises:
        InvalidInput: a capability has caveats, a parent is not a cid, the text contains
            unprintable characters, or another key signed it.
    """
    siwe = SiweMessage(
        domain=wallet.domain if isinstance(wallet, SiteWallet) else domain,
        address=wallet.address,
        chain_id=wallet.chain_id,
        uri=uri,
        # The nonce has the length of other clients' nonces. Nothing depends on its value (C7).
        nonce=entropy.token(9).hex()[:17],
        issued_at=iso_time(issued_at),
        expiration_time=None if expires_at is None else iso_time(expires_at),
        statement=statement,
        resources=tuple(resources),
    )
    has_caveats = any(right.caveats for right in capabilities)
    if has_caveats:  # the message of a wallet cannot carry them (S5)
        raise InvalidInput(
            "a wallet cannot sign a grant with conditions",
            hint="sign the grant with the session's key: leave out `wallet`",
        )
    if capabilities:
        try:
            cids = tuple(_to_base58btc(cid) for cid in parents)
        except CapabilityError as exc:
            raise InvalidInput("every parent must be the id of a delegation") from exc
        siwe = attach(siwe, Recap(attenuations(capabilities), cids))
    text = siwe_text(siwe)
    if not all(line.isprintable() for line in text.split("\n")):
        raise InvalidInput("the sign-in text contains unprintable characters")
    return header_text(encode_cacao(Cacao(siwe, signature_of(wallet, text))))


def _to_base58btc(cid: str) -> str:
    """Convert a CID to base58btc, the encoding of parents in a ReCap (S6)."""
    _, data = libipld.decode_multibase(parse_cid(cid).text())
    text: str = libipld.encode_multibase("z", data)
    return text


def token_cid(token: str) -> str:
    """Return the CID of an encoded token (E6, E7)."""
    return cid_text(digest_of(token.encode("ascii")))


def iso_time(epoch_s: float) -> str:
    """Format a time as ISO 8601 in UTC.

    The text has milliseconds and a final `Z`.
    """
    moment = datetime.fromtimestamp(round(epoch_s, 3), tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


DEFAULT_NETWORK = "default"
SECRETS_SPACE = "secrets"

_MAX_SESSION_BYTES = 8 * 1024 * 1024
# How many missing rights an error names; `NotGranted.missing` contains all.
_MAX_IN_MESSAGE = 4
_MAX_NOTES = 20


@frozen(repr=False)
class Grant:
    """A delegation that a session can cite as proof.

    Use `read_grant` to create one.

    Attributes:
        header: the delegation as text, as it is sent to nodes.
        cid: id of the delegation, computed from the header.
        delegator: DID that signed it.
        delegate: DID of the recipient.
        capabilities: the granted capabilities.
        expires_at: epoch seconds; None: never.
    """

    header: str
    cid: str
    delegator: Principal
    delegate: Principal
    capabilities: tuple[Capability, ...]
    expires_at: float | None

    def is_live(self, now: float) -> bool:
        """Return whether the grant is unexpired at a given time.

        The time is in epoch seconds.
        """
        return self.expires_at is None or now < self.expires_at

    def __repr__(self) -> str:
        return f"Grant({self.cid} to {self.delegate}, {until(self.expires_at)})"


def read_grant(header: str) -> Grant:
    """Parse a delegation token.

    Args:
        header: CACAO or UCAN text, untrusted.
    Raises:
        InvalidPortableDelegation: the text is not a delegation.
    Does not check:
        Signature, time and chain: the node checks them on each use.
    """
    try:
        delegation = parse_delegation(header)
    except CapabilityError as exc:
        raise InvalidPortableDelegation(
            "the delegation cannot be read: its token is damaged"
        ) from exc
    return Grant(
        header=header,
        cid=cid_text(delegation.cid),
        delegator=delegation.delegator,
        delegate=delegation.delegate,
        capabilities=delegation.capabilities,
        expires_at=delegation.expires_at,
    )


def require_recipient(grant: Grant, *ours: str, holder: str = "session") -> None:
    """Check that a grant is for one of the given DIDs.

    Args:
        grant: the grant to check.
        ours: DIDs of the holder, the one to show first.
        holder: the holder in the error message.
    Raises:
        InvalidPortableDelegation: the grant is for another DID.
    """
    if not any(same_principal(grant.delegate, did) for did in ours):
        raise InvalidPortableDelegation(
            f"the delegation is for {grant.delegate}, but this {holder} is {ours[0]}",
            hint=f"ask the owner to delegate to this {holder}'s DID",
        )


@frozen(repr=False)
class Session:
    """A client's signing key and delegations.

    Attributes:
        signer: signs every request; its secret never appears in a text of this object.
        owner: principal that it acts for: the wallet that signed in, or the key itself.
        space: the primary space, or None.
        grants: delegations to the key, the sign-in first.
        node_id: DID of the node where the session was made; None: any node.
        pins: keys of the networks that it has used; see `Encryption.descriptor`.
        seed: the key's secret, 32 bytes, for `encode_session`; None: the session cannot be stored.
        ends_at: when an owner's own key is to be forgotten, epoch seconds. Nodes do not know this
            end; None: a sign-in has its own.
    """

    signer: Ed25519Signer
    owner: Principal
    space: SpaceId | None = None
    grants: tuple[Grant, ...] = ()
    node_id: str | None = None
    pins: tuple[NetworkPin, ...] = ()
    seed: bytes | None = None
    ends_at: int | None = None

    def __repr__(self) -> str:
        held = f"{len(self.grants)} grants, {until(self.expires_at)}"
        return f"Session({self.did} for {self.owner}, {held})"

    @property
    def did(self) -> Principal:
        """The DID of the session's key.

        Others delegate to this DID.
        """
        return Principal(self.signer.did)

    @property
    def expires_at(self) -> float | None:
        """The time when the sign-in expires.

        The time is in epoch seconds. None means no expiry or no sign-in.
        """
        if self.ends_at is not None:
            return self.ends_at
        return self.grants[0].expires_at if self.grants else None

    def own_space(self, name: str) -> SpaceId:
        """Return the id of one of the owner's spaces.

        The space is given by its short name or by its full id.

        Raises:
            InvalidInput: the text is neither a name nor an id.
        """
        return space_of(self.owner, name)

    def chosen_space(self, name: str | None) -> SpaceId:
        """Return the id of the space with the given name.

        Without a name, return the id of the primary space.

        Raises:
            InvalidInput: the text is neither a name nor an id.
            ClientNotReady: there is no primary space.
        """
        if name is not None:
            return self.own_space(name)
        if self.space is None:
            raise ClientNotReady(
                "this session has no primary space",
                hint='name a space, as in `client.kv("notes")`',
                step="specify a space: --space NAME",
            )
        return self.space

    def proofs_for(self, wanted: Sequence[Capability], *, now: float) -> tuple[str, ...]:
        """Return the CIDs of the grants that cover a request.

        Resources that belong to the session's own key need no grant. A single grant that
        covers everything is preferred, in the order of `grants`: the cited grants decide which
        policies apply, and whether the request counts as made by the owner in person.

        Args:
            wanted: the capabilities of the request.
            now: epoch seconds.
        Raises:
            NotGranted: no grant covers some of the capabilities; `missing` has each of them.
            SessionExpired: the grant that covered them has expired.
        """
        dependent = [right for right in wanted if root_of(right.resource) != self.did]
        if not dependent:
            return ()
        live = [grant for grant in self.grants if grant.is_live(now)]
        for grant in live:
            if all(_is_covered(grant, right) for right in dependent):
                return (grant.cid,)
        # What only an expired grant covers is not missing: `_cids_for_each` raises SessionExpired.
        missing = [right for right in dependent if _first_covering(self.grants, right) is None]
        if missing:
            raise _not_granted(missing, owner=self.owner)
        return _cids_for_each(dependent, live)

    def with_grant(self, grant: Grant) -> "Session":
        """Return the session with a grant added.

        Raises:
            InvalidPortableDelegation: the grant is for another key.
        """
        require_recipient(grant, self.did)
        if any(held.cid == grant.cid for held in self.grants):
            return self
        return replace(self, grants=(*self.grants, grant))

    def pin_of(self, network: NetworkId) -> NetworkPin | None:
        """Return the pinned key of an encryption network.

        Returns None if the session has not used the network.
        """
        return next((pin for pin in self.pins if pin.network == network.text), None)

    def with_pin(self, pin: NetworkPin) -> "Session":
        """Return a session that also pins the given network key.

        An earlier key of the same network is replaced.
        """
        if pin in self.pins:
            return self
        others = [held for held in self.pins if held.network != pin.network]
        return replace(self, pins=(*others, pin))


def _not_granted(missing: Sequence[Capability], *, owner: Principal) -> NotGranted:
    """Create the error for missing capabilities; its hint says who can grant them (MF13)."""
    lines = [f"{right.ability} on {right.resource.text}" for right in missing]
    text = "; ".join(lines[:_MAX_IN_MESSAGE])
    if len(lines) > _MAX_IN_MESSAGE:
        text += f"; and {len(lines) - _MAX_IN_MESSAGE} more"
    resource_owners = {root_of(right.resource) or "" for right in missing}  # "": it has no owner
    other_owners = sorted(resource_owners - {owner})
    if other_owners:
        whom = ", ".join(other_owners)
        hint = f"ask {whom} for a delegation that includes the missing rights, and accept it"
        step = f"ask {whom} for a grant, then run: sealspace grant accept FILE"
    else:
        hint = (
            "sign in again with the missing rights: `client.sign_in(wallet,"
            " sign_in_for(client.session, error.missing))`; `from sealspace.apps.escalation import"
            " sign_in_for`"
        )
        step = NotGranted.default_step
    error = NotGranted(
        f"no grant of this session covers {text}", missing=tuple(missing), hint=hint, step=step
    )
    if len(lines) > 1:  # the message alone is enough for a single one
        for line in lines[:_MAX_NOTES]:
            error.add_note(f"missing: {line}")
    return error


def until(expires_at: float | None) -> str:
    """Describe an expiry time in words."""
    if expires_at is None:
        return "without an end"
    try:
        return f"until {iso_time(expires_at)}"
    except (ValueError, OverflowError):  # an unverified token can contain any number
        return "until an impossible time"


def _is_covered(grant: Grant, wanted: Capability) -> bool:
    return any(covers(granted, wanted) for granted in grant.capabilities)


def _cids_for_each(wanted: Iterable[Capability], live: Sequence[Grant]) -> tuple[str, ...]:
    """Return the CIDs of grants that cover capabilities together.

    Raises SessionExpired if no live grant covers one of them.
    """
    cited: dict[str, None] = {}  # without duplicates, in the order of the capabilities
    for right in wanted:
        grant = _first_covering(live, right)
        if grant is None:
            raise SessionExpired("the grant that covers this request has expired")
        cited[grant.cid] = None
    return tuple(cited)


def _first_covering(grants: Iterable[Grant], wanted: Capability) -> Grant | None:
    for grant in grants:
        if _is_covered(grant, wanted):
            return grant
    return None


def key_session(key: Ed25519Signer | bytes, *, grants: Sequence[Grant] = ()) -> Session:
    """Create a session without a wallet.

    The key itself is the owner (`did:key`).

    Args:
        key: a signer, or a 32-byte seed; only a session made from a seed can be stored.
        grants: delegations to this key.
    Raises:
        InvalidInput: the seed is not 32 bytes.
        InvalidPortableDelegation: a grant is for another key.
    """
    seed = key if isinstance(key, bytes) else None
    if seed is not None and len(seed) != 32:
        raise InvalidInput(f"the seed of a key must be 32 bytes long, not {len(seed)}")
    signer = Ed25519Signer(key) if isinstance(key, bytes) else key
    session = Session(signer=signer, owner=Principal(signer.did), seed=seed)
    for grant in grants:
        session = session.with_grant(grant)
    return session


def space_of(owner: str, name: str) -> SpaceId:
    """Return the id of an owner's space.

    The space is given by its short name or by its full id.

    Args:
        owner: DID.
        name: short name, or an id that begins with `tinycloud:`.
    Raises:
        InvalidInput: the owner is not a DID, or the name is neither a name nor an id.
    """
    try:
        if name.startswith("tinycloud:"):
            return parse_space_id(name)
        # Parsing the id checks the short name in it.
        return parse_space_id(SpaceId(parse_principal(owner), name).text)
    except CapabilityError as exc:
        raise InvalidInput(
            f"not a space: {name[:100]}",
            hint="use a short name without spaces or slashes, such as `notes`, or a full id"
            " `tinycloud:…:notes`",
        ) from exc


def network_of_owner(owner: str, name: str = DEFAULT_NETWORK) -> NetworkId:
    """Return the id of an owner's encryption network.

    Args:
        owner: DID; the id contains it in canonical form and without a fragment.
        name: name of the network.
    Raises:
        InvalidNetworkId: the owner is not a DID, or the name is not valid.
    """
    try:
        return network_id(parse_principal(owner), name)
    except CapabilityError as exc:
        raise InvalidNetworkId(f"not an encryption network: {exc.text}") from exc


# --- storing --------------------------------------------------------------------------------------


def encode_session(session: Session) -> bytes:
    """Encode a session as JSON.

    Protect the text like a password: it contains the secret key of the session.

    Raises:
        InvalidSession: the session was made from a signer, whose secret is not available.
    """
    if session.seed is None:
        raise InvalidSession(
            "this session cannot be stored: its private key is not available",
            hint="create the session from a seed instead of a signer",
        )
    value: JsonObject = {
        "v": 2,
        "seed": encode_standard(session.seed),
        "owner": session.owner,
        "space": None if session.space is None else session.space.text,
        "nodeId": session.node_id,
        "networks": pins_json(session.pins),
        "grants": [grant.header for grant in session.grants],
    }
    if session.ends_at is not None:
        value["endsAt"] = session.ends_at
    return canonical_bytes(value)


class _Stored(msgspec.Struct, rename="camel", kw_only=True):
    v: Literal[2]
    seed: str
    owner: str
    # A wrong type is an error, not None: a session without its node could be used at any node.
    space: str | None = None
    node_id: str | None = None
    ends_at: int | None = None
    networks: Any
    grants: list[str]


def decode_session(data: bytes) -> Session:
    """Decode a session from JSON.

    Args:
        data: JSON, untrusted.
    Raises:
        InvalidSession: the data is not a session. The message contains no part of it.
    """
    try:
        stored = shaped(parse_json(data, max_bytes=_MAX_SESSION_BYTES), _Stored)
        seed = decode_standard(stored.seed)
        pins = parse_pins(stored.networks)
        if seed is None or len(seed) != 32 or pins is None:
            raise InvalidSession(
                "the stored session is damaged: its own key or a network's key cannot be read"
            )
        session = Session(
            signer=Ed25519Signer(seed),
            owner=principal_of(stored.owner),
            space=None if stored.space is None else parse_space_id(stored.space),
            node_id=stored.node_id,
            pins=pins,
            seed=seed,
            ends_at=stored.ends_at,
        )
        for header in stored.grants:
            session = session.with_grant(read_grant(header))
        return session
    except (CapabilityError, InvalidPortableDelegation) as exc:
        raise InvalidSession("the stored session is damaged") from exc


def save_session(session: Session, path: str | Path) -> None:
    """Write a session to a file.

    The file has mode 0600. An existing file is replaced atomically.

    Raises:
        InvalidSession: the session cannot be stored.
        OSError: the file cannot be written.
    """
    replace_file(Path(path), encode_session(session))


def load_session(path: str | Path) -> Session:
    """Read a session from a file.

    Raises:
        InvalidSession: the file does not contain a session, or other users can access it.
        OSError: the file cannot be read.
    """
    return decode_session(
        read_key(Path(path), "session file", InvalidSession, most_bytes=_MAX_SESSION_BYTES)
    )
