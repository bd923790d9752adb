"""The portable form of a delegation."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, json_lines, shared_vectors

from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from sealspace.delegations import allow
from sealspace.errors import InvalidPortableDelegation
from sealspace.session import Grant, network_of_owner, read_grant, sign_message, space_of
from sealspace.wallets import new_wallet
from sealspace.wire.portable import (
    PortableDelegation,
    decode_bundle,
    decode_portable,
    encode_bundle,
    encode_portable,
    grant_of,
    portable_of,
)

AGENT = Ed25519Signer(bytes(32))
WALLET = new_wallet(entropy=CountingEntropy())
SECRETS = space_of(WALLET.did, "secrets").text
NETWORK = network_of_owner(WALLET.did).text


def portable(*, owner: str = WALLET.did) -> PortableDelegation:
    grant = read_grant(
        sign_message(
            WALLET,
            CountingEntropy(),
            domain="app.example",
            uri=AGENT.did,
            issued_at=1_795_000_000,
            expires_at=1_795_000_600,
            capabilities=[
                allow(f"{SECRETS}/kv/vault/secrets/API_KEY", "tinycloud.kv/get"),
                allow(NETWORK, "tinycloud.encryption/decrypt"),
            ],
        )
    )
    return portable_of(grant, owner=Principal(owner), host="http://127.0.0.1:1")


def test_the_form_is_the_one_other_clients_read() -> None:
    """The portable form has all members, and the flat ones that repeat the first resource."""
    written = json.loads(encode_portable(portable()))
    header = written.pop("delegationHeader")["Authorization"]
    assert portable().header == header
    assert {
        "cid": portable().cid,
        "spaceId": SECRETS,
        "path": "vault/secrets/API_KEY",
        "actions": ["tinycloud.kv/get"],
        "resources": [
            {
                "service": "kv",
                "space": SECRETS,
                "path": "vault/secrets/API_KEY",
                "actions": ["tinycloud.kv/get"],
            },
            {
                "service": "encryption",
                "space": "encryption",
                "path": NETWORK,
                "actions": ["tinycloud.encryption/decrypt"],
            },
        ],
        "disableSubDelegation": False,
        "expiry": "2026-11-18T11:16:40.000Z",
        "delegateDID": AGENT.did,
        "ownerAddress": WALLET.did.rpartition(":")[2],
        "chainId": 1,
        "host": "http://127.0.0.1:1",
    } == written


@pytest.mark.parametrize("owner", [WALLET.did, AGENT.did])
def test_what_is_read_is_what_was_written(owner: str) -> None:
    """A written delegation is read back unchanged, for a wallet and for a key as the owner."""
    one = portable(owner=owner)
    assert one == decode_portable(encode_portable(one))


def test_the_token_is_not_shown() -> None:
    """The representation of a portable delegation does not contain its token."""
    assert portable().header not in repr(portable())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_delegation_or_refused(data: bytes) -> None:
    """Any bytes are parsed as a delegation or refused."""
    with pytest.raises(InvalidPortableDelegation):
        decode_portable(data)


# --- recorded -------------------------------------------------------------------------------------


def recorded() -> list[tuple[str, str]]:
    """Return the recorded delegations of the other client's users to others, as they were posted,
    with their ids."""
    found = []
    for scenario in ("delegation", "sharing"):
        for one in json_lines(shared_vectors(f"wire/sdk-{scenario}.jsonl")):
            header = next(
                (value for name, value in one["request"]["headers"] if name == "authorization"),
                None,
            )
            answer = one["response"]["body"]
            if (
                one["request"]["path"] == "/delegate"
                and header
                and answer
                and answer.get("utf8", "").startswith("{")
            ):
                cid = json.loads(answer["utf8"]).get("cid")
                if cid is not None and "#" not in str(header):
                    found.append((str(header), str(cid)))
    return found


def as_other_clients_write_it(grant: Grant, cid: str, *, resources: bool) -> str:
    """Write the portable form of a recorded token as the protocol says, without the product's
    code."""
    rows: dict[str, list[str]] = {}
    for one in grant.capabilities:
        rows.setdefault(one.resource.text, []).append(one.ability)
    described = []
    for text, actions in rows.items():
        if text.startswith("urn:"):
            described.append(
                {"service": "encryption", "space": "encryption", "path": text, "actions": actions}
            )
            continue
        space, service, *path = text.split("/", 2)
        described.append(
            {"service": service, "space": space, "path": "".join(path), "actions": actions}
        )
    ends = datetime.fromtimestamp(grant.expires_at or 0, UTC).isoformat(timespec="milliseconds")
    form = {
        "cid": cid,
        "delegationHeader": {"Authorization": grant.header},
        "spaceId": described[0]["space"],
        "path": described[0]["path"],
        "actions": described[0]["actions"],
        **({"resources": described} if resources else {}),
        "disableSubDelegation": False,
        "expiry": ends.replace("+00:00", "Z"),
        "delegateDID": grant.delegate,
        "ownerAddress": str(described[0]["space"]).split(":")[4],
        "chainId": 1,
        "host": "https://node.example",
    }
    return json.dumps(form, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.shared
def test_recorded_grants_cross_byte_for_byte() -> None:
    """A recorded grant of another client matches its token, and is written again with the same
    bytes (MF14)."""
    compared = 0
    for header, cid in recorded():
        grant = read_grant(header)
        assert cid == grant.cid
        if any(one.ability == "tinycloud.space/host" for one in grant.capabilities):
            continue
        text = as_other_clients_write_it(grant, cid, resources=True)
        one = decode_portable(text.encode())
        assert grant == grant_of(one, now=(grant.expires_at or 1) - 1)
        assert text.encode() == encode_portable(one) == encode_bundle(decode_bundle(text.encode()))
        compared += 1
    assert compared > 20


@pytest.mark.shared
def test_recorded_grants_of_one_resource_are_read_without_the_list() -> None:
    """A recorded grant of one resource is read from the flat members alone (MF15)."""
    compared = 0
    for header, cid in recorded():
        grant = read_grant(header)
        if len({one.resource for one in grant.capabilities}) != 1:
            continue
        one = decode_portable(as_other_clients_write_it(grant, cid, resources=False).encode())
        if one.resources[0].service == grant.capabilities[0].resource.text.split("/")[1]:
            assert grant == grant_of(one, now=(grant.expires_at or 1) - 1)
            compared += 1
    assert compared > 5
