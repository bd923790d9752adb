"""Vectors of report data, challenges and quotes, minted by the simulator with RFC 6979
signatures."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from deviating_platform import CollateralOptions, DomainOptions, SimulatedPlatform

from encryption_network.policy import Measurements
from tee_backend.evidence.simulated import measurements_of

from .cases import Case, Documents
from .minting import NOW, Key

_NODE, _HOLDER, _OTHER = Key(0x71).did, Key(0x31).did, Key(0x41).did
_NONCE = bytes(range(32))
_RECEIVER_KEY = bytes([0x42]) * 32
_STORE_ID = bytes([0x09]) * 16
_MAC_KEY = bytes([0x0A]) * 32
_DEBUG, _MIGRATABLE, _SEPT_VE_DISABLE, _PERFMON = 1 << 0, 1 << 29, 1 << 28, 1 << 63


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "report_data": ("the 64 bytes that a quote carries", _report_data(), {}),
        "node_report_data": (
            "the 64 bytes that a node's own quote carries",
            _node_report_data(),
            {},
        ),
        "backend_report_data": (
            "the 64 bytes of evidence that a backend publishes",
            _backend_report_data(),
            {},
        ),
        "challenge": ("nonces that a node recognises", _challenges(), {}),
        "quotes": ("simulated quotes under their own root, accepted and refused", *_quotes()),
    }


def _fields(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def _report_data() -> list[Case]:
    base = {
        "nonce_hex": _NONCE.hex(),
        "audience": _NODE,
        "holder": _HOLDER,
        "mode": "attested",
        "receiver_key_hex": _RECEIVER_KEY.hex(),
    }
    changes: dict[str, Mapping[str, str]] = {
        "ordinary": {},
        "other-nonce": {"nonce_hex": bytes(32).hex()},
        "other-audience": {"audience": _OTHER},
        "other-holder": {"holder": _OTHER},
        "mode-signed": {"mode": "signed"},
        "other-key": {"receiver_key_hex": bytes(32).hex()},
        "boundary-moved-between-audience-and-holder": {
            "audience": _NODE + _HOLDER[:1],
            "holder": _HOLDER[1:],
        },
    }
    cases = []
    for name, change in changes.items():
        given = {**base, **change}
        text = _fields(
            b"sealspace/report-data/1",
            bytes.fromhex(given["nonce_hex"]),
            given["audience"].encode(),
            given["holder"].encode(),
            given["mode"].encode(),
            bytes.fromhex(given["receiver_key_hex"]),
        )
        cases.append(
            {
                "name": name,
                "rules": ["AT9"],
                **given,
                "expect": {"report_data_hex": hashlib.sha512(text).hexdigest()},
            }
        )
    return cases


def _node_report_data() -> list[Case]:
    first, second = (bytes([byte]) * 32 for byte in (0x01, 0x02))
    base: Case = {
        "nonce": "a nonce",
        "node_did": _NODE,
        "store_id_hex": _STORE_ID.hex(),
        "secret_origin": "platform",
        "attestation": "delegates",
        "trust_roots_hex": [first.hex(), second.hex()],
        "node_policy_suffices": False,
        "key_providers": ["kms", "tpm"],
    }
    changes: dict[str, Case] = {
        "ordinary": {},
        "roots-in-another-order": {"trust_roots_hex": [second.hex(), first.hex()]},
        "no-root": {"trust_roots_hex": []},
        "empty-nonce": {"nonce": ""},
        "nonce-beyond-ascii": {"nonce": "né\u0000e"},
        "other-node": {"node_did": _OTHER},
        "other-store": {"store_id_hex": bytes(16).hex()},
        "operator": {"secret_origin": "operator"},
        "everyone": {"attestation": "everyone"},
        "off": {"attestation": "off"},
        "node-policy-suffices": {"node_policy_suffices": True},
        "no-key-provider": {"key_providers": []},
        "one-service": {"key_providers": ["kms:3059"]},
        "key-providers-in-another-order": {"key_providers": ["tpm", "kms"]},
        "boundary-moved-between-nonce-and-node": {
            "nonce": "a nonce" + _NODE[:1],
            "node_did": _NODE[1:],
        },
    }
    cases = []
    for name, change in changes.items():
        given = {**base, **change}
        text = _fields(
            b"sealspace/node-report-data/1",
            given["nonce"].encode(),
            given["node_did"].encode(),
            bytes.fromhex(given["store_id_hex"]),
            given["secret_origin"].encode(),
            given["attestation"].encode(),
            bytes.fromhex("".join(sorted(given["trust_roots_hex"]))),
            b"true" if given["node_policy_suffices"] else b"false",
            ",".join(sorted(given["key_providers"])).encode(),
        )
        cases.append(
            {
                "name": name,
                "rules": ["AT41"],
                **given,
                "expect": {"report_data_hex": hashlib.sha512(text).hexdigest()},
            }
        )
    return cases


def _backend_report_data() -> list[Case]:
    manifest = {
        "app_id": "com.example.notes",
        "name": "Notes",
        "defaults": False,
        "secrets": {"API_KEY": True},
    }
    base: Case = {
        "nonce_hex": _NONCE.hex(),
        "statement": {"did": _HOLDER, "manifest": manifest, "compose": "services: {}\n"},
    }
    stated = base["statement"]
    changes: dict[str, Case] = {
        "ordinary": {},
        "other-nonce": {"nonce_hex": bytes(32).hex()},
        "other-did": {"statement": {**stated, "did": _OTHER}},
        "another-secret": {
            "statement": {**stated, "manifest": {**manifest, "secrets": {"OTHER": True}}}
        },
        "members-in-another-order": {"statement": dict(reversed(stated.items()))},
        "no-compose": {"statement": {**stated, "compose": None}},
        "beyond-ascii": {"statement": {**stated, "manifest": {**manifest, "name": "Nötes"}}},
    }
    cases = []
    for name, change in changes.items():
        given = {**base, **change}
        canonical = json.dumps(
            given["statement"], ensure_ascii=False, sort_keys=True, separators=(",", ":")
        ).encode()
        text = _fields(
            b"sealspace/backend-evidence/1",
            bytes.fromhex(given["nonce_hex"]),
            given["statement"]["did"].encode(),
            hashlib.sha256(canonical).digest(),
        )
        cases.append(
            {
                "name": name,
                "rules": ["AT51"],
                **given,
                "expect": {"report_data_hex": hashlib.sha512(text).hexdigest()},
            }
        )
    return cases


def _challenges() -> list[Case]:
    scope = {"holder": _HOLDER, "audience": _NODE, "store_id_hex": _STORE_ID.hex()}
    random, expiry = bytes(range(16)), (NOW + 120).to_bytes(4, "big")
    label = b"sealspace/attestation-challenge/1"
    text = _fields(label, random, expiry, _HOLDER.encode(), _NODE.encode(), _STORE_ID)
    nonce = random + expiry + hmac.new(_MAC_KEY, text, hashlib.sha256).digest()[:12]
    later = random + (NOW + 999).to_bytes(4, "big") + nonce[20:]
    invalid, expired = {"code": "challenge-invalid"}, {"code": "challenge-expired"}
    table: list[tuple[str, bytes, Mapping[str, str], float, dict[str, Any]]] = [
        ("own", nonce, {}, NOW, {"expires_at": NOW + 120, "issued_hex": nonce.hex()}),
        ("before-its-end", nonce, {}, NOW + 119.5, {"expires_at": NOW + 120}),
        ("at-its-end", nonce, {}, NOW + 120, expired),
        ("other-holder", nonce, {"holder": _OTHER}, NOW, invalid),
        ("other-audience", nonce, {"audience": _OTHER}, NOW, invalid),
        ("other-store", nonce, {"store_id_hex": bytes(16).hex()}, NOW, invalid),
        ("later-expiry", later, {}, NOW, invalid),
        ("first-bit-flipped", bytes([nonce[0] ^ 1]) + nonce[1:], {}, NOW, invalid),
        ("last-bit-flipped", nonce[:-1] + bytes([nonce[-1] ^ 1]), {}, NOW, invalid),
        ("short", nonce[:31], {}, NOW, invalid),
        ("long", nonce + b"\0", {}, NOW, invalid),
    ]
    return [
        {
            "name": name + ("_fail" if "code" in expect else ""),
            "rules": ["AT2", "AT3"],
            "mac_key_hex": _MAC_KEY.hex(),
            "issued_at": NOW,
            "ttl_s": 120,
            **scope,
            **change,
            "nonce_hex": text.hex(),
            "now": now,
            "expect": expect,
        }
        for name, text, change, now, expect in table
    ]


def _quotes() -> tuple[list[Case], Case]:
    platform = SimulatedPlatform.from_seed(b"sealspace vectors")
    outsider = SimulatedPlatform.from_seed(b"sealspace vectors, another")
    code = measurements_of("vectors")
    data = hashlib.sha512(b"vectors").digest()
    quote = platform.mint_quote(code, data)
    collateral = platform.collateral_json(NOW)
    root = platform.root_der

    def published(**options: Any) -> bytes:
        return platform.collateral_json(NOW, options=CollateralOptions(**options))

    accepted = {
        "tcb_status": "UpToDate",
        "advisories": [],
        "evaluation_number": 20,
        **_registers(code),
        "report_data_hex": data.hex(),
    }
    hardening = published(tcb_status="SWHardeningNeeded", advisories=["INTEL-SA-00615"])
    hardened = {**accepted, "tcb_status": "SWHardeningNeeded", "advisories": ["INTEL-SA-00615"]}

    def with_attributes(attributes: int) -> bytes:
        return platform.mint_quote(code, data, options=DomainOptions(td_attributes=attributes))

    no_xfam = platform.mint_quote(code, data, options=DomainOptions(xfam=0))
    foreign = outsider.mint_quote(code, data)
    codes = (
        "untrusted-root",
        "malformed",
        "unsupported",
        "quote-signature",
        "td-attributes",
        "collateral-window",
        "revoked",
        "collateral-mismatch",
    )
    refused = {code: {"code": code} for code in codes}
    # name, rules, quote, edit, collateral, root, now, expect
    table: list[tuple[str, str, bytes, Case, bytes, bytes, float, dict[str, Any]]] = [
        ("ordinary", "AT11 AT13 AT26", quote, {}, collateral, root, NOW, accepted),
        (
            "padded-with-zeros",
            "AT11",
            quote,
            {"append_hex": "00" * 100},
            collateral,
            root,
            NOW,
            accepted,
        ),
        ("status-is-stated-not-judged", "AT23", quote, {}, hardening, root, NOW, hardened),
        (
            "attribute-for-a-policy",
            "AT14",
            with_attributes(_SEPT_VE_DISABLE | _PERFMON),
            {},
            collateral,
            root,
            NOW,
            accepted,
        ),
        (
            "other-root",
            "AT12",
            quote,
            {},
            collateral,
            outsider.root_der,
            NOW,
            refused["untrusted-root"],
        ),
        (
            "quote-of-another-platform",
            "AT12",
            foreign,
            {},
            collateral,
            root,
            NOW,
            refused["untrusted-root"],
        ),
        (
            "trailing-byte",
            "AT11",
            quote,
            {"append_hex": "01"},
            collateral,
            root,
            NOW,
            refused["malformed"],
        ),
        ("truncated", "AT11", quote, {"drop_last": 1}, collateral, root, NOW, refused["malformed"]),
        (
            "another-version",
            "AT11",
            quote,
            {"flip_offset": 0},
            collateral,
            root,
            NOW,
            refused["unsupported"],
        ),
        (
            "another-vendor",
            "AT11",
            quote,
            {"flip_offset": 12},
            collateral,
            root,
            NOW,
            refused["unsupported"],
        ),
        (
            "measurement-flipped",
            "AT13",
            quote,
            {"flip_offset": 184},
            collateral,
            root,
            NOW,
            refused["quote-signature"],
        ),
        (
            "report-data-flipped",
            "AT13",
            quote,
            {"flip_offset": 568},
            collateral,
            root,
            NOW,
            refused["quote-signature"],
        ),
        (
            "signature-flipped",
            "AT13",
            quote,
            {"flip_offset": 640},
            collateral,
            root,
            NOW,
            refused["quote-signature"],
        ),
        (
            "debug",
            "AT14",
            with_attributes(_SEPT_VE_DISABLE | _DEBUG),
            {},
            collateral,
            root,
            NOW,
            refused["td-attributes"],
        ),
        (
            "migratable",
            "AT14",
            with_attributes(_SEPT_VE_DISABLE | _MIGRATABLE),
            {},
            collateral,
            root,
            NOW,
            refused["td-attributes"],
        ),
        (
            "sept-ve-not-disabled",
            "AT14",
            with_attributes(0),
            {},
            collateral,
            root,
            NOW,
            refused["td-attributes"],
        ),
        ("xfam-zero", "AT14", no_xfam, {}, collateral, root, NOW, refused["td-attributes"]),
        (
            "collateral-over",
            "AT17",
            quote,
            {},
            collateral,
            root,
            NOW + 31 * 86_400,
            refused["collateral-window"],
        ),
        (
            "collateral-from-the-future",
            "AT14 AT17",
            quote,
            {},
            published(issued_before_s=-60),
            root,
            NOW,
            refused["collateral-window"],
        ),
        (
            "platform-revoked",
            "AT13",
            quote,
            {},
            published(revoked=["pck"]),
            root,
            NOW,
            refused["revoked"],
        ),
        (
            "status-revoked",
            "AT13",
            quote,
            {},
            published(tcb_status="Revoked"),
            root,
            NOW,
            refused["revoked"],
        ),
        (
            "pce-id-of-another",
            "AT14",
            quote,
            {},
            published(pce_id=b"\x00\x01"),
            root,
            NOW,
            refused["collateral-mismatch"],
        ),
    ]
    # Quotes, collateral and roots recur: the cases name them, and say what is changed in the quote.
    shared: Case = {"quotes": {}, "collaterals": {}, "roots": {}}
    cases = []
    for name, rules, quoted, edit, document, anchor, now, expect in table:
        case: Case = {
            "name": name + ("_fail" if "code" in expect else ""),
            "rules": rules.split(),
            "now": now,
        }
        case["quote"] = _named(shared["quotes"], base64.b64encode(quoted).decode())
        case["edit"] = edit
        case["collateral"] = _named(shared["collaterals"], document.decode())
        case["root"] = _named(shared["roots"], base64.b64encode(anchor).decode())
        cases.append(case | {"expect": expect})
    return cases, shared


def _named(table: dict[str, str], value: str) -> str:
    """Return the name of a value in a table; a new value is added."""
    for name, known in table.items():
        if known == value:
            return name
    name = str(len(table))
    table[name] = value
    return name


def _registers(code: Measurements) -> dict[str, str]:
    rtmr3 = code.rtmr3 or bytes(48)
    registers = {
        "mrtd": code.mrtd,
        "rtmr0": code.rtmr0,
        "rtmr1": code.rtmr1,
        "rtmr2": code.rtmr2,
        "rtmr3": rtmr3,
    }
    return {name: value.hex() for name, value in registers.items()}
