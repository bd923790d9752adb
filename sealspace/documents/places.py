"""The place of a secret, which is stored inside its sealed plaintext (EN45).

The label beside an envelope is not authenticated (EN22), so a writer of one path could store the
envelope of another secret there. The plaintext therefore states where the secret belongs, and a
reader compares that with where it found the envelope.

    {"owner": "did:pkh:eip155:1:0x…", "space": "tinycloud:pkh:eip155:1:0x…:secrets",
     "path": "vault/secrets/API_KEY", "form": "secret"}

Example:
    place = place_of(client.kv("secrets").space, "vault/secrets/API_KEY")
    require_place(place_json(place), place)  # or PlaceMismatch
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.principals import same_principal
from capabilities.resources import SpaceId, parse_space_id
from capabilities.strict_json import Json, JsonObject, StrictRecord, shaped

from ..errors import InvalidSecretPayload, PlaceMismatch
from .secret_names import SHARED_PREFIX

NOTES_PREFIX = "vault/secrets/notes/"
"""Folder of the owner's notes (EN33)."""
Form = Literal["secret", "note", "copy"]
"""What is stored at a place: a secret, its owner's note, or a copy for a person."""

MAX_RECORDED_BYTES = 2 * 1024 * 1024
"""Largest value whose content key a node records, bytes (RL21)."""

_Text = Annotated[str, Meta(max_length=4096)]


class Place(StrictRecord):
    """Where a sealed value is stored.

    Attributes:
        owner: DID of the space's owner.
        space: id of the space.
        path: path in the space, such as `vault/secrets/NAME`.
        form: kind of what is stored there.
    """

    owner: _Text
    space: _Text
    path: _Text
    form: Form


def place_of(space: SpaceId, path: str) -> Place:
    """Return the place of a secret, of a note, or of a copy for a person."""
    form: Form = "secret"
    if path.startswith(NOTES_PREFIX):
        form = "note"
    elif path.startswith(SHARED_PREFIX):
        form = "copy"
    return Place(owner=space.owner, space=space.text, path=path, form=form)


def place_json(place: Place) -> JsonObject:
    """Return the JSON object of a place, for the plaintext of a secret."""
    return {
        "owner": place.owner,
        "space": place.space,
        "path": place.path,
        "form": place.form,
    }


def require_place(stated: Json, expected: Place) -> None:
    """Check that a plaintext belongs to the place where its envelope was found.

    Args:
        stated: the member `place` of the plaintext, untrusted.
        expected: where the envelope was found.
    Raises:
        PlaceMismatch: the plaintext belongs to another place.
        InvalidSecretPayload: the member is not a place. It never counts as absent.
    """
    try:
        place = shaped(stated, Place)
    except InvalidJson:
        # The cause is left out, because a parser's error may quote the plaintext.
        raise InvalidSecretPayload("the secret does not state a valid place") from None
    is_expected_place = (
        place.form == expected.form
        and place.path == expected.path
        and same_principal(place.owner, expected.owner)
        and _is_same_space(place.space, expected.space)
    )
    if not is_expected_place:
        raise PlaceMismatch(f"the value stored at {expected.path} was sealed for another place")


def why_not_bound(
    paths: Sequence[str | None], space: SpaceId, path: str, *, size_bytes: int
) -> str | None:
    """Return why a value without a place cannot be bound to the path where it is stored (EN48).

    The node records for each content key the paths at which it was stored. A copied envelope has
    the content key of the original, so both paths are recorded. Sealed again with a new content
    key, the copy would count as a value of its own path.

    Args:
        paths: the recorded paths, as from `Encryption.paths_of`; None is a path that the node no
            longer knows.
        space: the space of the value.
        path: path of the value in the space.
        size_bytes: size of the stored envelope. The node records no path of a large one.
    Returns:
        The end of a sentence about the value, which names the other paths. None if the value's own
        path is the only one, or if the value is too large to be recorded.
    """
    folder = f"{space.text}/kv/"
    own_path = folder + path
    is_only_path = list(paths) == [own_path]
    is_too_large_to_record = not paths and size_bytes > MAX_RECORDED_BYTES
    if is_only_path or is_too_large_to_record:
        return None
    other_paths = []
    for recorded_path in paths:
        if recorded_path is None:
            other_paths.append("a path that is unknown now")
        elif recorded_path != own_path:
            other_paths.append(recorded_path.removeprefix(folder))
    elsewhere = " and ".join(other_paths) or "a path that the node did not record"
    return f"was also stored at {elsewhere}, so it may belong there"


def _is_same_space(stated: str, expected: str) -> bool:
    """Compare two ids of spaces; the address of a wallet has several spellings."""
    if stated == expected:
        return True
    try:
        return parse_space_id(stated) == parse_space_id(expected)
    except InvalidIdentifier:
        return False
