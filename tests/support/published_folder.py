"""A folder with the files of a backend, as its operator publishes it.

Example:
    folder = PublishedFolder(folder=tmp_path / "published").write(machine)
    measured = measure(read_inputs(folder))
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deviating_log import LogOptions, mint_event_log
from deviating_platform import DomainOptions, SimulatedPlatform
from made_firmware import expected_mrtd, made_firmware
from msgspec import to_builtins

from encryption_network.policy import Measurements
from tee_backend.attestation.event_log import Event

COMPOSE = json.dumps(
    {
        "manifest_version": 2,
        "name": "notes",
        "runner": "docker-compose",
        "docker_compose_file": f"services: {{notes: {{image: 'acme/notes@sha256:{'ab' * 32}'}}}}",
        "allowed_envs": [],
    }
).encode()


def boot_events() -> list[Event]:
    """Return entries of the registers that firmware and kernel write."""
    events = []
    for register, names in enumerate((("hardware", "tables"), ("kernel",), ("line", "initrd"))):
        for name in names:
            digest = hashlib.sha384(name.encode()).hexdigest()
            events.append(
                Event(register=register, event_type=4, digest=digest, name=name, payload_hex="")
            )
    return events


def replayed(events: Sequence[Event], number: int) -> bytes:
    """Return the value of a register after these entries."""
    value = bytes(48)
    for event in events:
        if event.register == number:
            value = hashlib.sha384(value + bytes.fromhex(event.digest)).digest()
    return value


@dataclass
class PublishedFolder:
    """A folder with compose file, answer of the guest agent, and firmware.

    Attributes:
        folder: where it is written.
        compose: app-compose.json.
        log_options: of the event log.
        domain: of the trust domain.
        boot: entries of registers 0 to 2.
        logged_compose: the file that the machine runs; None: the published one.
        mrtd: None: that of the firmware.
    """

    folder: Path
    compose: bytes = COMPOSE
    log_options: LogOptions = field(default_factory=LogOptions)
    domain: DomainOptions | None = None
    boot: list[Event] = field(default_factory=boot_events)
    logged_compose: bytes | None = None
    mrtd: bytes | None = None

    def write(self, machine: SimulatedPlatform) -> Path:
        """Write the files, and return the folder."""
        logged = self.compose if self.logged_compose is None else self.logged_compose
        minted = mint_event_log(hashlib.sha256(logged).digest(), options=self.log_options)
        image = Measurements(
            mrtd=self.mrtd or expected_mrtd(one_pass=False),
            rtmr0=replayed(self.boot, 0),
            rtmr1=replayed(self.boot, 1),
            rtmr2=replayed(self.boot, 2),
        )
        quote = machine.mint_quote(minted.run_on(image), bytes(64), options=self.domain)
        entries = to_builtins([*self.boot, *minted.log.entries])
        answer = {"quote": quote.hex(), "event_log": json.dumps(entries), "report_data": "00"}
        self.folder.mkdir(exist_ok=True)
        (self.folder / "app-compose.json").write_bytes(self.compose)
        (self.folder / "quote.json").write_text(json.dumps(answer))
        (self.folder / "firmware.fd").write_bytes(made_firmware())
        return self.folder
