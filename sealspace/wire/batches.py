"""Several values in one request: how they are packed, and what the answers say (J9)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from capabilities.ambient import Entropy

from ..errors import BatchIncomplete, MalformedAnswer, SealspaceError
from .answers import decoded
from .transport import Answer, path_segment

MOST_READS: Final = 100
MOST_WRITES: Final = 250
"""What a node takes in one token."""

MAX_SMALL_BYTES: Final = 64 * 1024
"""A larger value is written by itself: a node keeps it beside its commits, of which each has a bound of rows."""

_MAX_VALUES_BYTES: Final = 4 * 1024 * 1024  # a node's commit holds twice as much, metadata included
_MAX_KEYS_BYTES: Final = 96 * 1024  # keys stand in the token, and a node reads a header line of 384 KiB
_PER_CAPABILITY_BYTES: Final = 160  # the space and the ability beside each key, at most


@dataclass(frozen=True, slots=True)
class Part:
    """A value to be written: its key, checked already, its bytes, and the headers of content type and metadata."""

    key: str
    body: bytes
    headers: Mapping[str, str]


def packed_keys(keys: Iterable[str], most: int) -> list[tuple[str, ...]]:
    """Divide keys, each once, into requests that a node takes."""
    packs: list[list[str]] = [[]]
    size_bytes = 0
    for key in dict.fromkeys(keys):
        key_bytes = len(key.encode()) + _PER_CAPABILITY_BYTES
        if packs[-1] and (len(packs[-1]) == most or size_bytes + key_bytes > _MAX_KEYS_BYTES):
            packs.append([])
            size_bytes = 0
        packs[-1].append(key)
        size_bytes += key_bytes
    return [tuple(pack) for pack in packs if pack]


def packed_parts(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Divide values into commits that a node takes: small ones together, each large one by itself, in this order."""
    small = {part.key: part for part in parts if len(part.body) <= MAX_SMALL_BYTES}
    packs: list[tuple[Part, ...]] = []
    for keys in packed_keys(small, MOST_WRITES):
        pack: list[Part] = []
        size_bytes = 0
        for part in (small[key] for key in keys):
            if pack and size_bytes + len(part.body) > _MAX_VALUES_BYTES:
                packs.append(tuple(pack))
                pack, size_bytes = [], 0
            pack.append(part)
            size_bytes += len(part.body)
        packs.append(tuple(pack))
    return packs + [(part,) for part in parts if part.key not in small]


async def in_order(packs: Sequence[Sequence[str]], write: Callable[[int], Awaitable[None]]) -> None:
    """Await the write of each pack of keys, by its number.

    Raises:
        BatchIncomplete: a write failed after others were done; where the first fails, its own error.
    """
    done: list[str] = []
    for number, keys in enumerate(packs):
        try:
            await write(number)
        except SealspaceError as exc:
            if not done:
                raise
            left = [key for pack in packs[number:] for key in pack]
            raise BatchIncomplete(exc, done=tuple(done), left=tuple(left)) from exc
        done += keys


def multipart(parts: Sequence[Part], entropy: Entropy) -> tuple[bytes, str]:
    """Return a form with one part for each value, and its content type; a key is percent-encoded once more."""
    boundary = entropy.token(24).hex()
    pieces: list[bytes] = []
    for part in parts:
        name = f'Content-Disposition: form-data; name="{path_segment(part.key)}"'
        lines = [f"--{boundary}", name, *(f"{header}: {text}" for header, text in part.headers.items()), "", ""]
        pieces += ["\r\n".join(lines).encode("ascii"), part.body, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"


class _Written(msgspec.Struct):
    written: list[str]
    count: int


class _Error(msgspec.Struct):
    code: str = ""


class _Read(msgspec.Struct, rename="camel"):
    key: str
    ok: bool
    data_base64: bytes = b""
    headers: dict[str, str] = {}
    error: _Error | None = None


class _Results(msgspec.Struct):
    results: list[_Read]


_WRITTEN: Final = msgspec.json.Decoder(_Written)
_RESULTS: Final = msgspec.json.Decoder(_Results)
_ABSENT: Final = "KV_NOT_FOUND"


def require_written(answer: Answer, keys: Sequence[str]) -> None:
    """Check that a batch of puts wrote exactly what was asked for (J9); raises MalformedAnswer."""
    said = decoded(_WRITTEN, answer, "that to a batch")
    if said.count != len(keys) or sorted(said.written) != sorted(keys):
        raise MalformedAnswer(f"{answer.asked}: the node wrote other keys than were asked for")


def found_in(answer: Answer, keys: Sequence[str]) -> dict[str, Answer]:
    """Return what a batch read found, each value as the answer to a read of its own; absent ones are left out.

    Raises:
        MalformedAnswer: the node answers about other keys, or not at all about one.
    """
    results = decoded(_RESULTS, answer, "that to a batch").results
    if sorted(one.key for one in results) != sorted(keys):
        raise MalformedAnswer(f"{answer.asked}: the node read other keys than were asked for")
    found: dict[str, Answer] = {}
    for one in results:
        if one.ok:
            found[one.key] = Answer(200, CIMultiDictProxy(CIMultiDict(one.headers)), one.data_base64, one.key)
        elif one.error is None or one.error.code != _ABSENT:
            raise MalformedAnswer(f"{answer.asked}: the node says nothing usable about {one.key}")
    return {key: found[key] for key in dict.fromkeys(keys) if key in found}
