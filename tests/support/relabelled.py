"""Envelopes as other clients store them without a place, and as attackers move them.

Example:
    await store_unbound(client, "API_KEY", "open sesame")
    await relabel(client, "BANK", "API_KEY", label="changed")
"""

import json
from dataclasses import replace
from typing import Literal

from capabilities.strict_base64 import encode_standard
from encryption_network.envelope import InlineEnvelope, encode_envelope, parse_envelope
from sealspace.client import Client
from sealspace.encryption import envelope_bytes
from sealspace.secrets import parse_secret_label, secret_label
from sealspace.session import SECRETS_SPACE

Label = Literal["changed", "removed"]
LABELS: tuple[Label, ...] = ("changed", "removed")
CREATED_AT = "2026-01-02T03:04:05.678Z"


async def store_unbound(client: Client, label: str, value: str, **members: object) -> None:
    """Store a secret of the client's owner as a client does that knows no places."""
    secret = parse_secret_label(label)
    space = client.kv(SECRETS_SPACE).space
    payload = {"value": value, "createdAt": CREATED_AT, "updatedAt": CREATED_AT, **members}
    envelope = await client.encryption.encrypt(
        json.dumps(payload).encode(),
        network=client.encryption.network(),
        label=secret_label(space, secret),
    )
    await client.kv(SECRETS_SPACE).put(secret.path, envelope_bytes(envelope))


async def relabel(client: Client, source: str, target: str, *, label: Label) -> None:
    """Store the envelope of one secret under the name of another, with a matching or no label."""
    paths = [parse_secret_label(one).path for one in (source, target)]
    await move(client, *paths, label=label)


def relabelled(envelope: InlineEnvelope, client: Client, path: str, label: Label) -> bytes:
    """Return an envelope for another path of the owner's secrets."""
    aad = None
    if label == "changed":
        space = client.kv(SECRETS_SPACE).space
        named = f"tinycloud.vault:{space.text}:{path.removeprefix('vault/')}"
        aad = encode_standard(named.encode())
    return encode_envelope(replace(envelope, aad=aad))


async def move(client: Client, source: str, target: str, *, label: Label) -> None:
    """Store the envelope at one path of the space of secrets at another path."""
    values = client.kv(SECRETS_SPACE)
    envelope = parse_envelope((await values.get(source)).body)
    await values.put(target, relabelled(envelope, client, target, label))
