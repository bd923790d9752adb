"""Claims about the application: only from entries of the system, and only for a matching quote."""

import json
from dataclasses import replace
from itertools import permutations

import pytest
from deviating_log import LogOptions, mint_event_log, mint_log_of
from deviating_platform import DomainOptions, SimulatedPlatform
from tests_support import altered

from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS, NAMES
from encryption_network.policy import Measurements
from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.event_log import EventLog
from tee_backend.attestation.event_log_claims import (
    SEQUENCE,
    EventLogClaims,
    KeyProvider,
    check_key_provider,
    verify_event_log,
)
from tee_backend.attestation.quote import TdReport, parse_quote
from tee_backend.evidence.simulated import SIMULATED_KEY_PROVIDER, MintedLog

COMPOSE = bytes(range(32))
APP = b"app" * 6 + b"id"
KMS = {"name": "kms", "id": "abcd"}
ORDINARY = [
    ("system-preparing", b""),
    ("app-id", APP),
    ("compose-hash", COMPOSE),
    ("instance-id", b"i" * 20),
    ("boot-mr-done", b""),
    ("os-image-hash", b"o" * 32),
    ("key-provider", json.dumps(KMS).encode()),
    ("storage-fs", b"zfs"),
    ("system-ready", b""),
]


@pytest.fixture
def report(machine: SimulatedPlatform, code: Measurements) -> TdReport:
    """The report of an ordinary domain."""
    return parse_quote(machine.mint_quote(code, bytes(64))).report


def claims_of(minted: MintedLog, report: TdReport) -> EventLogClaims:
    """Read a log with a report whose register matches it."""
    return verify_event_log(minted.log, replace(report, rtmr3=minted.rtmr3))


def changed(**payloads: bytes | None) -> list[tuple[str, bytes]]:
    """Return the usual entries with payloads replaced or entries removed (None); `_` stands for
    `-`."""
    named = {name.replace("_", "-"): payload for name, payload in payloads.items()}
    entries = [(name, named.get(name, payload)) for name, payload in ORDINARY]
    return [(name, payload) for name, payload in entries if payload is not None]


def test_claims(report: TdReport) -> None:
    """All entries of the system are read (AT21)."""
    options = LogOptions(
        os_image_hash=b"o" * 32,
        gpu_policy_hash=b"g" * 32,
        init_script_hashes=(b"1" * 32, b"2" * 32),
    )
    assert claims_of(mint_event_log(COMPOSE, APP, options=options), report) == EventLogClaims(
        compose_hash=COMPOSE,
        app_id=APP,
        instance_id=bytes(range(20)),
        key_provider=SIMULATED_KEY_PROVIDER,
        gpu_policy_hash=b"g" * 32,
        init_script_hashes=(b"1" * 32, b"2" * 32),
    )


def test_an_app_id_of_its_own_is_the_default(report: TdReport) -> None:
    """Without a configured app id, the app id is the first twenty bytes of the compose hash."""
    assert COMPOSE[:20] == claims_of(mint_event_log(COMPOSE), report).app_id


def test_the_quote_decides(report: TdReport) -> None:
    """A valid log of another application does not match the quote (AT20)."""
    with pytest.raises(QuoteRefused, match=r"^event-log$") as refused:
        verify_event_log(mint_event_log(COMPOSE).log, report)
    assert "RTMR3" in refused.value.detail


def test_an_approved_payload_beside_a_kept_digest(report: TdReport) -> None:
    """A replaced compose hash with the old digest is refused, though the digests replay (AT20)."""
    minted = mint_event_log(COMPOSE)
    entries = [
        altered(event, payload_hex=b"approved".ljust(32).hex())
        if event.name == "compose-hash"
        else event
        for event in minted.log.entries
    ]
    forged = MintedLog(EventLog(tuple(entries)), minted.rtmr3)
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        claims_of(forged, report)
    # Without a digest of its own to compare with, the replay tells.
    bare = EventLog(tuple(altered(event, digest="") for event in entries))
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        claims_of(MintedLog(bare, minted.rtmr3), report)


def test_what_the_application_writes_says_nothing(report: TdReport) -> None:
    """Entries after system-ready may have any name and make no claims (AT21)."""
    options = LogOptions(
        by_application=[("compose-hash", b"x" * 32), ("system-ready", b""), ("app-id", b"")]
    )
    assert COMPOSE == claims_of(mint_event_log(COMPOSE, options=options), report).compose_hash


@pytest.mark.parametrize(
    "name", [name for name in SEQUENCE if name not in ("os-image-hash", "storage-fs")]
)
def test_missing(report: TdReport, name: str) -> None:
    """A log without one of the system's entries is refused."""
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        claims_of(mint_log_of(changed(**{name: None})), report)


@pytest.mark.parametrize("name", SEQUENCE[:-1])
def test_twice(report: TdReport, name: str) -> None:
    """A system entry repeated before system-ready is refused at any place (AT21)."""
    for place in range(len(ORDINARY) - 1):
        entries = [*ORDINARY[:place], (name, dict(ORDINARY)[name]), *ORDINARY[place:]]
        with pytest.raises(QuoteRefused, match=r"^event-log$"):
            claims_of(mint_log_of(entries), report)


