"""Tests of opening a key: the answer, and refusals after the gate."""

import base64
import gc
import hashlib
from typing import Any

import pytest
from refusal_forms import on_invoke, on_route
from tests_support import CountingEntropy, altered, coded

from capabilities.principals import ed25519_public_key
from capabilities.signatures import verify_ed25519
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.gate import ReleasePermit, admit
from encryption_network.keyring import Keyring
from encryption_network.keywrap import open_wrapped, wrap
from encryption_network.network_errors import RequestError
from encryption_network.networks import private_key
from encryption_network.release import open_key


def admitted(world: Any, **changes: Any) -> ReleasePermit:
    """Return a permit for the owner's session, with the request's keys replaced."""
    request = world.request(world.session, [world.sign_in(world.session)])
    return admit(altered(request, decrypt=altered(request.decrypt, **changes)))


def test_the_answer_is_bound_and_signed(world: Any) -> None:
    """The receiver can open the answer, which names its request and is signed by the node."""
    permit = admitted(world)
    answer = open_key(permit, keyring=world.keyring, entropy=world.entropy)
    assert (
        open_wrapped(world.RECEIVER_SECRET, base64.b64decode(str(answer["wrappedKey"])))
        == world.CONTENT_KEY
    )
    assert answer["requestHash"] == permit.decrypt.request_hash
    assert answer["invocationCid"] == permit.decrypt.invocation_cid
    assert answer["receiverPublicKeyHash"] == canonical_hash(
        base64.b64encode(world.RECEIVER).decode()
    )
    signature = base64.b64decode(str(answer.pop("nodeSignature")))
    public_key = ed25519_public_key(world.keyring.node_did)
    assert public_key is not None
    verify_ed25519(public_key, canonical_bytes(answer), signature)


def test_each_answer_has_its_own_wrap(world: Any) -> None:
    """Each answer to the same request has another ephemeral key."""
    permit = admitted(world)
    answers = [open_key(permit, keyring=world.keyring, entropy=world.entropy) for _ in range(2)]
    assert answers[0]["wrappedKey"] != answers[1]["wrappedKey"]
    assert answers[0]["requestHash"] == answers[1]["requestHash"]


def test_no_key_stays_behind(world: Any) -> None:
    """After an answer no object of the process contains the private key or the content key."""
    content_key = CountingEntropy(b"in passing").token(32)
    wrapped = wrap(world.network.public_key, content_key, world.entropy)
    secrets = {
        hashlib.sha256(key).digest()
        for key in (content_key, private_key(world.network, world.keyring))
    }
    del content_key
    open_key(admitted(world, wrapped_key=wrapped), keyring=world.keyring, entropy=world.entropy)
    gc.unfreeze()  # containers from before the tests are searched too
    gc.collect()
    held = (item for known in gc.get_objects() for item in gc.get_referents(known))
    found = {
        hashlib.sha256(item).digest()
        for item in held
        if isinstance(item, bytes) and len(item) == 32
    }
    gc.freeze()
    assert len(found) > 1
    assert secrets.isdisjoint(found)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"wrapped_key": b""}, "invalid wrapped key envelope"),
        ({"wrapped_key": b"\x09" + bytes(31)}, "encrypted data too short"),
        ({"receiver_public_key": bytes(10)}, "invalid public key length"),
        ({"receiver_public_key": bytes(32)}, "low-order public key"),
        # Row 22 comes before row 23.
        ({"wrapped_key": b"", "receiver_public_key": bytes(10)}, "invalid wrapped key envelope"),
    ],
)
def test_keys_that_cannot_be_used(world: Any, changes: dict[str, Any], reason: str) -> None:
    """Wraps that do not open and low-order receiver keys are refused."""
    with pytest.raises(RequestError, check=coded("key-backend")) as caught:
        open_key(admitted(world, **changes), keyring=world.keyring, entropy=world.entropy)
    text = f"key backend error: {reason}"
    assert on_route(caught.value) == (500, text)
    assert on_invoke(caught.value) == (403, text)


def test_a_network_sealed_under_another_key_opens_nothing(world: Any) -> None:
    """A record with a swapped seal is refused before a key is wrapped."""
    sealed = world.keyring.seal(b"\x01" * 32, CountingEntropy())
    with pytest.raises(
        RequestError, check=coded("key-backend"), match="private key material unavailable"
    ):
        open_key(
            admitted(world, network=altered(world.network, sealed_private_key=sealed)),
            keyring=world.keyring,
            entropy=world.entropy,
        )


def test_only_the_node_that_was_asked_answers(world: Any) -> None:
    """A keyring of another node raises RuntimeError."""
    with pytest.raises(RuntimeError):
        open_key(admitted(world), keyring=Keyring(b"\x08" * 32), entropy=world.entropy)
