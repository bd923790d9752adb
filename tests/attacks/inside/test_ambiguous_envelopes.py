"""Envelopes at a policy's path that two parsers could read as two different keys (RL19)."""

import json
import tracemalloc

import pytest
from tests_support import CountingEntropy

from capabilities.principals import parse_principal
from capabilities.resources import network_id
from encryption_network.envelope import encode_envelope, parse_envelope, seal_envelope
from encryption_network.keyring import Keyring
from encryption_network.network_errors import EnvelopeError
from encryption_network.networks import create_network, descriptor_json, parse_descriptor
from node.operations.values.sealed_values import (
    MOST_ENVELOPE_BYTES,
    NO_ENVELOPE,
    find_sealed_key,
    key_digest,
    sealed_key_of,
)
from spaces.values.value_bodies import inline_body

KEY, HASH = "encryptedSymmetricKey", "encryptedSymmetricKeyHash"


def sealed(seed: bytes) -> dict[str, object]:
    """An envelope as a client writes it."""
    entropy = CountingEntropy(seed)
    owner = parse_principal("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    network = create_network(
        network_id(owner, "default"), now=0.0, keyring=Keyring(b"k" * 32), entropy=entropy
    )
    descriptor = parse_descriptor(descriptor_json(network, "did:key:node"))
    value: dict[str, object] = json.loads(
        encode_envelope(seal_envelope(descriptor, b"secret", entropy))
    )
    return value


HONEST, OTHER = sealed(b"honest"), sealed(b"other")


def text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def spelled(name: str) -> str:
    return '"' + "".join(f"\\u{ord(sign):04x}" for sign in name) + '"'


def members(*pairs: tuple[str, object], last: dict[str, object] = HONEST) -> str:
    """An envelope with members before its own."""
    before = "".join(f"{name}:{text(value)}," for name, value in pairs)
    return "{" + before + text(last)[1:]


@pytest.mark.parametrize(
    "body",
    [
        members((f'"{KEY}"', OTHER[KEY]), (f'"{HASH}"', OTHER[HASH])),
        members((f'"{KEY}"', OTHER[KEY])),
        members((spelled(KEY), OTHER[KEY]), (spelled(HASH), OTHER[HASH])),
        members(('"x"', OTHER), ('"y"', [OTHER, text(OTHER)])),
        text([OTHER, HONEST]),
        text({"envelope": HONEST}),
        text(HONEST) + text(OTHER),
        text(HONEST)[:-1]
        + f",{spelled(KEY)}:{text(OTHER[KEY])},{spelled(HASH)}:{text(OTHER[HASH])}"
        + "}",
        text(HONEST)[:-1] + f',"{KEY}\\u0000":{text(OTHER[KEY])}' + "}",
        "\ufeff" + text(HONEST),
        text({**HONEST, "v": 2}),
        text({**HONEST, "v": True}),
        text({**HONEST, "v": 1.0}),
        text({**HONEST, KEY: [HONEST[KEY]]}),
        text({**HONEST, KEY: str(HONEST[KEY]) + "\n"}),
        text({**HONEST, HASH: str(HONEST[HASH]).upper()}),
        text({**HONEST, "pad": [[]] * 10}).replace("[]", "[" * 400 + "]" * 400),
    ],
)
def test_a_note_says_what_every_reader_reads(body: str) -> None:
    """An envelope with repeated members gets no note, or a note of the key that all readers find
    (RL19)."""
    data = body.encode()
    noted = sealed_key_of(inline_body(data))
    if noted == NO_ENVELOPE:
        return
    assert noted == key_digest(json.loads(body)[KEY])
    try:
        strict = parse_envelope(data)
    except EnvelopeError:
        return
    assert noted == key_digest(strict.encrypted_symmetric_key)


def test_another_spelling_of_a_wrapped_key_is_another_key() -> None:
    """A wrapped key in another base64 spelling is rejected (RL19)."""
    wrapped = str(HONEST[KEY])
    for other in (wrapped + "\n", wrapped + "=", wrapped.replace("+", "-").replace("/", "_"), ""):
        assert key_digest(other) != key_digest(wrapped)


@pytest.mark.parametrize("member", ["networkId", "keyVersion"])
@pytest.mark.parametrize("item", ["[]", "{}"])
def test_RL19_members_of_another_type_cost_little(member: str, item: str) -> None:
    """A value of 2 MiB whose network or version is a long list is read without making its items.

    With them, one put took 45 MB and stopped all other requests for 0.6 s.
    """
    long_list = "[" + f"{item}," * (MOST_ENVELOPE_BYTES // 3 - 1000) + item + "]"
    stated = {name: value for name, value in HONEST.items() if name != member}
    data = f'{{"{member}":{long_list},{text(stated)[1:]}'.encode()
    assert MOST_ENVELOPE_BYTES - 4096 < len(data) <= MOST_ENVELOPE_BYTES
    tracemalloc.start()
    try:
        found = find_sealed_key(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert peak_bytes < 3 * len(data)
    assert (found.network == "") == (member == "networkId")
    assert found.key_version == (None if member == "keyVersion" else 1)
