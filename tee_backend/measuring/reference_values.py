"""Reference values: what a quote of an application has to show, and where each value comes from.

| source | meaning |
|---|---|
| computed | follows from files that a person can read or build: compose file, firmware |
| image | follows from the image's published description, whose hash the release states |
| replayed | follows from digests that the machine logged: log and quote belong together |
| quoted | stands in the quote, and no file explains it |
| given | stated on the command line |
| not computed | there is no file for it |

Example:
    measured = measure(Inputs(compose=parse_compose(data, file="app-compose.json")))
    for value in measured.values:
        print(value.label, value.text, value.source, value.origin)

Source: spec/attestation.md AT64 to AT66.
"""

import json
from collections.abc import Iterable
from dataclasses import field
from typing import Literal, NamedTuple, get_args

from capabilities.frozen import frozen
from capabilities.strict_json import JsonObject
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS, is_key_source_accepted
from encryption_network.policy import REGISTERS, Measurements, Policy, policy_json

from ..attestation.event_log import Event, event_digest, replay, runtime_entries
from ..attestation.event_log_claims import (
    APP_ID_BYTES,
    SYSTEM_READY,
    EventLogClaims,
    KeyProvider,
)
from .compose_files import ComposeFile
from .firmware import FirmwareMrtd
from .guest_answer import BootRegister, GuestAnswer, check_agrees, replayed_registers
from .image_description import ImageDescription, extended
from .measuring_errors import MeasurementRefused

Source = Literal["computed", "image", "replayed", "quoted", "given", "not computed"]

_SOURCE_WORDS: dict[Source, str] = {"image": "from the image's description"}

_BOOT_REGISTERS = REGISTERS[1:4]

LABELS = {
    "composeHash": "compose hash",
    "appId": "app id",
    "keyProvider": "key provider",
    **{name: name.upper() for name in REGISTERS},
}
"""Name of a value in JSON -> its label for people."""


@frozen(kw_only=True)
class Value:
    """A value that a quote or its event log has to show.

    Attributes:
        name: as in `LABELS`.
        texts: the value in hex, or the key provider; two of MRTD if the host's order of work is not
            known; none if the value is not computed.
        source: where it comes from.
        origin: files and reason, for a person.
    """

    name: str
    texts: tuple[str, ...]
    source: Source
    origin: str

    @property
    def label(self) -> str:
        """The name of the value for a person."""
        return LABELS[self.name]


class MeasuredEvent(NamedTuple):
    """An entry of register 3.

    `source` is "computed" if the payload follows from files.
    """

    name: str
    payload: bytes
    source: Source


@frozen(kw_only=True)
class Inputs:
    """The files and statements from which reference values are computed.

    Attributes:
        compose: the compose file.
        compose_file: its name, for messages.
        answer: a kept answer of a guest agent.
        answer_file: its name.
        mrtd: of the firmware's file.
        firmware_file: its name.
        image: of the image's files; otherwise that of the answer is used.
        app_id: 20 bytes, if a key service set it; None: it follows from the compose file.
        key_provider: the provider that the owner expects.
        instance_id: 20 bytes or empty; None: not known.
        storage: text of the log's entry about storage; None: there is no such entry.
    """

    compose: ComposeFile
    compose_file: str = "app-compose.json"
    answer: GuestAnswer | None = None
    answer_file: str = "quote.json"
    mrtd: FirmwareMrtd | None = None
    firmware_file: str = "firmware.fd"
    image: ImageDescription | None = None
    app_id: bytes | None = None
    key_provider: KeyProvider | None = None
    instance_id: bytes | None = None
    storage: str | None = None


