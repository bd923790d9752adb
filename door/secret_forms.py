"""Secrets of a door in the forms of its API (DR7, DR8)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from capabilities.strict_base64 import encode_standard
from sealspace.documents.secret_names import SecretName
from sealspace.errors import InvalidInput
from sealspace.session import iso_time
from sealspace.wire.values import KeptVersion

from .door_errors import DoorRefusal, refusal_of
from .mounts import Mount
from .readings import Reading

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MOST_VERSIONS = 10
_NO_CUSTOM: Mapping[str, Any] = {"custom_metadata": None}


def secret_at(mount: Mount, path: str) -> SecretName:
    """Return the secret at a path below a mount.

    Raises:
        DoorRefusal: the path names no secret, or leads out of the mount.
    """
    try:
        return mount.secret_at(path)
    except InvalidInput as error:
        raise refusal_of(error) from None


def number_of(text: str) -> int:
    """Read the number of a version, of at most 12 digits; 0 is the current value.

    Raises:
        DoorRefusal: the text is not such a number.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= 12
    if not is_number:
        raise DoorRefusal(400, "the version is not a number; next: send one, such as version=2")
    return int(text)


def data_of(mount: Mount, secret: SecretName, reading: Reading) -> Mapping[str, Any]:
    """Return a secret in the form of its mount (DR7).

    Raises:
        DoorRefusal: the form is `json`, and the secret is not the text of a JSON object.
    """
    value = reading.secret.value
    if mount.form == "flat":
        return {"value": value if isinstance(value, str) else encode_standard(value)}
    try:
        # Bytes are decoded first. The parser copies the members' values unchecked, so the answer
        # could contain bytes that are not UTF-8.
        text = value if isinstance(value, str) else value.decode()
        return _OBJECT.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DoorRefusal(
            400,
            f"the secret {secret.label} is not the text of a JSON object, but the mount"
            f" {mount.name} has the form json; next: read it at a mount with the form flat",
        ) from None


def warnings_of(reading: Reading) -> tuple[str, ...]:
    """Return the warning of an answer that is stale (DR16)."""
    if reading.age_s is None:
        return ()
    return (f"stale: the node does not answer; this value was read {reading.age_s:.0f} s ago",)


def version_metadata(version: int, created_at: str) -> Mapping[str, Any]:
    """Return the metadata of a version that exists."""
    return {
        "version": version,
        "created_time": created_at,
        "deletion_time": "",
        "destroyed": False,
        **_NO_CUSTOM,
    }


def version_row(version: KeptVersion, *, is_newest: bool) -> Mapping[str, Any]:
    """Return the metadata of a version that the node keeps.

    An older version was replaced, not deleted, so only the newest one can have a time of deletion.
    """
    row = version_metadata(version.version, time_text(version.stored_at))
    is_deleted = is_newest and not version.is_current
    if not is_deleted:
        return row
    return {**row, "deletion_time": time_text(version.replaced_at)}


def version_rows(versions: Sequence[KeptVersion]) -> list[Mapping[str, Any]]:
    """Return the metadata of all versions; the newest comes first, here and in the result."""
    rows = []
    for position, version in enumerate(versions):
        rows.append(version_row(version, is_newest=position == 0))
    return rows


def time_text(at: float | None) -> str:
    """Return a time of the node, in epoch seconds, as RFC 3339 text; None as 1970."""
    return iso_time(at or 0)


def secret_metadata(rows: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the data of `metadata`, from the rows of all versions, the newest first."""
    newest, oldest = rows[0], rows[-1]
    versions = {}
    for row in rows:
        versions[str(row["version"])] = {
            "created_time": row["created_time"],
            "deletion_time": row["deletion_time"],
            "destroyed": row["destroyed"],
        }
    return {
        "cas_required": False,
        "created_time": oldest["created_time"],
        "current_version": newest["version"],
        "delete_version_after": "0s",
        "max_versions": _MOST_VERSIONS,
        "oldest_version": oldest["version"],
        "updated_time": newest["created_time"],
        "versions": versions,
        **_NO_CUSTOM,
    }
