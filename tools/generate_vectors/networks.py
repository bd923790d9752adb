"""Vectors of a node's networks: keys derived from its root secret, and the owners' policies."""

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .cases import Case, Documents
from .minting import NOW, b64url
from .sealing import (
    NETWORK_KEY,
    NONCE,
    OWNER,
    RECEIVER,
    SECRET,
    derive,
    did_of,
    public_of,
    signing_key,
)


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "keys": ("what is derived from a root secret", _keys(), {}),
        "kept_keys": ("records of the keys that a replaced root secret leaves", _kept_keys(), {}),
        "policy": (
            "release policies, read and applied to evidence",
            _policies(),
            {"evidence": _evidence()},
        ),
    }


def _keys() -> list[Case]:
    space = f"tinycloud:{OWNER.did[4:]}:default"
    cases = []
    for name, secret in (
        ("sevens", SECRET),
        ("zeros", bytes(32)),
        ("long", b"a root secret may be longer than 32 bytes"),
    ):
        seal_key = derive(secret, "tinycloud/encryption/network-seal")
        sealed = b"\x01" + NONCE + AESGCM(seal_key).encrypt(NONCE, NETWORK_KEY, None)
        invitation = signing_key(derive(secret, "tinycloud/share-email/invitation-signing"))[0]
        expect = {
            "node_did": did_of(derive(secret, "tinycloud/node/identity")),
            "space_did": did_of(derive(secret, space)),
            "invitation_public_key": b64url(invitation),
            "sealed_hex": sealed.hex(),
        }
        given = {"secret_hex": secret.hex(), "space": space, "sealed_nonce_hex": NONCE.hex()}
        cases.append(
            {
                "name": name,
                "rules": ["EN4", "EN5"],
                **given,
                "plaintext_hex": NETWORK_KEY.hex(),
                "expect": expect,
            }
        )
    short = {"secret_hex": bytes(31).hex(), "expect": {"code": "root-secret-too-short"}}
    return [*cases, {"name": "short_fail", "rules": ["EN4"], **short}]


_CHALLENGES = "sealspace/sms/challenges"
_CONTEXTS = (
    "sealspace/oidc/exchange",
    _CHALLENGES,
    "sealspace/sms/signing",
    "tinycloud/node/identity",
    "tinycloud/share-email/invitation-signing",
)


def _kept_keys() -> list[Case]:
    new = bytes([8]) * 32
    keys = {context: derive(SECRET, context) for context in _CONTEXTS}
    one = {_CHALLENGES: keys[_CHALLENGES]}
    without = {name: key for name, key in keys.items() if name != "tinycloud/node/identity"}
    seal = derive(SECRET, "tinycloud/encryption/network-seal")
    given = {"former_hex": SECRET.hex(), "new_hex": new.hex(), "nonce_hex": NONCE.hex()}
    check_value = derive(new, "sealspace/root-secret/check").hex()
    cases: list[Case] = []
    for name, kept, rules in (
        ("with-identity", keys, ["RK1", "RK3"]),
        ("new-identity", one, ["RK1", "RK9"]),
    ):
        identity = kept.get("tinycloud/node/identity", derive(new, "tinycloud/node/identity"))
        expect = {
            "check_value_hex": check_value,
            "node_did": did_of(identity),
            "sealed_hex": _sealed_record(new, kept).hex(),
        }
        keeps = {"keeps_identity": kept is keys}
        cases.append({"name": name, "rules": rules, **given, **keeps, "expect": expect})
    altered = bytearray(_sealed_record(new, keys))
    altered[20] ^= 1
    for name, sealed in (
        ("altered_fail", bytes(altered)),
        ("of-another-secret_fail", _sealed_record(SECRET, keys)),
        ("without-identity_fail", _sealed_record(new, without)),
        (
            "another-context_fail",
            _sealed_record(new, {**keys, "tinycloud/encryption/network-seal": seal}),
        ),
        ("nothing_fail", _sealed_record(new, {})),
    ):
        expect = {"code": "invalid-record"}
        record = {"new_hex": new.hex(), "sealed_hex": sealed.hex()}
        cases.append({"name": name, "rules": ["RK3"], **record, "expect": expect})
    return cases


def _sealed_record(secret: bytes, keys: Mapping[str, bytes]) -> bytes:
    key = derive(secret, "sealspace/root-secret/kept-keys")
    return b"\x01" + NONCE + AESGCM(key).encrypt(NONCE, _packed_record(keys), None)


def _packed_record(keys: Mapping[str, bytes]) -> bytes:
    """Return MessagePack of `[1, keys]`; texts have at most 255 bytes, and keys have 32."""
    packed = bytes([0x92, 1, 0x80 | len(keys)])
    for name in sorted(keys):
        text = name.encode()
        head = bytes([0xA0 | len(text)]) if len(text) < 32 else bytes([0xD9, len(text)])
        packed += head + text + bytes([0xC4, len(keys[name])]) + keys[name]
    return packed


