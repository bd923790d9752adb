"""WebAssembly programs for tasks, and the key to which their results are encrypted."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from capabilities.strict_base64 import encode_standard
from sealspace.documents.iexec_results import decrypt_result

COMPUTED = json.dumps({"deterministic-output-path": "/iexec_out/result.txt"})

_HEAD = """
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $asizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (data (i32.const 1024) "result.txt")
  (data (i32.const 1056) "computed.json")
  (data (i32.const 1088) "{computed}")
  (data (i32.const 1536) "{dataset}")
  (data (i32.const 1664) "{name}")
  (func $put (param $name i32) (param $length i32) (param $from i32) (param $size i32)
    (if (call $open (i32.const 4) (i32.const 0) (local.get $name) (local.get $length)
      (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 100)) (then unreachable))
    (i32.store (i32.const 104) (local.get $from))
    (i32.store (i32.const 108) (local.get $size))
    (drop (call $write (i32.load (i32.const 100)) (i32.const 104) (i32.const 1) (i32.const 112)))
    (drop (call $close (i32.load (i32.const 100)))))
  (func (export "_start") (local $end i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 16384) (i32.const 65536)))
    (local.set $end (i32.add (i32.const 65536) (i32.load (i32.const 4))))
    (drop (call $asizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 16384) (local.get $end)))
    (local.set $end (i32.add (local.get $end) (i32.load (i32.const 4))))
    (if (i32.const {dataset_length}) (then
      (if (call $open (i32.const 3) (i32.const 0) (i32.const 1536) (i32.const {dataset_length})
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 100))
        (then unreachable))
      (i32.store (i32.const 104) (local.get $end))
      (i32.store (i32.const 108) (i32.const 65536))
      (drop (call $read (i32.load (i32.const 100)) (i32.const 104) (i32.const 1) (i32.const 112)))
      (local.set $end (i32.add (local.get $end) (i32.load (i32.const 112))))))
    (i32.store (i32.const 8) (i32.const 1664))
    (i32.store (i32.const 12) (i32.const {name_length}))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
    (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 16)))
    (call $put (i32.const 1024) (i32.const 10) (i32.const 65536)
      (i32.sub (local.get $end) (i32.const 65536)))
    {loop}
    {trap}
    {writes_computed}))
"""


def reporting(
    name: str,
    *,
    dataset: str = "",
    computed: str | None = COMPUTED,
    endless: bool = False,
    traps: bool = False,
) -> str:
    """Return a program that writes its environment, arguments and data set to `result.txt`.

    It writes `name` to both streams. `computed` is the content of `computed.json`, or None for no
    such file. An endless program does not end after it has written `result.txt`, and another traps.
    """
    values = {
        "computed": (computed or "").replace('"', '\\"'),
        "dataset": dataset,
        "dataset_length": str(len(dataset)),
        "name": name,
        "name_length": str(len(name)),
        "loop": "(loop (br 0))" if endless else "",
        "trap": "unreachable" if traps else "",
        "writes_computed": ""
        if computed is None
        else "(call $put (i32.const 1056) (i32.const 13) (i32.const 1088)"
        f" (i32.const {len(computed)}))",
    }
    text = _HEAD
    for one, value in values.items():
        text = text.replace(f"{{{one}}}", value)
    return text


@cache
def _private_key(number: int) -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@dataclass
class ResultKey:
    """A beneficiary's key pair."""

    number: int = 0
    key: RSAPrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = _private_key(self.number)

    @property
    def secret(self) -> str:
        """Return the public key as iExec's client stores it."""
        public = self.key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return encode_standard(pem)

    @property
    def private_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def opened(self, sealed: bytes, folder: Path) -> dict[str, bytes]:
        """Decrypt a result, and return its files."""
        folder.mkdir(parents=True)
        file = folder / "result.zip"
        file.write_bytes(sealed)
        decrypt_result(file, self.private_pem, folder / "out")
        found = (one for one in (folder / "out").rglob("*") if one.is_file())
        return {str(one.relative_to(folder / "out")): one.read_bytes() for one in found}
