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

from ..attestation.event_log import Event, EventLog, event_digest, replay, runtime_entries
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
        name: a key of `LABELS`.
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
        compose_file: name of the compose file, for messages.
        answer: a kept answer of a guest agent.
        answer_file: name of the file with the answer.
        mrtd: MRTD of the firmware's file.
        firmware_file: name of the firmware's file.
        image: description from the image's files; None: the one in the answer is used.
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
        values: reference values, in the order of `LABELS`.
        events: entries of RTMR3; empty if they are not known.
        policy: the policy to approve; None if a part of the code is not known. If `missing` names
            values that are only quoted, the policy contains them.
        os_image_hash: hex of the hash of the image's description; "" without one.
        has_quote: whether the values were compared with a quote. Its signatures were not verified.
        notes: notes on what a person should know.
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
        (named_value,) = (value for value in self.values if value.name == name)
        return named_value


def measure(inputs: Inputs) -> Measured:
    """Compute what a quote of an application has to show.

    Args:
        inputs: files and statements; the files are untrusted.
    Raises:
        MeasurementRefused: the parts of the answer contradict each other, or they contradict the
            compose file, the firmware, the image's description or the expected key provider.
    Does not check:
        Signatures of a quote: `Inspector` and the proof kit do.
    """
    answer = inputs.answer or GuestAnswer(quote=None, log=None, image=None, os_image_hash="")
    claims = check_agrees(answer)
    image = inputs.image or answer.image
    events = _measured_events(inputs, answer.log)
    values = (
        Value(
            name="composeHash",
            texts=(inputs.compose.sha256.hex(),),
            source="computed",
            origin=f"SHA-256 of {inputs.compose_file}",
        ),
        _app_id_value(inputs, claims),
        _key_provider_value(inputs, claims),
        _mrtd_value(inputs, answer, image),
        *_boot_values(inputs, answer, image),
        _rtmr3_value(inputs, answer, events),
    )
    return Measured(
        compose=inputs.compose,
        values=values,
        events=events,
        policy=_policy_for(values),
        os_image_hash="" if image is None else image.os_image_hash.hex(),
        has_quote=answer.quote is not None,
        notes=(*inputs.compose.notes, *_notes(values, claims)),
    )


def _unknown_value(name: str, needed: str) -> Value:
    """Return a value without a text, and what a person has to add to get it."""
    return Value(name=name, texts=(), source="not computed", origin=needed)


def _quoted_value(name: str, register: bytes, reason: str) -> Value:
    """Return a register that only the quote states, and why no file explains it."""
    return Value(
        name=name,
        texts=(register.hex(),),
        source="quoted",
        origin=f"as the quote states it: {reason}",
    )


# --- register 3 -----------------------------------------------------------------------------------


def _default_app_id(compose: ComposeFile) -> bytes:
    """Return the app id of an application for which no key service set another one."""
    return compose.sha256[:APP_ID_BYTES]


def _expected_payloads(inputs: Inputs) -> dict[str, bytes]:
    """Return the payloads that follow from files and statements, by the name of the log entry.

    Entries whose payload does not follow from them are left out.
    """
    payloads = {
        "system-preparing": b"",
        "app-id": inputs.app_id or _default_app_id(inputs.compose),
        "compose-hash": inputs.compose.sha256,
        "boot-mr-done": b"",
        SYSTEM_READY: b"",
    }
    # An instance id that is stated takes precedence over a compose file that turns instance ids
    # off.
    if inputs.instance_id is not None:
        payloads["instance-id"] = inputs.instance_id
    elif not inputs.compose.has_instance_id:
        payloads["instance-id"] = b""
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


def _measured_events(inputs: Inputs, log: EventLog | None) -> tuple[MeasuredEvent, ...]:
    """Return the entries of register 3: those of the log, or those that a machine will write.

    Without a log, the result is empty if not all entries follow from files and statements.

    Raises:
        MeasurementRefused: the log contradicts the compose file or a statement.
    """
    expected_payloads = _expected_payloads(inputs)
    if log is None:
        return _predicted_events(expected_payloads)
    events = []
    is_written_by_system = True
    for entry in runtime_entries(log):
        source: Source = "replayed"
        if is_written_by_system and entry.name in expected_payloads:
            if entry.payload == expected_payloads[entry.name]:
                source = "computed"
            else:
                _refuse_contradiction(entry, inputs)
        events.append(MeasuredEvent(name=entry.name, payload=entry.payload, source=source))
        # The application writes the entries after this one, and may repeat any name (AT21).
        if entry.name == SYSTEM_READY:
            is_written_by_system = False
    return tuple(events)