_REGISTERS = {
    name: hashlib.sha384(name.encode()).hexdigest()
    for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
}
_OTHER_REGISTERS = {
    name: hashlib.sha384(b"other " + name.encode()).hexdigest() for name in _REGISTERS
}


def _policies() -> list[Case]:
    image = {"measurements": [_REGISTERS]}
    no_rtmr3 = {name: value for name, value in _REGISTERS.items() if name != "rtmr3"}
    compose = "ab" * 32
    good: dict[str, Any] = {
        "nothing": {},
        "image": image,
        "image-by-compose-hash": {"measurements": [no_rtmr3], "composeHashes": [compose]},
        "statuses": {
            "tcbStatuses": ["UpToDate", "SWHardeningNeeded"],
            "advisories": ["INTEL-SA-00615"],
        },
        "grace": {"tcbStatuses": ["OutOfDate"], "tcbGraceSeconds": 86_400},
        "everything-else": {
            "appIds": ["00" * 20],
            "keyProviders": ["kms:" + "0a" * 91, "local-sgx:0b", "tpm"],
            "tdAttributes": ["0000001000000000"],
            "platformIds": ["cd" * 32],
            "minEvaluationNumber": 17,
            "maxAgeSeconds": 300,
            "receiver": "signed",
            "paths": [f"tinycloud:{OWNER.did[4:]}:secrets/kv/vault/secrets/DEMO"],
            "inPerson": False,
        },
    }
    bad: dict[str, Any] = {
        "a-list": [],
        "unknown-member": {**image, "extra": 1},
        "null-member": {"measurements": None},
        "empty-list": {"measurements": []},
        "empty-statuses": {"tcbStatuses": []},
        "measurement-incomplete": {"measurements": [{"mrtd": _REGISTERS["mrtd"]}]},
        "measurement-without-rtmr3": {"measurements": [no_rtmr3]},
        "measurement-with-unknown-register": {"measurements": [_REGISTERS | {"rtmr4": "00" * 48}]},
        "measurement-short": {"measurements": [_REGISTERS | {"mrtd": "00" * 47}]},
        "measurement-upper-case": {"measurements": [_REGISTERS | {"mrtd": "AB" * 48}]},
        "five-sets": {"measurements": {name: [value] for name, value in _REGISTERS.items()}},
        "revoked": {"tcbStatuses": ["Revoked"]},
        "unknown-status": {"tcbStatuses": ["Fine"]},
        "out-of-date-without-grace": {"tcbStatuses": ["OutOfDate"]},
        "number-as-text": {"maxAgeSeconds": "300"},
        "number-as-fraction": {"maxAgeSeconds": 300.5},
        "number-as-truth": {"minEvaluationNumber": True},
        "receiver-unknown": {"receiver": "any"},
        "path-of-another-service": {"paths": [f"tinycloud:{OWNER.did[4:]}:secrets/sql/a"]},
        "path-of-no-resource": {"paths": ["vault/secrets/DEMO"]},
        "in-person-as-text": {"inPerson": "false"},
        "provider-none": {"keyProviders": ["none"]},
        "provider-unknown": {"keyProviders": ["vault"]},
        "provider-local-without-id": {"keyProviders": ["local-sgx"]},
        "provider-with-empty-id": {"keyProviders": ["kms:"]},
        "provider-upper-case": {"keyProviders": ["kms:0A"]},
        "too-many-images": {"measurements": [_REGISTERS] * 65},
    }
    cases: list[Case] = [
        {"name": name, "rules": ["RL8"], "policy": policy, "expect": {"canonical_round_trip": True}}
        for name, policy in good.items()
    ]
    cases += [
        {
            "name": f"{name}_fail",
            "rules": ["RL8"],
            "policy": policy,
            "expect": {"code": "invalid-policy"},
        }
        for name, policy in bad.items()
    ]
    return cases + _judgements(image)