@frozen(kw_only=True)
class Measured:
    """The reference values of an application.

    Attributes:
        compose: the compose file.
        values: in the order of `LABELS`.
        events: entries of RTMR3; empty if they are not known.
        policy: what to approve; None if a part of the code is not known. If `missing` names values
            that are only quoted, the policy contains them.
        os_image_hash: hex of the hash of the image's description; "" without one.
        has_quote: whether the values were compared with a quote. Its signatures were not verified.
        notes: what a person should know.
    """

    compose: ComposeFile
    values: tuple[Value, ...]
    events: tuple[MeasuredEvent, ...] = field(repr=False)
    policy: Policy | None
    os_image_hash: str
    has_quote: bool
    notes: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The labels of values without which the code is not named, or which no file explains."""
        return tuple(
            value.label
            for value in self.values
            if value.source in ("quoted", "not computed") and value.name != "rtmr3"
        )

    @property
    def sources(self) -> str:
        """How many values come from each source, for a person."""
        parts = []
        for source in get_args(Source):
            number = sum(value.source == source for value in self.values)
            if number:
                parts.append(f"{number} {_SOURCE_WORDS.get(source, source)}")
        return ", ".join(parts)

    def value(self, name: str) -> Value:
        """Return the value with a name in `LABELS`."""
        (found,) = (value for value in self.values if value.name == name)
        return found


def measure(inputs: Inputs) -> Measured:
    """Compute what a quote of an application has to show.

    Args:
        inputs: files and statements; the files are untrusted.
    Raises:
        MeasurementRefused: the parts of the answer do not belong together, or are of another
            application, firmware, image or key provider.
    Does not check:
        Signatures of a quote: `Inspector` and the proof kit do.
    """
    answer = inputs.answer or GuestAnswer(quote=None, log=None, image=None, os_image_hash="")
    claims = check_agrees(answer)
    image = inputs.image or answer.image
    events = _events(inputs, answer)
    values = (
        Value(
            name="composeHash",
            texts=(inputs.compose.sha256.hex(),),
            source="computed",
            origin=f"SHA-256 of {inputs.compose_file}",
        ),
        _app_id(inputs, claims),
        _key_provider(inputs, claims),
        _mrtd(inputs, answer, image),
        *_boot_values(inputs, answer, image),
        _rtmr3(inputs, answer, events),
    )
    return Measured(
        compose=inputs.compose,
        values=values,
        events=events,
        policy=_policy(values),
        os_image_hash="" if image is None else image.os_image_hash.hex(),
        has_quote=answer.quote is not None,
        notes=(*inputs.compose.notes, *_notes(values, claims)),
    )


# --- register 3 -----------------------------------------------------------------------------------


def _known_payloads(inputs: Inputs) -> dict[str, bytes]:
    """Return the payloads of log entries that follow from files and statements."""
    payloads = {
        "system-preparing": b"",
        "app-id": inputs.app_id or inputs.compose.sha256[:APP_ID_BYTES],
        "compose-hash": inputs.compose.sha256,
        "boot-mr-done": b"",
        SYSTEM_READY: b"",
    }
    if not inputs.compose.has_instance_id:
        payloads["instance-id"] = b""
    if inputs.instance_id is not None:
        payloads["instance-id"] = inputs.instance_id
    if inputs.key_provider is not None:
        provider = {"name": inputs.key_provider.name, "id": inputs.key_provider.id.hex()}
        payloads["key-provider"] = json.dumps(provider, separators=(",", ":")).encode()
    if inputs.storage is not None:
        payloads["storage-fs"] = inputs.storage.encode()
    return payloads


_ORDER = (
    "system-preparing",
    "app-id",
    "compose-hash",
    "instance-id",
    "boot-mr-done",
    "key-provider",
    "storage-fs",
    SYSTEM_READY,
)
_REQUIRED = frozenset(_ORDER) - {"storage-fs"}


def _events(inputs: Inputs, answer: GuestAnswer) -> tuple[MeasuredEvent, ...]:
    """Return the entries of register 3, and which of them follow from files."""
    known = _known_payloads(inputs)
    if answer.log is None:
        if not known.keys() >= _REQUIRED:
            return ()
        return tuple(
            MeasuredEvent(name=name, payload=known[name], source="computed")
            for name in _ORDER
            if name in known
        )
    events = []
    is_system = True
    for entry in runtime_entries(answer.log):
        source: Source = "replayed"
        if is_system and entry.name in known:
            _check_stated(entry, inputs, known)
            if entry.payload == known[entry.name]:
                source = "computed"
        events.append(MeasuredEvent(name=entry.name, payload=entry.payload, source=source))
        # what follows was written by the application, and may repeat any name (AT21)
        is_system = is_system and entry.name != SYSTEM_READY
    return tuple(events)


def _check_stated(entry: Event, inputs: Inputs, known: dict[str, bytes]) -> None:
    """Refuse an entry that contradicts the compose file or what the owner stated (AT65)."""
    if entry.payload == known[entry.name]:
        return
    if entry.name == "compose-hash":
        raise MeasurementRefused(
            f"the event log is of another compose file: it has the hash {entry.payload.hex()}, but"
            f" {inputs.compose_file} has {inputs.compose.sha256.hex()}",
            problem="log-mismatch",
            hint="use the file that the machine runs, byte for byte; a changed line break changes"
            " the hash",
        )
    stated = {
        "app-id": inputs.app_id,
        "instance-id": inputs.instance_id,
        "storage-fs": inputs.storage,
    }
    if stated.get(entry.name) is not None:
        raise MeasurementRefused(
            f"the event log has another {entry.name} than was stated: {entry.payload.hex()}",
            problem="log-mismatch",
            hint="leave the option out to take the value from the log, or use the right log",
        )


def _app_id(inputs: Inputs, claims: EventLogClaims | None) -> Value:
    computed = inputs.compose.sha256[:APP_ID_BYTES]
    if inputs.app_id is not None:
        return Value(name="appId", texts=(inputs.app_id.hex(),), source="given", origin="--app-id")
    if claims is not None and claims.app_id != computed:
        return Value(
            name="appId",
            texts=(claims.app_id.hex(),),
            source="replayed",
            origin=f"the event log in {inputs.answer_file}; a key service set it",
        )
    return Value(
        name="appId",
        texts=(computed.hex(),),
        source="computed",
        origin="the first 20 bytes of the compose hash",
    )


def _key_provider(inputs: Inputs, claims: EventLogClaims | None) -> Value:
    stated = inputs.key_provider
    if claims is not None:
        if stated is not None and stated != claims.key_provider:
            raise MeasurementRefused(
                f"the event log names the key provider {claims.key_provider.text[:160]}, but"
                f" {stated.text[:160]} was stated",
                problem="log-mismatch",
                hint="find out whose key service it is before you approve it",
            )
        source: Source = "replayed" if stated is None else "given"
        origin = f"the event log in {inputs.answer_file}"
        if stated is not None:
            origin = f"--key-provider, and {origin}"
        return Value(
            name="keyProvider", texts=(claims.key_provider.text,), source=source, origin=origin
        )
    if stated is not None:
        return Value(
            name="keyProvider", texts=(stated.text,), source="given", origin="--key-provider"
        )
    return Value(
        name="keyProvider",
        texts=(),
        source="not computed",
        origin="state the key service that you accept: --key-provider kms:<hex>",
    )


def _rtmr3(inputs: Inputs, answer: GuestAnswer, events: tuple[MeasuredEvent, ...]) -> Value:
    quoted = None if answer.quote is None else answer.quote.report.rtmr3
    if not events:
        if quoted is not None:
            return _quoted("rtmr3", quoted, "there is no event log")
        return Value(
            name="rtmr3",
            texts=(),
            source="not computed",
            origin="needs an event log, or --instance-id and --key-provider",
        )
    register = _replayed_rtmr3(answer, events)
    known = sum(event.source == "computed" for event in events)
    origin = f"{known} of {len(events)} entries follow from {inputs.compose_file} and options"
    if quoted is not None:
        origin += "; equal to the quote"
    elif answer.log is None:
        origin += ", if the image logs exactly these"
    return Value(
        name="rtmr3",
        texts=(register.hex(),),
        source="computed" if known == len(events) else "replayed",
        origin=origin,
    )


def _replayed_rtmr3(answer: GuestAnswer, events: tuple[MeasuredEvent, ...]) -> bytes:
    if answer.log is not None:  # its entries may have digests of either version
        return replay(runtime_entries(answer.log))
    return extended(event_digest(event.name, event.payload) for event in events)


# --- registers of the image -----------------------------------------------------------------------


def _quoted(name: str, value: bytes, why: str) -> Value:
    return Value(
        name=name,
        texts=(value.hex(),),
        source="quoted",
        origin=f"as the quote states it: {why}",
    )


def _mrtd(inputs: Inputs, answer: GuestAnswer, image: ImageDescription | None) -> Value:
    """Return MRTD, from the firmware or the image's description."""
    quoted = None if answer.quote is None else answer.quote.report.mrtd
    possible: dict[Source, FirmwareMrtd] = {}
    if image is not None:
        possible["image"] = image.mrtd
    if inputs.mrtd is not None:
        possible["computed"] = inputs.mrtd
    if not possible:
        if quoted is not None:
            return _quoted("mrtd", quoted, "name the firmware to compute it")
        return Value(
            name="mrtd",
            texts=(),
            source="not computed",
            origin="needs the firmware's file, or the image's description",
        )
    if len(possible) == 2 and possible["image"] != possible["computed"]:
        raise _other_firmware(
            f"{inputs.firmware_file} has another MRTD than the image's description"
        )
    source: Source = "computed" if inputs.mrtd is not None else "image"
    origin = inputs.firmware_file if source == "computed" else "the image's description"
    both = possible[source]
    if quoted is None:
        return Value(
            name="mrtd",
            texts=tuple(dict.fromkeys(value.hex() for value in both)),
            source=source,
            origin=f"{origin}; which of two values depends on the host's QEMU",
        )
    if quoted not in both:
        raise _other_firmware(
            f"the quote has MRTD {quoted.hex()}, but {origin} gives {both.one_pass.hex()} or"
            f" {both.two_pass.hex()}"
        )
    order = "page by page" if quoted == both.one_pass else "pages first, then contents"
    return Value(
        name="mrtd",
        texts=(quoted.hex(),),
        source=source,
        origin=f"{origin} ({order}); equal to the quote",
    )


