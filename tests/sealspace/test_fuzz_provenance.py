"""Fuzz tests of bundles and trusted roots: any change keeps the origin or raises
ProvenanceInvalid."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat import asn1
from fuzz_strategies import damaged_bytes, damaged_text, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from sigstore_authority import Deviations, SigstoreAuthority
from tests_support import fuzzed

from sealspace.apps.provenance import parse_trusted_root, require_build, verify_provenance
from sealspace.documents.builds import Build, repository_of
from sealspace.errors import InvalidInput, ProvenanceInvalid

AUTHORITY = SigstoreAuthority()
ROOT = parse_trusted_root(AUTHORITY.trusted_root)
PROGRAM = "5a" * 32
BUNDLES = [AUTHORITY.bundle(PROGRAM, log_version=version) for version in (1, 2)]
BUILD = verify_provenance(BUNDLES[0], PROGRAM, ROOT)
TEXTS = (*BUILD.__struct_fields__, "refs/heads/", "github.com", "@", "https://", "..")


def same_or_refused(data: bytes, root: Any = ROOT) -> None:
    with suppress(ProvenanceInvalid):
        assert verify_provenance(data, PROGRAM, root) == BUILD


def paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each member and element of a JSON value."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return
    for name, inner in pairs:
        yield (name,)
        yield from ((name, *more) for more in paths(inner))


PATHS = [(data, path) for data in BUNDLES for path in paths(json.loads(data))]
ROOT_PATHS = list(paths(json.loads(AUTHORITY.trusted_root)))


def replaced(data: bytes, path: tuple[str | int, ...], change: Any) -> bytes:
    """Return JSON text with the value at a path replaced by a function's result."""
    document = inner = json.loads(data)
    *parents, last = path
    for name in parents:
        inner = inner[name]
    new = change(inner[last])
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return json.dumps(document).encode()


def text_at(data: bytes, path: tuple[str | int, ...]) -> Any:
    value = json.loads(data)
    for name in path:
        value = value[name]
    return value


ENCODED = [
    (data, path)
    for data, path in PATHS
    if isinstance(text := text_at(data, path), str)
    and path[-1] not in ("mediaType", "payloadType", "envelope", "kind")
    and len(text) > 40
]


@fuzzed(0.5)
@given(damaged_bytes(*BUNDLES) | st.binary(max_size=200) | large_texts.map(str.encode))
def test_fuzz_any_bytes_are_the_same_bundle_or_none(data: bytes) -> None:
    """PV1 to PV10: any bytes are the same bundle or are refused."""
    same_or_refused(data)


@fuzzed(0.5)
@given(st.sampled_from(BUNDLES), st.integers(0, 1 << 20), st.integers(0, 255))
def test_fuzz_one_byte_of_a_bundle(data: bytes, at: int, byte: int) -> None:
    """PV1 to PV10: a bundle with one changed byte proves the same origin or is refused."""
    at %= len(data)
    same_or_refused(data[:at] + bytes([byte]) + data[at + 1 :])


@fuzzed(0.5)
@given(st.sampled_from(PATHS), json_values(*TEXTS) | st.just(...))
def test_fuzz_one_member_of_a_bundle(place: tuple[bytes, Any], value: Any) -> None:
    """PV1 to PV10: a bundle with one changed or missing member proves the same origin or is
    refused."""
    same_or_refused(replaced(*place, lambda _: value))


@fuzzed(0.5)
@given(st.sampled_from(ENCODED), st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8))
def test_fuzz_what_a_member_encodes(
    place: tuple[bytes, Any], at: int, removed: int, inserted: bytes
) -> None:
    """PV2: a bundle with a changed certificate, signature, proof or payload keeps its origin or is
    refused."""

    def change(text: str) -> str:
        data = b64decode(text)
        start = at % len(data)
        return b64encode(data[:start] + inserted + data[start + removed :]).decode()

    same_or_refused(replaced(*place, change))