def _judgements(image: Mapping[str, Any]) -> list[Case]:
    hardening = {"tcb_status": "SWHardeningNeeded", "advisories": ["INTEL-SA-00615"]}
    outdated = {"tcb_status": "OutOfDate", "tcb_date": NOW - 100}
    no_rtmr3 = {name: value for name, value in _REGISTERS.items() if name != "rtmr3"}
    composed = {"measurements": [no_rtmr3], "composeHashes": ["ab" * 32]}
    table: list[tuple[str, Mapping[str, Any], Mapping[str, Any], str | None, str]] = [
        ("approved-image", image, {}, None, "RL10"),
        ("one-of-two-images", {"measurements": [_OTHER_REGISTERS, _REGISTERS]}, {}, None, "RL10"),
        ("other-image", {"measurements": [_OTHER_REGISTERS]}, {}, "measurement", "RL10"),
        (
            "mixed-image",
            {"measurements": [_OTHER_REGISTERS | {"mrtd": _REGISTERS["mrtd"]}]},
            {},
            "measurement",
            "RL10",
        ),
        ("approved-compose-hash", composed, {"compose_hash": "ab" * 32}, None, "RL10"),
        ("other-compose-hash", composed, {"compose_hash": "cd" * 32}, "measurement", "RL10"),
        ("no-compose-hash", composed, {}, "measurement", "RL10"),
        (
            "provider-by-kind",
            {**image, "keyProviders": ["kms"]},
            {"key_provider": "kms:0a"},
            None,
            "RL8",
        ),
        (
            "provider-by-id",
            {**image, "keyProviders": ["kms:0a"]},
            {"key_provider": "kms:0a"},
            None,
            "RL8",
        ),
        (
            "other-provider",
            {**image, "keyProviders": ["kms:0a"]},
            {"key_provider": "kms:0b"},
            "key_provider",
            "RL8",
        ),
        (
            "provider-without-id",
            {**image, "keyProviders": ["kms:0a"]},
            {"key_provider": "kms"},
            "key_provider",
            "RL8",
        ),
        ("provider-not-told", {**image, "keyProviders": ["kms"]}, {}, "key_provider", "RL8"),
        ("other-attributes", image, {"td_attributes": "0000001080000000"}, "attributes", "RL8"),
        (
            "named-attributes",
            {**image, "tdAttributes": ["0000001080000000"]},
            {"td_attributes": "0000001080000000"},
            None,
            "RL8",
        ),
        ("listed-platform", {**image, "platformIds": ["11" * 32]}, {}, None, "RL8"),
        ("other-platform", {**image, "platformIds": ["22" * 32]}, {}, "platform", "RL8"),
        (
            "platform-not-told",
            {**image, "platformIds": ["11" * 32]},
            {"platform_id_hash": None},
            "platform",
            "RL8",
        ),
        ("hardening-needed", image, hardening, "tcb_status", "RL11"),
        (
            "hardening-allowed-advisory-not",
            {**image, "tcbStatuses": ["SWHardeningNeeded", "UpToDate"]},
            hardening,
            "advisory",
            "RL11",
        ),
        (
            "hardening-allowed-with-advisory",
            {
                **image,
                "tcbStatuses": ["SWHardeningNeeded", "UpToDate"],
                "advisories": ["INTEL-SA-00615"],
            },
            hardening,
            None,
            "RL11",
        ),
        (
            "advisory-beside-up-to-date",
            image,
            {"advisories": ["INTEL-SA-00615"]},
            "advisory",
            "RL11",
        ),
        ("notice-beside-up-to-date", image, {"advisories": ["INTEL-DOC-10000"]}, None, "RL11"),
        ("quoting-enclave-outdated", image, {"qe_status": "OutOfDate"}, "tcb_status", "RL11"),
        (
            "outdated-within-grace",
            {**image, "tcbStatuses": ["UpToDate", "OutOfDate"], "tcbGraceSeconds": 100},
            outdated,
            None,
            "RL11",
        ),
        (
            "outdated-after-grace",
            {**image, "tcbStatuses": ["UpToDate", "OutOfDate"], "tcbGraceSeconds": 99},
            outdated,
            "tcb_status",
            "RL11",
        ),
        ("evaluation-number-below", {**image, "minEvaluationNumber": 19}, {}, "evaluation", "RL8"),
        ("evaluation-number-equal", {**image, "minEvaluationNumber": 18}, {}, None, "RL8"),
        ("old-evidence", {**image, "maxAgeSeconds": 59}, {}, "age", "RL8"),
        ("fresh-evidence", {**image, "maxAgeSeconds": 60}, {}, None, "RL8"),
        ("ended-evidence", image, {"expires_at": NOW}, "evidence_expired", "RL13"),
        ("any-receiver", image, {"receiver_mode": "signed"}, "receiver", "RL7"),
        (
            "any-receiver-allowed",
            {**image, "receiver": "signed"},
            {"receiver_mode": "signed"},
            None,
            "RL7",
        ),
    ]
    return [
        {
            "name": f"judge-{name}" + ("_fail" if refusal else ""),
            "rules": [rule],
            "now": NOW,
            "policy": dict(policy),
            "evidence": dict(changes),
            "expect": {"refusal": refusal},
        }
        for name, policy, changes, refusal, rule in table
    ]


def _evidence() -> dict[str, Any]:
    return {
        "invoker": OWNER.did,
        "receiver_public_key": public_of(RECEIVER).hex(),
        "receiver_mode": "attested",
        **_REGISTERS,
        "mr_config_id": "00" * 48,
        "mr_owner": "00" * 48,
        "mr_owner_config": "00" * 48,
        "td_attributes": "0000001000000000",
        "xfam": "e702060000000000",
        "tee_tcb_svn": "05010400000000000000000000000000",
        "mr_seam": "33" * 48,
        "tcb_status": "UpToDate",
        "qe_status": "UpToDate",
        "advisories": [],
        "evaluation_number": 18,
        "tcb_date": NOW - 86_400,
        "fmspc": "b0c06f000000",
        "platform_id_hash": "11" * 32,
        "root_ca_sha256": "44" * 32,
        "quote_sha256": "55" * 32,
        "collateral_sha256": "66" * 32,
        "attested_at": NOW - 60,
        "expires_at": NOW + 540,
        "compose_hash": None,
        "app_id": None,
        "key_provider": None,
    }
