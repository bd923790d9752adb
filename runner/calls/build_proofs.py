"""Proofs that the active version of a project is a build that an owner trusts (PV17 to PV22).

A run grant can name builds of a repository instead of the hash of a program. This module reads the
provenance bundle of the program, has it verified in a child process, compares what it proves with
the grant, and records the number of the workflow run, so that no older build is admitted later.

Example:
    rule = await proofs.prove(grant, rule, version_sha256, payer)
"""

import hashlib
import time
from collections.abc import Mapping
from typing import NamedTuple

from msgspec import to_builtins

from capabilities.cache import Recent
from capabilities.clock_and_entropy import SystemClock
from encryption_network.canonical_json import canonical_bytes
from sealspace.documents.builds import Origin, TrustedBuilds, require_trusted
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import ByBuilds, ByHash, RunGrant
from sealspace.errors import ProvenanceInvalid
from serving.shares import Payer

from ..guest.bundles import BundleVerifier
from ..reasons import Reason, RunRefused
from .journal import BuildRecord, BuildRuleKey, Journal
from .published_programs import PublishedPrograms

_MOST_REMEMBERED = 1024
_FAILED_S = 60.0
"""How long a bundle that proves nothing is not read again, in seconds."""


class _BundleKey(NamedTuple):
    """The bundle of a program, and the trusted root by which it is verified."""

    project: ProjectId
    sha256: str
    root_sha256: str


class _Failure(NamedTuple):
    """Why a bundle proves nothing, and the monotonic time at which that was found."""

    failed_at: float
    reason: Reason


class BuildProofs:
    """Proves the builds of programs, and remembers what was proven.

    Args:
        programs: reads the bundles.
        verifier: verifies them.
        journal: remembers the latest build of each rule.
        roots: the trusted roots that the operator provides, by their SHA-256.
    """

    def __init__(
        self,
        programs: PublishedPrograms,
        verifier: BundleVerifier,
        journal: Journal,
        roots: Mapping[str, bytes],
    ) -> None:
        self._programs = programs
        self._verifier = verifier
        self._journal = journal
        self.roots = roots
        self._origins = Recent[_BundleKey, Origin](_MOST_REMEMBERED)
        # Known and unknown payers are remembered separately, as for compilations (RN165).
        self._failures = Recent[tuple[_BundleKey, bool], _Failure](_MOST_REMEMBERED)

    async def prove(self, grant: RunGrant, rule: ByBuilds, sha256: str, payer: Payer) -> ByHash:
        """Return a rule for a program that is proven to be a build which a grant admits.

        Args:
            grant: a live grant whose condition admits the caller.
            rule: its rule. The program is the active version of the project, and has the target.
            sha256: hash of the program, 64 lower-case hex digits.
            payer: whose turn the verification takes.
        Raises:
            RunRefused: `build-not-proven`: the bundle proves nothing, or a build that the rule does
                not admit, or a later build was admitted before. `builds-full`: the build cannot be
                recorded. `runner-busy` or `runner-failed`:
                the bundle could not be verified now.
        """
        builds = rule.builds
        bundle = _BundleKey(project=rule.project, sha256=sha256, root_sha256=builds.trusted_root)
        origin = await self._prove_origin(bundle, payer)
        try:
            require_trusted(origin, builds)
        except ProvenanceInvalid as invalid:
            raise RunRefused("build-not-proven", invalid.message) from invalid
        # PV21: before a secret is read, so that a runner that ends here admits nothing older later
        recorded = await self._journal.record_build(
            _rule_key(grant, rule),
            origin.number,
            sha256,
            ends_at=grant.expires_at,
            now=SystemClock.now(),
        )
        if recorded is BuildRecord.NO_ROOM:
            raise RunRefused(
                "builds-full",
                "no further rule for builds of this owner can be recorded until grants to builds"
                " have ended; next: grant this program by its hash, or use another runner",
            )
        if recorded is BuildRecord.SUPERSEDED:
            raise RunRefused(
                "build-not-proven",
                f"run {origin.run}, attempt {origin.attempt}: a later build was admitted before, or"
                " another program of this run",
            )
        return ByHash(sha256, project=rule.project, build=origin.build, is_proven=True)

    async def _prove_origin(self, bundle: _BundleKey, payer: Payer) -> Origin:
        """Return the origin that a bundle proves; remember it, or for a while that it failed."""
        origin = self._origins.get(bundle)
        if origin is not None:
            return origin
        failure = self._failures.get((bundle, payer.is_known))
        if failure is not None and time.monotonic() - failure.failed_at < _FAILED_S:
            raise RunRefused(failure.reason.code, failure.reason.detail)
        try:
            origin = await self._verify(bundle, payer)
        except RunRefused as refused:
            # Other reasons, such as a busy runner, say nothing about the bundle.
            if refused.reason.code == "build-not-proven":
                failure = _Failure(failed_at=time.monotonic(), reason=refused.reason)
                self._failures.put((bundle, payer.is_known), failure)
            raise
        self._origins.put(bundle, origin)
        return origin

    async def _verify(self, bundle: _BundleKey, payer: Payer) -> Origin:
        """Read and verify the bundle of a program, and return the origin that it proves.

        Raises:
            RunRefused: the runner has no such trusted root, the version has no bundle, or as
                `BundleVerifier.verify`.
        """
        root = self.roots.get(bundle.root_sha256)
        if root is None:  # PV18: the operator has replaced it since the grant was delivered
            raise RunRefused(
                "build-not-proven",
                f"the runner does not have the trusted root {bundle.root_sha256} of the grant; its"
                " owner has to grant again",
            )
        data = await self._programs.provenance(bundle.project, bundle.sha256)
        if data is None:
            raise RunRefused("build-not-proven", "the version has no provenance bundle")
        return await self._verifier.verify(
            data,
            sha256=bundle.sha256,
            root=root,
            payer=payer,
            developer=bundle.project.developer,
        )


def _rule_key(grant: RunGrant, rule: ByBuilds) -> BuildRuleKey:
    """Return the name of a rule in the journal (PV21).

    The trusted root and the first run are left out, so that a later grant of the same builds goes
    on with the number of the former one.
    """
    builds = to_builtins(rule.builds)
    for name in ("trustedRoot", "leastRun", "leastAttempt"):
        del builds[name]
    rule_json = [grant.owner, rule.project.text, builds]
    return BuildRuleKey(
        owner=hashlib.sha256(grant.owner.encode()).digest(),
        digest=hashlib.sha256(canonical_bytes(rule_json)).digest(),
    )


def missing_root(builds: TrustedBuilds, roots: Mapping[str, bytes]) -> str:
    """Return why a runner cannot verify the builds of a grant, or an empty text (PV18)."""
    if builds.trusted_root in roots:
        return ""
    known = ", ".join(sorted(roots)) or "none"
    return (
        f"the grant names the trusted root {builds.trusted_root}, which this runner does not have;"
        f" it has: {known}"
    )
