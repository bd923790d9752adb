"""Refusal of new values that are sealed to a key which is being retired (EN38).

Only envelopes in a space of the network's owner are examined, and only those whose body is in
memory. Large bodies are in files; secrets are small.
"""

from collections.abc import Sequence

import msgspec

from capabilities.capability_errors import InvalidIdentifier
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import same_principal
from capabilities.resources import NetworkId, SpaceId, parse_network_id
from encryption_network.networks import NetworkRecord, decode_network
from spaces.documents.network_rows import network_row_key
from spaces.store.contract import Check, check_of
from spaces.values.value_writes import Write

from ...refusal import Refusal
from ...services import Services
from .sealed_values import NO_ENVELOPE

_REFUSED_STATES = ("retiring", "retired")


class SealedTo(FrozenStruct):
    """The network and the version of the key to which a value is sealed."""

    network: NetworkId
    key_version: int


class _Envelope(msgspec.Struct, rename="camel"):
    network_id: str
    key_version: int


_DECODER = msgspec.json.Decoder(_Envelope)


def sealed_to(data: bytes) -> SealedTo | None:
    """Return the network and the key to which an envelope is sealed.

    Return None for other data. Call this only for values that `sealed_key_of` takes for envelopes:
    it finds them faster.
    """
    try:
        envelope = _DECODER.decode(data)
        network = parse_network_id(envelope.network_id)
    except (msgspec.MsgspecError, InvalidIdentifier, ValueError, RecursionError):
        return None
    return SealedTo(network=network, key_version=envelope.key_version)


async def check_keys(
    services: Services, space: SpaceId, writes: Sequence[Write]
) -> tuple[Check, ...]:
    """Check that no value is sealed to a key of the space's owner that is being retired.

    Returns:
        Conditions that fail the commit if one of the networks has changed.
    Raises:
        Refusal: `key-retiring`.
    """
    stated: dict[NetworkId, set[int]] = {}
    for write in writes:
        # Writes of other values cost nothing, not even a look at their bodies.
        if not write.sealed_key or write.sealed_key == NO_ENVELOPE:
            continue
        if write.body is None or write.body.inline is None:
            continue
        found = sealed_to(write.body.inline)
        if found is not None and same_principal(found.network.owner, space.owner):
            stated.setdefault(found.network, set()).add(found.key_version)
    if not stated:
        return ()
    keys = [network_row_key(network) for network in stated]
    rows = (await services.store.read(keys)).records
    for row, versions in zip(rows, stated.values(), strict=True):
        if row is not None and row.value is not None:
            _check_versions(decode_network(row.value), versions)
    return tuple([check_of(key, row) for key, row in zip(keys, rows, strict=True)])


def _check_versions(record: NetworkRecord, versions: set[int]) -> None:
    for former in record.former_keys:
        if former.key_version in versions and former.state in _REFUSED_STATES:
            raise Refusal("key-retiring", former.key_version, record.key_version)
