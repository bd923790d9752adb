"""Separation of long request bodies in child processes (RN251).

20 MB of JSON take up to 2.5 s to check, and the checks hold the interpreter's lock. On the event
loop, or in a thread, they would delay every other caller by that long.

Example:
    members, given = await splitter.split(body, shape, payer, within_s=30.0)
"""

import asyncio
import os
import signal

import msgspec

from serving.messages import unpack_parts
from serving.shares import FairSemaphore, Payer

from ..reasons import RunRefused
from . import frames as _frames
from .body_split import MAX_BESIDE_INPUT_BYTES, BodyRefused, BodyShape, split_body
from .child import ChildEnded
from .pool import Pool

INLINE_BODY_BYTES = 32 * 1024
"""Longest body that is separated on the event loop. The slowest one takes 3 ms there, and a child
takes about 20 ms to start."""
_SPLIT_S = 60.0
"""Wall-clock timeout of a child, for a busy machine. Its CPU limit is shorter."""
_MOST_ANSWER_BYTES = 2 * MAX_BESIDE_INPUT_BYTES + 64
"""Longest answer of a child without the input."""
_LIMITS: dict[int, str] = {
    signal.SIGXCPU: f"{_frames.MAX_BODY_CPU_S} s of processor time",
    signal.SIGABRT: f"{_frames.MAX_BODY_DATA_BYTES >> 20} MiB of memory",
}
"""Limits of a separation by the signal that ends the child."""


class BodySplitter:
    """Separates request bodies, one long one at a time for known payers and one for unknown ones.

    Payers take turns (RN161), so a payer with many long bodies delays another one by one body.

    Attributes:
        forked: number of bodies that were given to a child.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._places = FairSemaphore(1, beside=True)
        self.forked = 0

    async def split(
        self, data: bytes, shape: BodyShape, payer: Payer, *, within_s: float
    ) -> tuple[bytes, bytes]:
        """Separate an untrusted request body as `split_body` does.

        Args:
            data: the body.
            shape: the members that it may have.
            payer: decides in which order long bodies are separated.
            within_s: longest time to wait for a place.
        Raises:
            RunRefused: `input-too-large`, `request-invalid`, `runner-busy` or `runner-failed`.
        """
        try:
            # RN251: a body that is too long is refused by its length alone, so it needs no child
            is_too_long = len(data) > shape.most_bytes
            if is_too_long or len(data) <= INLINE_BODY_BYTES:
                return split_body(data, shape)
            async with asyncio.timeout(within_s) as waiting, self._places.acquire(payer):
                waiting.reschedule(None)
                parts = await self._split_in_child(data, shape)
            if parts[0]:  # the code of a refusal; its detail follows
                raise BodyRefused(parts[0].decode(), parts[-1].decode("utf-8", "replace"))
            _, members, given = parts
            return members, given
        except TimeoutError as late:
            raise RunRefused("runner-busy") from late
        except BodyRefused as refused:
            raise RunRefused(refused.code, refused.detail) from refused
        except (OSError, ValueError) as failed:  # no descriptor is free, or a malformed answer
            raise RunRefused("runner-failed") from failed

    async def _split_in_child(self, data: bytes, shape: BodyShape) -> list[bytes]:
        """Return the parts of the untrusted answer with which a child separates a body."""
        self.forked += 1
        source = os.memfd_create("body")
        try:
            await asyncio.to_thread(_write, source, data)
            child = await self._pool.start("_body_child")
            try:
                answer = await child.request(
                    msgspec.json.encode(shape),
                    [source],
                    most_bytes=_MOST_ANSWER_BYTES + shape.most_input_bytes,
                    within_s=_SPLIT_S,
                )
            except ChildEnded as ended:
                if ended.late:
                    # The child did not exceed its limit of processor time, so the machine is slow.
                    raise RunRefused(
                        "runner-busy", f"checking the body took longer than {_SPLIT_S:g} s"
                    ) from ended
                limit = _LIMITS.get(ended.signal)
                if limit is not None:
                    raise BodyRefused(
                        "request-invalid", f"checking the body takes more than {limit}"
                    ) from ended
                raise RunRefused("runner-failed") from ended
            finally:
                self._pool.end(child)
        finally:
            os.close(source)
        return unpack_parts(bytes(answer), most=3)


def _write(file: int, data: bytes) -> None:
    with open(file, "wb", closefd=False) as stream:
        stream.write(data)