def test_PV2_a_panic_of_the_library_is_a_refusal() -> None:
    """PV2: a trusted root with a name that is no UTF-8, at which a part of the library in Rust
    panics, is refused like any other one."""
    trusted = json.loads(AUTHORITY.trusted_root)
    for certificate in trusted["timestampAuthorities"][0]["certChain"]["certificates"]:
        der = b64decode(certificate["rawBytes"])
        assert b"stamp root" in der
        changed = der.replace(b"stamp root", b"\xff\xffamp root")
        certificate["rawBytes"] = b64encode(changed).decode()
    root = parse_trusted_root(json.dumps(trusted).encode())
    with pytest.raises(ProvenanceInvalid):
        verify_provenance(BUNDLES[1], PROGRAM, root)


@fuzzed(0.2)
@given(
    damaged_bytes(AUTHORITY.trusted_root)
    | st.builds(
        lambda path, value: replaced(AUTHORITY.trusted_root, path, lambda _: value),
        st.sampled_from(ROOT_PATHS),
        json_values(*TEXTS) | st.just(...),
    )
)
def test_fuzz_trusted_root(data: bytes) -> None:
    """PV2, PV3: a bundle under any changed trusted root proves the same origin or is refused."""
    with suppress(ProvenanceInvalid):
        root = parse_trusted_root(data)
        for one in BUNDLES:
            same_or_refused(one, root)


@fuzzed(0.2)
@given(
    st.dictionaries(
        st.sampled_from([8, 9, 11, 12, 13, 14, 15, 18, 20]),
        st.none() | st.binary(max_size=8) | st.text(max_size=8).map(asn1.encode_der),
        min_size=1,
        max_size=3,
    )
)
def test_fuzz_claims_of_a_certificate(claims: dict[int, bytes | None]) -> None:
    """PV6: a claim of any bytes is refused, or is a name that GitHub could give a workflow."""
    data = AUTHORITY.bundle(PROGRAM, deviations=Deviations(claims=claims))
    with suppress(ProvenanceInvalid):
        verify_provenance(data, PROGRAM, ROOT)


@fuzzed(0.2)
@given(
    st.sampled_from([9, 12, 13, 14, 15, 18]),
    damaged_text(
        "https://github.com/alice/project",
        "https://github.com/alice/project/.github/workflows/release.yml@refs/heads/main",
        BUILD.ref,
        BUILD.commit,
        BUILD.repository_id,
        most=4,
    ),
)
def test_fuzz_one_claim_of_a_certificate(arc: int, text: str) -> None:
    """PV9, PV10: an origin of another repository is never accepted as this one, whatever one claim
    says."""
    claims = {arc: asn1.encode_der(text)}
    data = AUTHORITY.bundle(PROGRAM, deviations=Deviations(claims=claims))
    with suppress(ProvenanceInvalid):
        build = verify_provenance(data, PROGRAM, ROOT)
        require_build(
            build, repository=BUILD.repository, ref=BUILD.ref, repository_id=BUILD.repository_id
        )
        assert build.repository == BUILD.repository
        assert build.ref == BUILD.ref
        assert build.workflow == BUILD.workflow


@fuzzed(0.2)
@given(
    damaged_text("github.com/alice/project", "https://github.com/a/b.git", most=8)
    | st.text(max_size=40)
)
def test_fuzz_repository_of(text: str) -> None:
    """Every address is converted to a host, an owner and a name."""
    with suppress(InvalidInput):
        host, owner, name = repository_of(text).split("/")
        assert host == "github.com" and owner.replace("-", "").isalnum() and name.isascii()


@fuzzed(0.2)
@given(st.fixed_dictionaries({name: st.text(max_size=30) for name in BUILD.__struct_fields__}))
def test_fuzz_require_build(parts: dict[str, str]) -> None:
    """PV11: a program with any origin is accepted only if the origin is the wanted one."""
    with suppress(ProvenanceInvalid):
        require_build(
            Build(**parts),
            repository=BUILD.repository,
            ref=BUILD.ref,
            repository_id=BUILD.repository_id,
        )
        assert parts["repository"] == BUILD.repository
        assert parts["ref"] == BUILD.ref