def _boot_values(
    inputs: Inputs, answer: GuestAnswer, image: ImageDescription | None
) -> tuple[Value, ...]:
    """Return RTMR0 to RTMR2."""
    registers = {} if answer.log is None else replayed_registers(answer.log)
    described: dict[int, bytes] = {}
    if image is not None:
        described = {1: image.rtmr1, 2: image.rtmr2}
    values = []
    for number in range(3):
        name = f"rtmr{number}"
        quoted: bytes | None = None
        if answer.quote is not None:
            quoted = getattr(answer.quote.report, name)
        register = registers.get(number)
        if number in described:
            values.append(_described(name, described[number], quoted, register))
        elif register is not None:
            values.append(_replayed(name, register, inputs, is_quoted=quoted is not None))
        elif quoted is not None:
            values.append(_quoted(name, quoted, "the event log has no entries of it"))
        else:
            values.append(
                Value(
                    name=name,
                    texts=(),
                    source="not computed",
                    origin="needs an event log, which is replayed, or the image's description",
                )
            )
    return tuple(values)


def _described(
    name: str, value: bytes, quoted: bytes | None, register: BootRegister | None
) -> Value:
    """Return a register that follows from the image's description."""
    found = quoted
    if found is None and register is not None:
        found = register.value
    if found is not None and found != value:
        raise _other_firmware(
            f"{name.upper()} is {found.hex()}, but the image's description gives {value.hex()}"
        )
    origin = "the image's description"
    if quoted is not None:
        origin += "; equal to the quote"
    return Value(name=name, texts=(value.hex(),), source="image", origin=origin)


