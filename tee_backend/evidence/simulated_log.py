"""Event logs of a simulated trust domain, and the register that fits them.

Example:
    minted = mint_event_log(compose_hash)
    quote = platform.mint_quote(minted.run_on(measurements_of("image")), report_data)
    claims = verify_event_log(minted.log, parse_quote(quote).report)

Source: the dstack guest agent's event log, version 1 and 2.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from encryption_network.policy import Measurements

from ..attestation.application import APP_ID_BYTES, KeyProvider
from ..attestation.event_log import RUNTIME_EVENT_TYPE, RUNTIME_REGISTER, Event, EventLog, event_digest, replay

SIMULATED_KEY_PROVIDER: Final = KeyProvider("kms", b"simulated key service")


@dataclass(frozen=True, slots=True)
class MintedLog:
    """A log and the value that RTMR3 has after it.

    Attributes:
        log: the entries.
        rtmr3: 48 bytes.
    """

    log: EventLog
    rtmr3: bytes

    @property
    def text(self) -> str:
        """The log as JSON text, as guest agents return it."""
        return json.dumps(self.log.to_json(), separators=(",", ":"))

    def run_on(self, image: Measurements) -> Measurements:
        """Return the measurements of an image on which this log was written."""
        return replace(image, rtmr3=self.rtmr3)


def mint_event_log(compose_hash: bytes) -> MintedLog:
    """Write the log of an application that started in order, on a platform without a configured id.

    Args:
        compose_hash: 32 bytes.
    """
    provider = {"name": SIMULATED_KEY_PROVIDER.name, "id": SIMULATED_KEY_PROVIDER.id.hex()}
    return mint_log_of(
        [
            ("system-preparing", b""),
            ("app-id", compose_hash[:APP_ID_BYTES]),
            ("compose-hash", compose_hash),
            ("instance-id", bytes(range(20))),
            ("boot-mr-done", b""),
            ("key-provider", json.dumps(provider, separators=(",", ":")).encode()),
            ("storage-fs", b"zfs"),
            ("system-ready", b""),
        ]
    )


def mint_log_of(entries: Sequence[tuple[str, bytes]]) -> MintedLog:
    """Write a log of these names and payloads, whatever their contents."""
    events = tuple(
        Event(
            register=RUNTIME_REGISTER,
            event_type=RUNTIME_EVENT_TYPE,
            name=name,
            payload=payload,
            supplied_digest=event_digest(name, payload, version=1),
            supplied_preimage=None,
            version=1,
        )
        for name, payload in entries
    )
    return MintedLog(EventLog(events), replay(events))
