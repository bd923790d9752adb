"""Values that a writer of the path stored under the name of a secret.

Sealing needs only a network's public key, and the label of an envelope is not authenticated, so
these need no right to read.

Example:
    await copy(owner, parse_secret_name("OTHER"), parse_secret_name("API_KEY"))
    await put_unbound(owner, parse_secret_name("OLD"), "sealed by an earlier version")
"""

import json
from collections.abc import Mapping
from dataclasses import replace

from capabilities.strict_json import Json
from sealspace.client import Client
from sealspace.documents.places import place_of
from sealspace.documents.secret_payloads import secret_payload
from sealspace.encryption import envelope_bytes
from sealspace.secrets import SecretName


async def copy(client: Client, source: SecretName, target: SecretName) -> None:
    """Store the envelope of one secret under the name of another, without its label."""
    stored = await client.secrets().envelope(source.name, scope=source.scope)
    body = envelope_bytes(replace(stored, aad=None))
    await client.kv("secrets").put(target.path, body)


async def put_for(
    client: Client, source: SecretName, target: SecretName, value: str, *, network: str = "default"
) -> None:
    """Store a value that states the place of one secret under the name of another.

    Its content key is new, so the node does not recognise a copy.
    """
    place = place_of(client.kv("secrets").space, source.path)
    envelope = await client.encryption.encrypt(
        secret_payload(value, place=place, now=0.0), network=client.encryption.network(network)
    )
    await client.kv("secrets").put(target.path, envelope_bytes(envelope))


async def put_unbound(
    client: Client,
    target: SecretName,
    value: str,
    *,
    network: str = "default",
    **members: Mapping[str, Json],
) -> None:
    """Store a value that does not state its place, as clients did that know no places."""
    plaintext = {"value": value, "createdAt": "", "updatedAt": "", **members}
    envelope = await client.encryption.encrypt(
        json.dumps(plaintext).encode(), network=client.encryption.network(network)
    )
    await client.kv("secrets").put(target.path, envelope_bytes(envelope))