def _replayed(name: str, register: BootRegister, inputs: Inputs, *, is_quoted: bool) -> Value:
    origin = f"{register.entries} entries of the event log in {inputs.answer_file}"
    if is_quoted:
        origin += "; equal to the quote"
    return Value(name=name, texts=(register.value.hex(),), source="replayed", origin=origin)


def _other_firmware(why: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the machine runs another image: {why}",
        problem="firmware",
        hint="find out which release the machine runs; approve it only if you know that release",
    )


# --- what to approve ------------------------------------------------------------------------------


def _policy(values: tuple[Value, ...]) -> Policy | None:
    """Return a policy that names all code, or None if a part of it is not known (AT66)."""
    texts = {value.name: value.texts for value in values}
    image = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
    if not all(texts[name] for name in ("appId", "keyProvider", *image)):
        return None
    rtmr0, rtmr1, rtmr2 = (bytes.fromhex(texts[name][0]) for name in image[1:])
    return Policy(
        measurements=tuple(
            Measurements(mrtd=bytes.fromhex(mrtd), rtmr0=rtmr0, rtmr1=rtmr1, rtmr2=rtmr2)
            for mrtd in texts["mrtd"]
        ),
        compose_hashes=(bytes.fromhex(texts["composeHash"][0]),),
        app_ids=(bytes.fromhex(texts["appId"][0]),),
        key_providers=texts["keyProvider"],
    )


