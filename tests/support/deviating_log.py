"""Event logs of a simulated trust domain with chosen deviations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import UNSET

from tee_backend.attestation.event_log import (
    RUNTIME_EVENT_TYPE,
    RUNTIME_REGISTER,
    Event,
    EventLog,
    EventVersion,
    event_digest,
    event_preimage,
    replay,
)
from tee_backend.attestation.event_log_claims import APP_ID_BYTES, KeyProvider
from tee_backend.evidence.simulated import SIMULATED_KEY_PROVIDER, MintedLog


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """The deviations of a log from an ordinary one.

    Attributes:
        instance_id: 20 bytes, or empty.
        key_provider: the stated provider of the keys.
        os_image_hash: 32 bytes; None leaves the entry out.
        gpu_policy_hash: 32 bytes; None leaves the entry out.
        init_script_hashes: 32 bytes each.
        storage: text of the storage-fs entry; None leaves it out.
        version: which digests the entries have; with version 2 each carries its preimage.
        gives_digests: False leaves the digests empty, as newer agents do.
        by_application: names and payloads that follow system-ready.
    """

    instance_id: bytes = bytes(range(20))
    key_provider: KeyProvider = SIMULATED_KEY_PROVIDER
    os_image_hash: bytes | None = None
    gpu_policy_hash: bytes | None = None
    init_script_hashes: Sequence[bytes] = ()
    storage: str | None = "zfs"
    version: EventVersion = 1
    gives_digests: bool = True
    by_application: Sequence[tuple[str, bytes]] = ()


def text_of(minted: MintedLog) -> str:
    """Return a log as the JSON text of guest agents."""
    return json.dumps(minted.log.to_json(), separators=(",", ":"))


def mint_event_log(
    compose_hash: bytes, app_id: bytes | None = None, *, options: LogOptions | None = None
) -> MintedLog:
    """Write the log of an application that started normally.

    Args:
        compose_hash: 32 bytes.
        app_id: 20 bytes; None: the first 20 of the compose hash, as on platforms without a
            configured id.
        options: deviations from an ordinary log.
    """
    options = options or LogOptions()
    app_id = compose_hash[:APP_ID_BYTES] if app_id is None else app_id
    return mint_log_of(
        [*_system_entries(compose_hash, app_id, options), *options.by_application], options=options
    )


def mint_log_of(
    entries: Sequence[tuple[str, bytes]], *, options: LogOptions | None = None
) -> MintedLog:
    """Write a log of these names and payloads, whatever their contents.

    Args:
        entries: names and payloads.
        options: of which the form of the entries is taken.
    """
    options = options or LogOptions()
    events = tuple(_event(name, payload, options) for name, payload in entries)
    return MintedLog(EventLog(events), replay(events))


def _system_entries(
    compose_hash: bytes, app_id: bytes, options: LogOptions
) -> list[tuple[str, bytes]]:
    provider = {"name": options.key_provider.name, "id": options.key_provider.id.hex()}
    optional: list[tuple[str, bytes | None]] = [
        ("system-preparing", b""),
        ("app-id", app_id),
        ("compose-hash", compose_hash),
        *(("init-script-hash", digest) for digest in options.init_script_hashes),
        ("gpu-policy-hash", options.gpu_policy_hash),
        ("instance-id", options.instance_id),
        ("boot-mr-done", b""),
        ("os-image-hash", options.os_image_hash),
        ("key-provider", json.dumps(provider, separators=(",", ":")).encode()),
        ("storage-fs", None if options.storage is None else options.storage.encode()),
        ("system-ready", b""),
    ]
    return [(name, payload) for name, payload in optional if payload is not None]


def _event(name: str, payload: bytes, options: LogOptions) -> Event:
    preimage = event_preimage(name, payload, version=options.version)
    digest = (
        event_digest(name, payload, version=options.version).hex() if options.gives_digests else ""
    )
    return Event(
        RUNTIME_REGISTER,
        RUNTIME_EVENT_TYPE,
        digest,
        name,
        payload.hex(),
        version=options.version,
        preimage=preimage.hex() if options.version == 2 else UNSET,
    )
