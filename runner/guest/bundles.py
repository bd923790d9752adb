"""Verification of provenance bundles in child processes (PV19).

A bundle is written by strangers, and verifying it parses certificates, proofs and timestamps. So
it happens in a process that sees one bundle alone, and has budgets as a compilation does.

Example:
    origin = await verifier.verify(bundle, sha256, root, payer, developer)
"""

import asyncio
import os
import signal
import time

import msgspec

from capabilities.limits import Rates
from sealspace.documents.builds import Origin
from tee_backend.messages import unpack_parts

from ..reasons import RunRefused
from ..shares import FairSemaphore, Payer
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


class BundleVerifier:
    """Verifies bundles, one at a time for known payers and one for unknown ones.

    Payers take turns (RN161).

    Attributes:
        forked: number of bundles that were given to a child.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._places = FairSemaphore(1, beside=True)
        self._spent = Rates[tuple[str, bool]]()
        self.forked = 0

    async def verify(
        self,
        bundle: bytes,
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
            RunRefused: `build-not-proven`, `runner-busy` or `runner-failed`.
        """
        # Counted separately, so that unknown payers cannot use up a developer's whole hour.
        account = (developer, payer.is_known)
        async with self._places.acquire(payer):
            spent_s = self._spent.spent(account, per_s=_BACK_PER_S, now=time.monotonic())
            if spent_s >= _DEVELOPER_S:
                raise RunRefused(
                    "runner-busy", "the developer's quota for verifying builds is used up"
                )
            used_s = list[float]()
            try:
                parts = await self._answer(sha256, bundle, root, used_s)
            except (OSError, ValueError) as failed:  # no descriptor is free, or a malformed answer
                raise RunRefused("runner-failed") from failed
            finally:
                self._spent.add(account, sum(used_s), per_s=_BACK_PER_S, now=time.monotonic())
        word, stated = parts
        if word:
            raise RunRefused("build-not-proven", stated.decode("utf-8", "replace"))
        try:
            return msgspec.json.decode(stated, type=Origin)
        except msgspec.DecodeError as malformed:
            raise RunRefused("runner-failed") from malformed

    async def _answer(
        self, sha256: str, bundle: bytes, root: bytes, used_s: list[float]
    ) -> list[bytes]:
        """Return the parts of the untrusted answer of a child that verifies a bundle.

        The CPU seconds of the child are appended to `used_s`, also if it fails.
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
                raise _unverified(ended) from ended
            finally:
                await asyncio.shield(self._pool.end_and_wait(child))
                used_s.append(child.cpu_s)
        finally:
            for file in files:
                os.close(file)
        return unpack_parts(bytes(answer), most=2)


def _unverified(ended: ChildEnded) -> RunRefused:
    """Return why a child ended without an answer."""
    if ended.late:  # the child did not exceed its processor time, so the machine is slow
        return RunRefused("runner-busy", f"verifying the build took longer than {_VERIFY_S:g} s")
    limit = _LIMITS.get(ended.signal)
    if limit is None:
        return RunRefused("runner-failed")
    return RunRefused("build-not-proven", f"verifying the build takes more than {limit}")