def _notes(values: tuple[Value, ...], claims: EventLogClaims | None) -> tuple[str, ...]:
    """Return what a person should know about the values."""
    notes = []
    replayed = _labels(
        value for value in values if value.source == "replayed" and value.name in _BOOT_REGISTERS
    )
    if replayed:
        notes.append(
            f"{replayed}: replayed from digests that the machine wrote. They show that log and"
            " quote belong together, not which image it is: compare them with a release"
        )
    quoted = _labels(value for value in values if value.source == "quoted")
    if quoted:
        notes.append(f"{quoted}: taken from the quote, because no file explains it")
    (provider,) = (value for value in values if value.name == "keyProvider")
    for text in provider.texts:
        if not is_key_source_accepted(text, DEFAULT_KEY_PROVIDERS):
            notes.append(
                f"nodes refuse the key provider {text[:80]} unless their operator lists it"
            )
    if claims is not None and claims.init_script_hashes:
        notes.append("the application has init scripts, whose hashes are in the log")
    return tuple(notes)


def _labels(values: Iterable[Value]) -> str:
    return ", ".join(value.label for value in values)


def measured_json(measured: Measured) -> JsonObject:
    """Return reference values as JSON.

    `sealspace backend grant --like` reads the member `policy`. It is null if a value is known only
    from the quote; the member `unexplainedPolicy` then has the policy with these values.
    """
    policy = None if measured.policy is None else policy_json(measured.policy)
    values: list[JsonObject] = []
    for value in measured.values:
        values.append(
            {
                "name": value.name,
                "values": list(value.texts),
                "source": value.source,
                "origin": value.origin,
            }
        )
    events: list[JsonObject] = []
    for event in measured.events:
        events.append({"name": event.name, "payload": event.payload.hex(), "source": event.source})
    return {
        "type": "sealspace.reference-values/v1",
        **code_json(measured.compose, measured.os_image_hash),
        "values": [*values],
        "events": [*events],
        "comparedWithQuote": measured.has_quote,
        "notes": list(measured.notes),
        "missing": list(measured.missing),
        # what no file explains is never approved without asking (AT66)
        "policy": None if measured.missing else policy,
        "unexplainedPolicy": policy if measured.missing else None,
    }


def code_json(compose: ComposeFile, os_image_hash: str = "") -> JsonObject:
    """Return the names of an application's code as JSON.

    Args:
        compose: the compose file.
        os_image_hash: hex of the hash of the image's description; "" without one.
    """
    images: list[JsonObject] = []
    for image in compose.images:
        images.append(
            {
                "service": image.service,
                "reference": image.reference,
                "publisher": image.publisher,
            }
        )
    return {"name": compose.name, "images": [*images], "osImageHash": os_image_hash or None}
