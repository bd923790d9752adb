"""The registry in an owner's account space: which apps and spaces there are, as other clients keep it (MF17, MF18).

    applications/<app_id>   {"app_id","manifests":[…],"manifest_hash","updated_at"}
    spaces/<space id>       {"space_id","name","owner_did","type","permissions":["*"],"status","registered_at",…}

The values of the space are the registry; whatever indexes them is derived.

Example:
    for record in request.registry_records:
        await client.kv("account").put(record.key, app_entry(record, now=clock.now()))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from capabilities.errors import CapabilityError, InvalidIdentifier
from capabilities.resources import SpaceId
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json, parse_json
from encryption_network.canonical_json import canonical_bytes

from ._minting import iso_time
from .errors import InvalidInput
from .manifests import RegistryRecord

APPLICATIONS: Final = "applications/"
SPACES: Final = "spaces/"
MAX_ENTRY_BYTES: Final = 1024 * 1024
_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1


@dataclass(frozen=True, slots=True)
class AppEntry:
    """What a registry says of an app; made by `parse_app_entry`.

    Attributes:
        app_id: the app's id.
        manifests: its manifests, as they were given, unchecked.
        manifest_hash: that of the manifests, as the writer says; "" where it does not.
        updated_at: epoch seconds; None: the writer does not say.
    """

    app_id: str
    manifests: tuple[Json, ...]
    manifest_hash: str
    updated_at: float | None


@dataclass(frozen=True, slots=True)
class SpaceEntry:
    """What a registry says of a space; made by `parse_space_entry`.

    Attributes:
        space_id: full id.
        name: its name.
        owner_did: its owner.
        kind: "owned", "delegated" or "discovered".
        status: "active" or "archived".
        registered_at: epoch seconds; None: the writer does not say.
        updated_at: as registered_at.
        expires_at: when the right to it ends; None: never, or the writer does not say.
    """

    space_id: str
    name: str
    owner_did: str
    kind: str
    status: str
    registered_at: float | None
    updated_at: float | None
    expires_at: float | None


def manifest_hash(manifests: Sequence[Json]) -> str:
    """Return the hash by which other clients see that an app's manifests changed: FNV-1a of 64 bits, 16 hex digits.

    It is taken over the UTF-16 code units of the canonical JSON, each unit as a whole. It is no protection: anybody can
    find other manifests with the same hash.
    """
    text = canonical_bytes(list(manifests)).decode().encode("utf-16-le")
    value = _OFFSET
    for low, high in zip(text[::2], text[1::2], strict=True):
        value = ((value ^ (low | high << 8)) * _PRIME) & _MASK
    return f"{value:016x}"


def app_entry(record: RegistryRecord, *, now: float) -> bytes:
    """Return the value that is stored under `record.key`.

    Args:
        record: of a composed request.
        now: epoch seconds.
    """
    return msgspec.json.encode(
        {
            "app_id": record.app_id,
            "manifests": list(record.manifests),
            "manifest_hash": manifest_hash(record.manifests),
            "updated_at": iso_time(now),
        }
    )


def space_entry(
    space: SpaceId, *, now: float, kind: Literal["owned", "delegated", "discovered"] = "owned"
) -> tuple[str, bytes]:
    """Return key and value of an active space's entry.

    Args:
        space: the space.
        now: epoch seconds.
        kind: whose it is.
    """
    value: dict[str, Json] = {
        "space_id": space.text,
        "name": space.name,
        "owner_did": space.owner,
        "type": kind,
        "permissions": ["*"],
        "status": "active",
        "registered_at": iso_time(now),
        "updated_at": iso_time(now),
    }
    return SPACES + space.text, msgspec.json.encode(value)


def parse_app_entry(key: str, data: bytes) -> AppEntry:
    """Read an app's entry; members may be in either spelling, an id that is missing is that of the key.

    Raises:
        InvalidInput: it is something else.
    """
    value = _entry(key, data)
    manifests = value.get("manifests")
    if not isinstance(manifests, list):
        raise InvalidInput(f"{key[:200]} lists no manifests")
    return AppEntry(
        app_id=_text(value, "app_id", "appId") or key.removeprefix(APPLICATIONS),
        manifests=tuple(manifests),
        manifest_hash=_text(value, "manifest_hash", "manifestHash"),
        updated_at=_time(value, "updated_at", "updatedAt"),
    )


def parse_space_entry(key: str, data: bytes) -> SpaceEntry:
    """Read a space's entry; members may be in either spelling, an id that is missing is that of the key.

    Raises:
        InvalidInput: it is something else.
    """
    value = _entry(key, data)
    return SpaceEntry(
        space_id=_text(value, "space_id", "spaceId") or key.removeprefix(SPACES),
        name=_text(value, "name"),
        owner_did=_text(value, "owner_did", "ownerDid", "owner"),
        kind=_text(value, "type"),
        status=_text(value, "status"),
        registered_at=_time(value, "registered_at", "registeredAt"),
        updated_at=_time(value, "updated_at", "updatedAt"),
        expires_at=_time(value, "expires_at", "expiresAt"),
    )


def _entry(key: str, data: bytes) -> dict[str, Json]:
    try:
        return parse_json(data, max_bytes=MAX_ENTRY_BYTES)
    except CapabilityError as exc:
        raise InvalidInput(f"{key[:200]} is no entry of a registry") from exc


def _text(value: Mapping[str, Json], *spellings: str) -> str:
    return next((text for name in spellings if isinstance(text := value.get(name), str)), "")


def _time(value: Mapping[str, Json], *spellings: str) -> float | None:
    try:
        return parse_rfc3339(_text(value, *spellings))
    except InvalidIdentifier:
        return None
