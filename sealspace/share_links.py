"""Share links: a delegation together with the key that it is for, as other clients of the protocol write them (MF19).

    tc1:<base64url of {"key","keyDid","delegation","path","host","spaceId","version":1}>

Whoever has the link has the key: keep it as you would keep a password, and hand it to one person.

Example:
    link = decode_share_link(text)  # "https://app.example/share/tc1:eyJr…"
    async with Client(link.portable.host, session=link.session()) as client:
        print((await client.kv(link.portable.space_id).get(link.path)).body)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import msgspec

from capabilities.errors import CapabilityError
from capabilities.principals import ed25519_public_key, same_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.strict_json import Json, parse_json

from ._minting import iso_time
from .errors import InvalidInput, InvalidPortableDelegation
from .portable import MAX_PORTABLE_BYTES, PortableDelegation, decode_portable, grant_of
from .session import Session, key_session

SCHEME: Final = "tc1:"
_LINK: Final = re.compile(r"(?:^|/share/|[?&]share=)tc1:([A-Za-z0-9_-]+)(?=[&#]|$)")
_HINT: Final = "copy the whole link; if it stays, ask for a new one"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ShareLink:
    """A delegation and the key that it is for; made by `decode_share_link`.

    Attributes:
        seed: the key's secret, 32 bytes.
        portable: the delegation, checked against its token.
        path: what is shared, a raw path of the space `portable.space_id`.
    """

    seed: bytes
    portable: PortableDelegation
    path: str

    def __repr__(self) -> str:
        return f"ShareLink({self.path} of {self.portable.space_id}, {self.portable.cid})"

    def session(self) -> Session:
        """Return the session that the link allows: the key with the delegation."""
        return key_session(self.seed, grants=[grant_of(self.portable, now=0.0)])


def decode_share_link(text: str) -> ShareLink:
    """Read a link: bare, at the end of an address below `/share/`, or in its query as `share`.

    Args:
        text: untrusted.
    Raises:
        InvalidPortableDelegation: it is none, or key, delegation and token do not belong together. The message holds no
            part of the key.
    Does not check:
        Whether it has ended or was revoked: the node does, when it is used.
    """
    found = _LINK.search(unquote(text.strip())) if len(text) <= 2 * MAX_PORTABLE_BYTES else None
    data = None if found is None else decode_url(found[1])
    if data is None:
        raise _wrong("is no share link")
    try:
        value = parse_json(data, max_bytes=MAX_PORTABLE_BYTES)
    except CapabilityError:
        raise _wrong("holds no JSON object") from None  # the cause could quote the key
    if value.get("version") != 1:
        raise _wrong("is of another version")
    seed = _seed(value.get("key"))
    delegation, path = value.get("delegation"), value.get("path")
    if not isinstance(delegation, dict) or not isinstance(path, str):
        raise _wrong("lacks its delegation or its path")
    portable = decode_portable(msgspec.json.encode(_as_portable(delegation, value.get("host"))))
    grant_of(portable, now=0.0)
    did = Ed25519Signer(seed).did
    if value.get("keyDid") != did or not same_principal(portable.delegate_did, did):
        raise _wrong("holds a delegation for another key")
    return ShareLink(seed=seed, portable=portable, path=path)


def encode_share_link(seed: bytes, portable: PortableDelegation, *, now: float) -> str:
    """Write the bare link of a delegation to a key that was drawn for it; it begins with `tc1:`.

    Args:
        seed: of the key, 32 bytes; used for nothing else.
        portable: a delegation of one resource to this key.
        now: epoch seconds.
    Raises:
        InvalidInput: the seed has another length, or the delegation is for another key, or about several resources.
    """
    signer = Ed25519Signer(seed) if len(seed) == 32 else None
    if signer is None or not same_principal(portable.delegate_did, signer.did):
        raise InvalidInput(
            "a share link holds the key that its delegation is for", hint="delegate to the new key's DID"
        )
    if len(portable.resources) != 1 or portable.expires_at is None:
        raise InvalidInput(
            "a share link is about one resource, for a time",
            hint="grant one path; other clients read no more of a link",
        )
    shared = portable.resources[0]
    delegation: dict[str, Json] = {
        "cid": portable.cid,
        "delegateDID": signer.did,
        "spaceId": shared.space,
        "path": shared.path,
        "actions": list(shared.actions),
        "expiry": iso_time(portable.expires_at),
        "isRevoked": False,
        "authHeader": portable.header,
        "allowSubDelegation": portable.sub_delegation,
        "createdAt": iso_time(now),
    }
    value: dict[str, Json] = {
        "key": {"kty": "OKP", "crv": "Ed25519", "x": encode_url(_public_key(signer)), "d": encode_url(seed)},
        "keyDid": signer.did,
        "delegation": delegation,
        "path": shared.path,
        "host": portable.host,
        "spaceId": shared.space,
        "version": 1,
    }
    return SCHEME + encode_url(msgspec.json.encode(value))


def _as_portable(delegation: Mapping[str, Json], host: Json) -> dict[str, Json]:
    """Return the delegation of a link as the portable form, which is read strictly."""
    space = delegation.get("spaceId")
    owner = space.removeprefix("tinycloud:").rpartition(":")[0] if isinstance(space, str) else ""
    return {
        **delegation,
        "delegationHeader": {"Authorization": delegation.get("authHeader")},
        "ownerDID": f"did:{owner}",
        "host": host,
    }


def _seed(key: Json) -> bytes:
    """Return the secret of a JWK; its public half has to belong to it."""
    members: Mapping[str, Json] = key if isinstance(key, dict) else {}
    seed = decode_url(members.get("d"))
    if members.get("kty") != "OKP" or members.get("crv") != "Ed25519" or seed is None or len(seed) != 32:
        raise _wrong("holds no Ed25519 key")
    if members.get("x") != encode_url(_public_key(Ed25519Signer(seed))):
        raise _wrong("holds two halves of different keys")
    return seed


def _public_key(signer: Ed25519Signer) -> bytes:
    return ed25519_public_key(signer.did) or b""


def _wrong(what: str) -> InvalidPortableDelegation:
    return InvalidPortableDelegation(f"the share link {what}", hint=_HINT)