def _predicted_events(expected_payloads: dict[str, bytes]) -> tuple[MeasuredEvent, ...]:
    """Return the entries that a machine will write; empty if a required one is not known."""
    if not expected_payloads.keys() >= _REQUIRED:
        return ()
    events = []
    for name in _ORDER:
        if name in expected_payloads:
            payload = expected_payloads[name]
            events.append(MeasuredEvent(name=name, payload=payload, source="computed"))
    return tuple(events)


def _refuse_contradiction(entry: Event, inputs: Inputs) -> None:
    """Refuse an unexpected entry if the compose file or the owner states another payload (AT65).

    Any other entry is accepted as it is: a key service, for example, may have set the app id.
    """
    if entry.name == "compose-hash":
        raise MeasurementRefused(
            f"the event log is of another compose file: it has the hash {entry.payload.hex()}, but"
            f" {inputs.compose_file} has {inputs.compose.sha256.hex()}",
            problem="log-mismatch",
            hint="use the file that the machine runs, byte for byte; a changed line break changes"
            " the hash",
        )
    statements = {
        "app-id": inputs.app_id,
        "instance-id": inputs.instance_id,
        "storage-fs": inputs.storage,
    }
    if statements.get(entry.name) is not None:
        raise MeasurementRefused(
            f"the event log has another {entry.name} than was stated: {entry.payload.hex()}",
            problem="log-mismatch",
            hint="leave the option out to take the value from the log, or use the right log",
        )


def _app_id_value(inputs: Inputs, claims: EventLogClaims | None) -> Value:
    """Return the app id by the first source that has one: option, event log, compose file."""
    if inputs.app_id is not None:
        return Value(name="appId", texts=(inputs.app_id.hex(),), source="given", origin="--app-id")
    default_app_id = _default_app_id(inputs.compose)
    if claims is not None and claims.app_id != default_app_id:
        return Value(
            name="appId",
            texts=(claims.app_id.hex(),),
            source="replayed",
            origin=f"the event log in {inputs.answer_file}; a key service set it",
        )
    return Value(
        name="appId",
        texts=(default_app_id.hex(),),
        source="computed",
        origin="the first 20 bytes of the compose hash",
    )


def _key_provider_value(inputs: Inputs, claims: EventLogClaims | None) -> Value:
    """Return the key provider that the owner states, the event log names, or both agree on.

    Raises:
        MeasurementRefused: the event log names another key provider than the owner states.
    """
    stated_provider = inputs.key_provider
    if claims is None:
        if stated_provider is None:
            return _unknown_value(
                "keyProvider", "state the key service that you accept: --key-provider kms:<hex>"
            )
        return Value(
            name="keyProvider",
            texts=(stated_provider.text,),
            source="given",
            origin="--key-provider",
        )
    logged_provider = claims.key_provider
    if stated_provider is None:
        return Value(
            name="keyProvider",
            texts=(logged_provider.text,),
            source="replayed",
            origin=f"the event log in {inputs.answer_file}",
        )
    if stated_provider != logged_provider:
        raise MeasurementRefused(
            f"the event log names the key provider {logged_provider.text[:160]}, but"
            f" {stated_provider.text[:160]} was stated",
            problem="log-mismatch",
            hint="find out whose key service it is before you approve it",
        )
    return Value(
        name="keyProvider",
        texts=(stated_provider.text,),
        source="given",
        origin=f"--key-provider, and the event log in {inputs.answer_file}",
    )


