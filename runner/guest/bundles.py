"""Verification of provenance bundles in child processes (PV19).

A bundle is written by strangers, and verifying it parses certificates, proofs and timestamps. So
it happens in a process that sees one bundle alone, and has budgets as a compilation does.

Example:
    origin = await verifier.verify(
        bundle, sha256=sha256, root=root, payer=payer, developer=developer
    )
"""

import asyncio
import os
import signal
import time
from typing import NamedTuple

import msgspec

from capabilities.limits import Rates
from sealspace.documents.builds import Origin
from serving.messages import unpack_parts
from serving.shares import FairSemaphore, Payer

from ..reasons import RunRefused
from .child import ChildEnded
from .frames import MAX_BUNDLE_CPU_S, MAX_BUNDLE_DATA_BYTES
from .pool import Pool

_VERIFY_S = 60.0
"""Wall-clock timeout of a child, for a busy machine. Its CPU limit is shorter."""
_DEVELOPER_S = 300.0
"""Time that the bundles of one developer may take in an hour, in CPU seconds (PV19, as RN165)."""
_BACK_PER_S = _DEVELOPER_S / 3600
_MOST_ANSWER_BYTES = 8 * 1024
_LIMITS: dict[int, str] = {
    signal.SIGXCPU: f"{MAX_BUNDLE_CPU_S} s of processor time",
    signal.SIGABRT: f"{MAX_BUNDLE_DATA_BYTES >> 20} MiB of memory",
}
"""Limits of a verification by the signal that ends the child."""


class _Account(NamedTuple):
    """The hour of a developer that a verification uses.

    Known and unknown payers are counted separately, so that unknown ones cannot use up a
    developer's whole hour.
    """

    developer: str
    is_known_payer: bool


class BundleVerifier:
    """Verifies bundles, one at a time for known payers and one for unknown ones.

    Payers take turns (RN161).

    Attributes:
        forked: number of bundles that were given to a child.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._places = FairSemaphore(1, beside=True)
        self._spent_s = Rates[_Account]()
        self.forked = 0

    async def verify(
        self,
        bundle: bytes,
        *,
        sha256: str,
        root: bytes,
        payer: Payer,
        developer: str,
    ) -> Origin:
        """Return the origin of a program that a bundle proves.

        Args:
            bundle: the bundle, untrusted.
            sha256: hash of the program, 64 lower-case hex digits.
            root: the trusted root that the grant names.
            payer: decides in which order bundles are verified.
            developer: DID of the project's developer, whose hour the verification uses.
        Raises:
            RunRefused: `build-not-proven`: the bundle does not prove it, or is too costly to
                verify. `runner-busy`: the developer's hour is used up, or the machine is slow.
                `runner-failed`: the child failed, or gave a malformed answer.
        """
        account = _Account(developer=developer, is_known_payer=payer.is_known)
        async with self._places.acquire(payer):
            self._require_time_left(account)
            try:
                answer = await self._run_child(sha256, bundle, root, account)
            except (OSError, ValueError) as failed:  # no descriptor is free, or a malformed frame
                raise RunRefused("runner-failed") from failed
        return parse_answer(answer)

    def _require_time_left(self, account: _Account) -> None:
        """Raise RunRefused `runner-busy` if a developer's hour is used up."""
        spent_s = self._spent_s.spent(account, per_s=_BACK_PER_S, now=time.monotonic())
        if spent_s >= _DEVELOPER_S:
            raise RunRefused("runner-busy", "the developer's quota for verifying builds is used up")

    async def _run_child(self, sha256: str, bundle: bytes, root: bytes, account: _Account) -> bytes:
        """Verify a bundle in a child, and return the untrusted answer of the child.

        The CPU seconds of the child count on the account, also if it fails.

        Raises:
            RunRefused: the child ended without an answer.
            OSError: no descriptor is free.
        """
        self.forked += 1
        files = [os.memfd_create("bundle"), os.memfd_create("root")]
        try:
            for file, data in zip(files, (bundle, root), strict=True):
                with open(file, "wb", closefd=False) as stream:  # noqa: ASYNC230  # it is in memory
                    stream.write(data)
            child = await self._pool.start("_provenance_child")
            try:
                answer = await child.request(
                    sha256.encode(), files, most_bytes=_MOST_ANSWER_BYTES, within_s=_VERIFY_S
                )
            except ChildEnded as ended:
                raise _refusal_of_ended_child(ended) from ended
            finally:
                # Its CPU time is complete only after its end.
                await asyncio.shield(self._pool.end_and_wait(child))
                self._spent_s.add(account, child.cpu_s, per_s=_BACK_PER_S, now=time.monotonic())
        finally:
            for file in files:
                os.close(file)
        return bytes(answer)


def parse_answer(answer: bytes) -> Origin:
    """Return the origin in the untrusted answer of a child.

    The answer has two parts: an empty one and the origin as JSON, or a text that is not empty and
    the reason why the bundle proves nothing.

    Raises:
        RunRefused: `build-not-proven`, the child refused the bundle; `runner-failed`, the answer is
            malformed.
    """
    try:
        refused, origin_or_reason = unpack_parts(answer, most=2)
    except ValueError as malformed:  # also another number of parts
        raise RunRefused("runner-failed") from malformed
    if refused:
        raise RunRefused("build-not-proven", origin_or_reason.decode("utf-8", "replace"))
    try:
        return msgspec.json.decode(origin_or_reason, type=Origin)
    except msgspec.DecodeError as malformed:
        raise RunRefused("runner-failed") from malformed


def _refusal_of_ended_child(ended: ChildEnded) -> RunRefused:
    """Return the refusal for a child that ended without an answer, by the cause of its end."""
    if ended.late:  # the child did not exceed its processor time, so the machine is slow
        return RunRefused("runner-busy", f"verifying the build took longer than {_VERIFY_S:g} s")
    limit = _LIMITS.get(ended.signal)
    if limit is None:
        return RunRefused("runner-failed")
    return RunRefused("build-not-proven", f"verifying the build takes more than {limit}")
