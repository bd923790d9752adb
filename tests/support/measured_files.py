"""Compose files and descriptions of images, as texts and bytes.

Example:
    compose = parse_compose(app_compose(), file="app-compose.json")
"""

import hashlib
import json
from typing import Any

DIGEST = "sha256:" + "ab" * 32
PINNED = f"services:\n  notes:\n    image: docker.io/acme/notes@{DIGEST}\n"


def app_compose(compose: str = PINNED, **members: Any) -> bytes:
    """Return an app-compose.json as dstack writes it."""
    whole = {
        "manifest_version": 2,
        "name": "notes",
        "runner": "docker-compose",
        "docker_compose_file": compose,
        "kms_enabled": True,
        "no_instance_id": False,
        "allowed_envs": [],
    }
    return json.dumps(whole | members).encode()


def cbor(value: Any) -> bytes:
    """Encode a value as the release of an image does."""
    match value:
        case int():
            return bytes([value])
        case bytes():
            return b"\x58" + bytes([len(value)]) + value
        case str():
            return bytes([0x60 + len(value)]) + value.encode()
        case list():
            return bytes([0x80 + len(value)]) + b"".join(map(cbor, value))
    items = b"".join(cbor(name) + cbor(member) for name, member in value.items())
    return bytes([0xA0 + len(value)]) + items


KERNEL, LINE, INITIAL, ONE, TWO = (bytes([number]) * 48 for number in range(1, 6))
DOCUMENT = {
    "version": 3,
    "image": {"kernel_authenticode": KERNEL, "cmdline_sha384": LINE, "initrd_sha384": INITIAL},
    "tdvf": {"mrtd": {"single_pass": ONE, "two_pass": TWO}, "td_hob": [1, 2]},
}


def checksums_of(document: bytes) -> bytes:
    """Return the list of checksums for a document."""
    listed = hashlib.sha256(document).hexdigest()
    return f"{'0' * 64}  rootfs.img\n{listed}  measurement.tdx.cbor\n".encode()