def _rtmr3_value(inputs: Inputs, answer: GuestAnswer, events: tuple[MeasuredEvent, ...]) -> Value:
    """Return RTMR3 by its entries, or by the quote if the entries are not known."""
    quoted_rtmr3 = None if answer.quote is None else answer.quote.report.rtmr3
    if not events:
        if quoted_rtmr3 is not None:
            return _quoted_value("rtmr3", quoted_rtmr3, "there is no event log")
        return _unknown_value("rtmr3", "needs an event log, or --instance-id and --key-provider")
    rtmr3 = _replay_rtmr3(answer.log, events)
    computed_count = sum(event.source == "computed" for event in events)
    origin = (
        f"{computed_count} of {len(events)} entries follow from {inputs.compose_file} and options"
    )
    if quoted_rtmr3 is not None:
        origin += "; equal to the quote"  # `check_agrees` has compared the log with the quote
    elif answer.log is None:
        origin += ", if the image logs exactly these"
    return Value(
        name="rtmr3",
        texts=(rtmr3.hex(),),
        source="computed" if computed_count == len(events) else "replayed",
        origin=origin,
    )


def _replay_rtmr3(log: EventLog | None, events: tuple[MeasuredEvent, ...]) -> bytes:
    """Return RTMR3 after the entries of a log, or after the predicted ones."""
    if log is not None:  # its entries may have digests of either version
        return replay(runtime_entries(log))
    return extended(event_digest(event.name, event.payload) for event in events)


# --- registers of the image -----------------------------------------------------------------------


class _ExpectedMrtd(NamedTuple):
    """The two values of MRTD that the files allow, and the file from which they follow.

    There are two, because MRTD depends on the order in which the host adds and measures pages.
    """

    values: FirmwareMrtd
    source: Source
    origin: str


def _expected_mrtd(inputs: Inputs, image: ImageDescription | None) -> _ExpectedMrtd | None:
    """Return MRTD by the firmware, or else by the image's description; None without both.

    Raises:
        MeasurementRefused: firmware and description have different values.
    """
    if inputs.mrtd is not None:
        if image is not None and inputs.mrtd != image.mrtd:
            raise _other_firmware(
                f"{inputs.firmware_file} has another MRTD than the image's description"
            )
        return _ExpectedMrtd(values=inputs.mrtd, source="computed", origin=inputs.firmware_file)
    if image is not None:
        return _ExpectedMrtd(values=image.mrtd, source="image", origin="the image's description")
    return None


def _mrtd_value(inputs: Inputs, answer: GuestAnswer, image: ImageDescription | None) -> Value:
    """Return MRTD: the value in the quote if there is one, else both that the files allow.

    Raises:
        MeasurementRefused: the quote has a value that the files do not allow.
    """
    quoted_mrtd = None if answer.quote is None else answer.quote.report.mrtd
    expected = _expected_mrtd(inputs, image)
    if expected is None:
        if quoted_mrtd is not None:
            return _quoted_value("mrtd", quoted_mrtd, "name the firmware to compute it")
        return _unknown_value("mrtd", "needs the firmware's file, or the image's description")
    one_pass, two_pass = expected.values.one_pass, expected.values.two_pass
    if quoted_mrtd is None:
        return Value(
            name="mrtd",
            texts=tuple(dict.fromkeys((one_pass.hex(), two_pass.hex()))),  # each value once
            source=expected.source,
            origin=f"{expected.origin}; which of two values depends on the host's QEMU",
        )
    if quoted_mrtd not in (one_pass, two_pass):
        raise _other_firmware(
            f"the quote has MRTD {quoted_mrtd.hex()}, but {expected.origin} gives"
            f" {one_pass.hex()} or {two_pass.hex()}"
        )
    order = "page by page" if quoted_mrtd == one_pass else "pages first, then contents"
    return Value(
        name="mrtd",
        texts=(quoted_mrtd.hex(),),
        source=expected.source,
        origin=f"{expected.origin} ({order}); equal to the quote",
    )