def test_out_of_order(report: TdReport) -> None:
    """Five system entries are accepted in the correct order only (AT21)."""
    head = ORDINARY[1:6]
    accepted = []
    for order in permutations(head):
        try:
            claims_of(mint_log_of([ORDINARY[0], *order, *ORDINARY[6:]]), report)
        except QuoteRefused as refused:
            assert refused.code == "event-log"
            continue
        accepted.append(list(order))
    assert [head] == accepted


@pytest.mark.parametrize(
    "payloads",
    [
        {"app_id": b"x" * 19},
        {"app_id": b""},
        {"compose_hash": b"x" * 31},
        {"instance_id": b"x"},
        {"os_image_hash": b"x"},
        {"system_preparing": b"x"},
        {"boot_mr_done": b"x"},
        {"system_ready": b"x"},
        {"key_provider": b""},
        {"key_provider": b"[]"},
        {"key_provider": b'{"name":"kms"}'},
        {"key_provider": b'{"name":"kms","id":"00","more":1}'},
        {"key_provider": b'{"name":"kms","id":"0"}'},
        {"key_provider": b'{"name":"kms","id":"0 00 0"}'},
        {"key_provider": b'{"name":"kms","id":"00 00"}'},
        {"key_provider": b'{"name":"kms","id":1}'},
        {"key_provider": b'{"name":"own","id":""}'},
        {"key_provider": b'{"name":["kms"],"id":""}'},
        {"key_provider": b'{"name":"kms","name":"kms","id":""}'},
        {"key_provider": b'{"name":"kms","id":"' + b"00" * 2500 + b'"}'},
    ],
)
def test_payloads_of_another_form(report: TdReport, payloads: dict[str, bytes]) -> None:
    """A log with a payload of another size or form is refused."""
    with pytest.raises(QuoteRefused, match=r"^event-log$"):
        claims_of(mint_log_of(changed(**payloads)), report)


def test_measurements_of_the_boot(report: TdReport) -> None:
    """Scripts and GPU policy have to precede the boot's end, in bounded number and fixed size
    (AT21)."""
    script, gpu = ("init-script-hash", b"s" * 32), ("gpu-policy-hash", b"g" * 32)
    for entries in (
        [*ORDINARY[:5], script, *ORDINARY[5:]],
        [*ORDINARY[:5], gpu, *ORDINARY[5:]],
        [*ORDINARY[:3], gpu, gpu, *ORDINARY[3:]],
        [*ORDINARY[:3], ("init-script-hash", b"s"), *ORDINARY[3:]],
        [*ORDINARY[:3], *[script] * 65, *ORDINARY[3:]],
    ):
        with pytest.raises(QuoteRefused, match=r"^event-log$"):
            claims_of(mint_log_of(entries), report)


def test_other_names_of_the_system(report: TdReport) -> None:
    """Unknown names may occur between known ones."""
    entries = [("early", b"x"), *ORDINARY[:4], ("gpu-attestation", b"x"), *ORDINARY[4:]]
    assert COMPOSE == claims_of(mint_log_of(entries), report).compose_hash


def test_a_stated_configuration_has_to_fit(machine: SimulatedPlatform, code: Measurements) -> None:
    """An MRCONFIGID in the quote has to match the log (AT28)."""
    minted = mint_event_log(COMPOSE)
    for compose, fits in ((COMPOSE, True), (b"x" * 32, False)):
        options = DomainOptions(mr_config_id=b"\x01" + compose + bytes(15))
        quote = machine.mint_quote(minted.run_on(code), bytes(64), options=options)
        report = parse_quote(quote).report
        if fits:
            assert COMPOSE == verify_event_log(minted.log, report).compose_hash
        else:
            with pytest.raises(QuoteRefused, match=r"^event-log$"):
                verify_event_log(minted.log, report)


def _provided_by(provider: KeyProvider, report: TdReport) -> KeyProvider:
    return claims_of(
        mint_event_log(COMPOSE, options=LogOptions(key_provider=provider)), report
    ).key_provider


def test_key_providers(report: TdReport) -> None:
    """A key service is accepted unless ids are named, a local provider if named, "none" never
    (AT29)."""
    kms, local = KeyProvider("kms", b"k"), KeyProvider("local-sgx", b"l")
    check_key_provider(_provided_by(kms, report), DEFAULT_KEY_PROVIDERS)
    check_key_provider(_provided_by(KeyProvider("tpm", b""), report), DEFAULT_KEY_PROVIDERS)
    check_key_provider(_provided_by(local, report), ["local-sgx:6c"])
    with pytest.raises(QuoteRefused, match=r"^key-provider$"):
        check_key_provider(_provided_by(local, report), DEFAULT_KEY_PROVIDERS)
    with pytest.raises(QuoteRefused, match=r"^key-provider$"):
        check_key_provider(_provided_by(kms, report), ["kms:78"])
    for accepted in (["none"], NAMES):
        with pytest.raises(QuoteRefused, match=r"^key-provider$"):
            check_key_provider(_provided_by(KeyProvider("none", b""), report), accepted)


def test_no_log_tells_of_no_provider() -> None:
    """Without a log, a quote passes only if the terms exclude no key provider (AT29)."""
    for accepted in (DEFAULT_KEY_PROVIDERS, NAMES):
        check_key_provider(None, accepted)
    for excluding in (["kms"], ["tpm", "kms:78"], []):
        with pytest.raises(QuoteRefused, match=r"^key-provider$"):
            check_key_provider(None, excluding)
