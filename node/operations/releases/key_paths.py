"""The paths that stored a content key, for the owner of the network (RL23).

A content key encrypts one value or several. The node records at most two paths of values that were
stored with it, as the keys of their rows.
"""

from collections.abc import Sequence

from msgspec import Struct

from capabilities.abilities import DECRYPT
from capabilities.resources import NetworkId
from capabilities.strict_base64 import decode_url
from capabilities.tokens import Invocation
from encryption_network.content_keys import content_key_digest
from encryption_network.networks import NetworkRecord
from spaces.documents.network_rows import network_row_key
from spaces.grants.hosting import space_of
from spaces.keyspace import SPACE16_IN_KEY, VALUE_PREFIX_BYTES, VALUES_PREFIX, space_key
from spaces.store.contract import Record, read_row
from spaces.values.key_places import key_places_of
from spaces.values.value_heads import head_of

from ...refusal import Refusal
from ...services import Services
from ..authorise import read_call
from ..owner_authority import decide_owner_authority
from ..values.stored_keys import places_row_key
from .network_reading import admitted_reader, known_network

MOST_WRAPPED_BYTES = 256
"""The longest wrapped key in a request; a wrapped content key has 93 bytes."""


class KeyPathsAnswer(Struct):
    """The paths that stored a content key, the first one first.

    There are at most two. A path is null if it has more than 400 bytes and its value was deleted:
    the node then knows only its hash.
    """

    paths: tuple[str | None, ...]


async def read_key_paths(
    services: Services, header: str, *, path_id: str, key: str
) -> KeyPathsAnswer:
    """Return the paths that stored the content key which a wrapped key contains (RL23).

    Only the owner in person learns it. The answer has no path if this network cannot open the
    wrapped key, or if no value was stored with it.

    Args:
        header: untrusted text of the `Authorization` header: a UCAN to this node whose only
            capability is `tinycloud.encryption/decrypt` on the network.
        path_id: network id of the path, percent-decoded once.
        key: untrusted base64url of the wrapped key, without padding.

    Raises:
        Errors of `admitted_reader` and `read_call`.
        Refusal: `request-malformed`, the wrapped key is not base64url of 1 to MOST_WRAPPED_BYTES
            bytes; `network-unknown`, the node has no such network; `session-not-bound`, the token
            has facts; `policy-not-in-person`, the caller is not the owner in person.
        SpaceError: the store does not answer, or a row does not decode.
    """
    invocation, network = admitted_reader(services, header, path_id, DECRYPT)
    if invocation.facts:  # a decrypt request has one, and must not serve here (T12)
        raise Refusal("session-not-bound", hint="sign a token without facts for this request")
    wrapped_key = _parse_wrapped_key(key)
    network_record = await _network_of_owner(services, invocation, network)
    # The request names no version of the network's key, so each of them is tried.
    digest = content_key_digest(network_record, wrapped_key, services.keyring, key_version=None)
    if digest is None:  # no key of this network opens it, so no path was recorded for it (RL21)
        return KeyPathsAnswer(paths=())
    places = key_places_of(await read_row(services.store, places_row_key(network, digest)))
    if places is None:
        return KeyPathsAnswer(paths=())
    return KeyPathsAnswer(paths=await _read_resources(services, places.value_keys))


async def _network_of_owner(
    services: Services, invocation: Invocation, network: NetworkId
) -> NetworkRecord:
    """Authorise the invocation, and return the network's record if its owner calls in person.

    Raises:
        Errors of `read_call`.
        Refusal: `network-unknown`; `policy-not-in-person`.
    """
    call = await read_call(services, invocation, keys=(network_row_key(network),))
    network_row = call.records[0]  # the only row that was requested
    network_record = known_network(network_row)
    authority = await decide_owner_authority(services, call, network_record.owner)
    if authority.in_person is None:
        raise Refusal(
            "policy-not-in-person", hint="sign in with the owner's wallet and ask from that session"
        )
    return network_record


def _parse_wrapped_key(text: str) -> bytes:
    """Decode the wrapped key of a request, 1 to MOST_WRAPPED_BYTES bytes.

    Raises:
        Refusal: `request-malformed`, not base64url, empty or too long.
    """
    wrapped_key = decode_url(text) if len(text) <= 2 * MOST_WRAPPED_BYTES else None
    if wrapped_key is None or not 0 < len(wrapped_key) <= MOST_WRAPPED_BYTES:
        raise Refusal(
            "request-malformed",
            hint="pass the wrapped key of an envelope as `key`, in base64url without padding",
        )
    return wrapped_key


async def _read_resources(
    services: Services, value_keys: Sequence[bytes]
) -> tuple[str | None, ...]:
    """Return the resources of values, in the order of the keys of their rows.

    A resource is None if its path is not known (see `KeyPathsAnswer`), or if its space is not
    hosted any more.
    """
    space_keys = [space_key(key[SPACE16_IN_KEY]) for key in value_keys]
    records = (await services.store.read([*value_keys, *space_keys])).records
    value_records = records[: len(value_keys)]
    space_records = records[len(value_keys) :]
    resources: list[str | None] = []
    for key, value_record, space_record in zip(
        value_keys, value_records, space_records, strict=True
    ):
        hosted = space_of(space_record)
        path = _path_of(key, value_record)
        if hosted is None or path is None:
            resources.append(None)
        else:
            resources.append(f"{hosted.space.text}/kv/{path}")
    return tuple(resources)


def _path_of(key: bytes, record: Record | None) -> str | None:
    """Return the path of a value; None if it is long and the value was deleted.

    Bytes that are not UTF-8 are replaced, since JSON cannot contain them.
    """
    is_short_path = key[:1] == VALUES_PREFIX
    if is_short_path:
        return key[VALUE_PREFIX_BYTES:].decode("utf-8", "replace")
    # The key of a long path has its hash, and the row has the path.
    head = head_of(record, key=key)
    return None if head is None else head.path.encode("utf-8", "replace").decode()