def _boot_values(
    inputs: Inputs, answer: GuestAnswer, image: ImageDescription | None
) -> tuple[Value, ...]:
    """Return RTMR0 to RTMR2, each by the best source: image, event log, quote."""
    logged_registers = {} if answer.log is None else replayed_registers(answer.log)
    described_registers: dict[int, bytes] = {}
    if image is not None:
        described_registers = {1: image.rtmr1, 2: image.rtmr2}
    values = []
    for number, name in enumerate(_BOOT_REGISTERS):
        quoted: bytes | None = None
        if answer.quote is not None:
            quoted = getattr(answer.quote.report, name)
        logged = logged_registers.get(number)
        if number in described_registers:
            described = described_registers[number]
            values.append(_described_value(name, described, quoted=quoted, logged=logged))
        elif logged is not None:
            is_quoted = quoted is not None
            values.append(_replayed_value(name, logged, inputs.answer_file, is_quoted=is_quoted))
        elif quoted is not None:
            values.append(_quoted_value(name, quoted, "the event log has no entries of it"))
        else:
            values.append(
                _unknown_value(
                    name, "needs an event log, which is replayed, or the image's description"
                )
            )
    return tuple(values)


def _described_value(
    name: str, described: bytes, *, quoted: bytes | None, logged: BootRegister | None
) -> Value:
    """Return a register that follows from the image's description.

    Raises:
        MeasurementRefused: the machine has another value, by its quote or else by its log.
    """
    actual = quoted
    if actual is None and logged is not None:
        actual = logged.value
    if actual is not None and actual != described:
        raise _other_firmware(
            f"{name.upper()} is {actual.hex()}, but the image's description gives {described.hex()}"
        )
    origin = "the image's description"
    if quoted is not None:
        origin += "; equal to the quote"
    return Value(name=name, texts=(described.hex(),), source="image", origin=origin)


def _replayed_value(name: str, logged: BootRegister, log_file: str, *, is_quoted: bool) -> Value:
    """Return a register by its entries in the log, which `check_agrees` compared with a quote."""
    origin = f"{logged.entries} entries of the event log in {log_file}"
    if is_quoted:
        origin += "; equal to the quote"
    return Value(name=name, texts=(logged.value.hex(),), source="replayed", origin=origin)


def _other_firmware(reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the machine runs another image: {reason}",
        problem="firmware",
        hint="find out which release the machine runs; approve it only if you know that release",
    )


# --- what to approve ------------------------------------------------------------------------------


def _policy_for(values: tuple[Value, ...]) -> Policy | None:
    """Return a policy that names all code, or None if a part of it is not known (AT66)."""
    texts = {value.name: value.texts for value in values}
    for name in ("appId", "keyProvider", "mrtd", *_BOOT_REGISTERS):
        if not texts[name]:
            return None
    measurements = []
    for mrtd in texts["mrtd"]:  # two if the host's order of work is not known
        measurements.append(
            Measurements(
                mrtd=bytes.fromhex(mrtd),
                rtmr0=bytes.fromhex(texts["rtmr0"][0]),
                rtmr1=bytes.fromhex(texts["rtmr1"][0]),
                rtmr2=bytes.fromhex(texts["rtmr2"][0]),
            )
        )
    return Policy(
        measurements=tuple(measurements),
        compose_hashes=(bytes.fromhex(texts["composeHash"][0]),),
        app_ids=(bytes.fromhex(texts["appId"][0]),),
        key_providers=texts["keyProvider"],
    )


def _notes(values: tuple[Value, ...], claims: EventLogClaims | None) -> tuple[str, ...]:
    """Return what a person should know about the values."""
    notes = []
    replayed_labels = _labels_text(
        value for value in values if value.source == "replayed" and value.name in _BOOT_REGISTERS
    )
    if replayed_labels:
        notes.append(
            f"{replayed_labels}: replayed from digests that the machine wrote. They show that log"
            " and quote belong together, not which image it is: compare them with a release"
        )
    quoted_labels = _labels_text(value for value in values if value.source == "quoted")
    if quoted_labels:
        notes.append(f"{quoted_labels}: taken from the quote, because no file explains it")
    (provider,) = (value for value in values if value.name == "keyProvider")
    for text in provider.texts:
        if not is_key_source_accepted(text, DEFAULT_KEY_PROVIDERS):
            notes.append(
                f"nodes refuse the key provider {text[:80]} unless their operator lists it"
            )
    if claims is not None and claims.init_script_hashes:
        notes.append("the application has init scripts, whose hashes are in the log")
    return tuple(notes)


def _labels_text(values: Iterable[Value]) -> str:
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
        "allows": [*measured.compose.line_texts],
        "allowDigest": measured.compose.lines_digest,
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
