"""The secrets of a run, and what the grants that they are read by allow (RN80 to RN86, RN213).

    judge the grants of all owners -> read all secrets -> narrow hosts, limits and storage

A secret is read only after the grants of all owners admit the call. So a call that one owner
refuses shows the node nothing about the secrets of another.

Example:
    reader = SecretReader(backend, judge, tags)
    found = RunSecrets(reader, body, request, limits=limits, hosts=hosts, has_storage=False)
    await found.gather(wanted, grants)
    found.values, found.limits
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import Principal
from sealspace.documents.builds import Build
from sealspace.documents.call_conditions import Call, Verdict
from sealspace.documents.run_grants import ByBuilds, ByHash, ProgramRule, RunGrant
from sealspace.documents.secret_names import SECRETS_SPACE, SecretName
from sealspace.errors import (
    DecryptDenied,
    DelegationRevoked,
    NotFound,
    NotGranted,
    PlaceMismatch,
    SealspaceError,
    Unauthorized,
    UnboundValue,
)
from sealspace.secrets import Secret, is_protected, parse_secret_name
from sealspace.session import Grant, space_of
from serving.shares import Payer
from tee_backend.backend import Backend
from tee_backend.evidence.evidence_errors import EvidenceSourceError

from ..guest.runs import MILLION, Limits, RunRequest
from ..reasons import RunRefused
from .build_proofs import BuildProofs
from .call_bodies import CallBody
from .grant_judging import ConditionJudge, applicable, choose, not_granted
from .reuse_scopes import ReadSecret
from .secret_tags import SecretTagKey
from .task_stages import Wanted, noting_missing, require_none_missing

_CHANGED = "changed, or made for another path or runner"
_log = logging.getLogger(__name__)


_Candidate = tuple[RunGrant, list[ProgramRule]]
"""A grant, with its rules for a program."""


class _Chosen(NamedTuple):
    """The grants for the secrets that a run needs of one owner.

    `call` is the call with that owner, and `by_name` has the grants of each secret, newest first.
    """

    call: Call
    wanted: Wanted
    by_name: Mapping[str, Sequence[RunGrant]]


class RunSecrets:
    """The secrets of one run, and what the grants that they are read by allow.

    Args:
        reader: judges grants and reads secrets.
        body: the call.
        request: the program and the payer.
        has_key: whether the call was made with an API key, whose holder is not its owner in person.
        limits: the limits of the runner and the call.
        hosts: the hosts in the program's manifest.
        has_storage: whether the developer granted storage to the project.
    Attributes:
        values: the secrets by the names of their variables.
        read: the same secrets, each with its owner and the grant that it was read by.
        limits: the smallest of each limit.
        hosts: the hosts that all grants allow.
        has_storage: whether all grants allow storage, too.
        builds: the origins of the program that the rules which admitted it state; None for a rule
            that states none.
        are_builds_proven: whether the runner verified the origin for each of these rules (PV20).
    """

    def __init__(
        self,
        reader: "SecretReader",
        body: CallBody,
        request: RunRequest,
        *,
        has_key: bool,
        limits: Limits,
        hosts: frozenset[str],
        has_storage: bool,
    ) -> None:
        self._reader = reader
        self._body = body
        self._payer = request.payer
        self._request = request
        self._wasm_sha256 = request.wasm_sha256
        self._has_key = has_key
        self._missing = list[int]()  # indexes of a task's secrets that are missing
        self.limits = limits
        self.hosts = hosts
        self.has_storage = has_storage
        self.values = dict[str, str]()
        self.read = list[ReadSecret]()
        self.builds = set[Build | None]()
        self.are_builds_proven = True

    async def gather(self, wanted: Sequence[Wanted], grants: Sequence[RunGrant]) -> None:
        """Judge the grants for all wanted secrets, then read the secrets.

        Args:
            wanted: the secrets that the run needs, of each owner.
            grants: the live run grants of all owners, newest first.
        Raises:
            RunRefused: an owner's grants do not admit the call, or a secret is missing or cannot be
                read. The detail is left out unless the caller may know it (RN81).
        """
        # RN213: the grants of all owners are judged before any secret is read
        chosen = await self._choose(wanted, grants)
        if not self._missing:  # otherwise the task is refused below, and no secret is read for it
            for one in chosen:
                await self._read(one)
        require_none_missing(self._missing)

    async def _choose(self, wanted: Sequence[Wanted], grants: Sequence[RunGrant]) -> list[_Chosen]:
        """Judge the grants of all owners, and return those that admit the call."""
        call = Call(
            caller=self._payer.did,
            owner=self._payer.did,
            wasm_sha256=self._wasm_sha256,
            now=SystemClock.now(),
        )
        chosen = list[_Chosen]()
        verdicts = dict[str, Verdict]()
        for one in wanted:
            of_owner = replace(call, owner=one.owner)
            with self._hiding_details_of(one.owner), noting_missing(one, self._missing):
                by_name = await self._reader.choose_grants(
                    grants, of_owner, self._body, one, self._request, verdicts
                )
                chosen.append(_Chosen(call=of_owner, wanted=one, by_name=by_name))
        return chosen

    async def _read(self, chosen: _Chosen) -> None:
        """Read the secrets of one owner, and narrow what the run may do."""
        wanted = chosen.wanted
        with self._hiding_details_of(wanted.owner), noting_missing(wanted, self._missing):
            values = await self._reader.read(chosen.call, chosen.by_name, wanted)
            for name, (grant, value) in values.items():
                self._add(wanted.variables or (name,), value, grant)

    def _add(self, variables: Sequence[str], value: str, grant: RunGrant) -> None:
        """Add a secret, and narrow what the run may do to what the secret's grant allows."""
        for variable in variables:
            self.values[variable] = value
        self.read.append(
            ReadSecret(
                owner=grant.owner, variables=tuple(variables), value=value, grant=grant.header
            )
        )
        statement = grant.statement
        body = self._body
        for rule in statement.rules_for(self._wasm_sha256, body.project, body.active_of):
            self.builds.add(rule.build if isinstance(rule, ByHash) else None)
            if not (isinstance(rule, ByHash) and rule.is_proven):
                self.are_builds_proven = False
        # RN103: a run may contact only hosts that the grant of every secret allows
        self.hosts &= frozenset(statement.hosts)
        # RN207: otherwise a caller could choose the project that keeps the values
        if not any(rule.project == body.project for rule in statement.programs):
            self.has_storage = False
        self.limits = capped(self.limits, asdict(statement.limits))

    @contextmanager
    def _hiding_details_of(self, owner: Principal) -> Iterator[None]:
        """Leave the detail out of a refusal unless the caller may know it (RN81).

        Details name secrets, and are for their owner in person, not for key holders. Details of a
        task name nothing that its request does not, except for one that says what is wrong with a
        stored value (RN266).
        """
        try:
            yield
        except RunRefused as refused:
            code = refused.reason.code
            is_owner_in_person = owner == self._payer.did and not self._has_key
            is_for_owner = self._body.task is None or code == "secret-not-bound"
            if is_for_owner and not is_owner_in_person:
                raise RunRefused(code) from refused
            raise


@dataclass(eq=False, repr=False)
class SecretReader:
    """Chooses among the grants that a runner holds, and reads secrets by them."""

    backend: Backend
    judge: ConditionJudge
    tags: SecretTagKey
    proofs: BuildProofs

    async def choose_grants(
        self,
        grants: Sequence[RunGrant],
        call: Call,
        body: CallBody,
        wanted: Wanted,
        request: RunRequest,
        verdicts: dict[str, Verdict],
    ) -> Mapping[str, Sequence[RunGrant]]:
        """Judge the grants of an owner, and choose among them as `choose` does.

        `verdicts` has the verdict of each grant that was judged for this call, by the grant's text.
        It is filled here, so that no grant is judged twice for a call (RN250).
        """
        candidates = applicable(grants, call, body, wanted, request.target)
        if not candidates:  # AT61: the delivery of a grant may have been refused
            self.backend.look_for(wanted.owner)
        for grant, _ in candidates:
            if grant.header not in verdicts:
                condition = grant.statement.callers
                verdicts[grant.header] = await self.judge.verdict(condition, call, request.payer)
        candidates = await self._proven(candidates, verdicts, call, request.payer)
        return choose(candidates, verdicts, call, wanted)

    async def _proven(
        self,
        candidates: Sequence[_Candidate],
        verdicts: Mapping[str, Verdict],
        call: Call,
        payer: Payer,
    ) -> list[_Candidate]:
        """Prove the builds of the candidates that admit the caller (PV20).

        Returns the candidates, each with a rule for the hash of the program in place of one for
        builds. Those whose builds are not proven are left out.

        Raises:
            RunRefused: `build-not-proven` if no other grant admits the caller, or a reason why it
                is not known whether a build is proven.
        """
        kept = list[_Candidate]()
        refusal: RunRefused | None = None
        for grant, rules in candidates:
            rule = rules[0]
            # The condition comes first, so that only admitted callers make the runner verify.
            if not isinstance(rule, ByBuilds) or not verdicts[grant.header]:
                kept.append((grant, rules))
                continue
            try:
                proven = await self.proofs.prove(grant, rule, call.wasm_sha256 or "", payer)
            except RunRefused as refused:
                if refused.reason.code not in ("build-not-proven", "builds-full"):
                    raise
                refusal = refusal or refused
                continue
            statement = replace(grant.statement, programs=(proven,))
            kept.append((replace(grant, statement=statement), [proven]))
        is_admitted = any(verdicts[grant.header] for grant, _ in kept)
        if refusal is not None and not is_admitted:
            raise refusal
        return kept

    async def read(
        self,
        call: Call,
        chosen: Mapping[str, Sequence[RunGrant]],
        wanted: Wanted,
    ) -> dict[str, tuple[RunGrant, str]]:
        """Read all secrets that a run needs of one owner.

        If a secret cannot be read, the run is refused.

        Returns:
            For each name, the grant by which the secret was read, and its value.
        """
        tasks = [
            asyncio.create_task(self._read_one(call, name, grants, wanted))
            for name, grants in chosen.items()
        ]
        try:
            values = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(chosen, values, strict=True))

    async def _read_one(
        self,
        call: Call,
        name: str,
        grants: Sequence[RunGrant],
        wanted: Wanted,
    ) -> tuple[RunGrant, str]:
        """Read a secret with the first grant that is not revoked.

        Each read cites exactly one grant (RN83).
        """
        for run_grant in grants:
            grant = self._held(run_grant)
            if grant is None:  # it was replaced or has ended in the meantime
                continue
            try:
                return run_grant, await self._read_by(grant, run_grant, name, wanted)
            except DelegationRevoked:
                continue
        raise not_granted(call)  # RN81: all were revoked

    def _held(self, run_grant: RunGrant) -> Grant | None:
        """Return the backend's grant with the text of a run grant, or None."""
        for one in self.backend.grants:
            if one.grant.header == run_grant.header:
                return one.grant
        return None

    async def _read_by(self, grant: Grant, run_grant: RunGrant, name: str, wanted: Wanted) -> str:
        """Read a secret by one grant; the value is empty if the secret is only looked for.

        Raises:
            DelegationRevoked: the grant was revoked.
            RunRefused: the secret is missing or cannot be read, or its value is not valid.
        """
        owner, scope = run_grant.owner, wanted.scope
        try:
            if not wanted.opens:
                await self._require_stored(grant, owner, SecretName(name, scope))
                return ""
            secret = await self.backend.open_secret(owner, name, scope=scope, by=grant)
        except DelegationRevoked:
            raise
        except NotFound as absent:
            raise RunRefused("secret-missing", name) from absent
        except (DecryptDenied, Unauthorized, NotGranted) as denied:
            raise RunRefused("secret-refused", name) from denied
        except PlaceMismatch as misplaced:
            # EN45: somebody stored the envelope of another secret there
            raise _of_another_place(name, scope) from misplaced
        except UnboundValue as unbound:
            raise _without_place(name, scope) from unbound
        except (SealspaceError, EvidenceSourceError) as failed:
            _log.warning(
                "a secret could not be read: %s", getattr(failed, "code", type(failed).__name__)
            )
            raise RunRefused("secret-unreadable", name) from failed
        return self._checked_value(run_grant, name, scope, secret)

    async def _require_stored(self, grant: Grant, owner: Principal, secret: SecretName) -> None:
        """Read a secret without decrypting it.

        Raises:
            SealspaceError: as `Kv.get`.
        """
        space = space_of(owner, SECRETS_SPACE).text
        async with self.backend.values(space, by=grant) as stored:
            await stored.get(secret.path)

    def _checked_value(
        self, run_grant: RunGrant, name: str, scope: str | None, secret: Secret
    ) -> str:
        """Return the value of a secret that was read.

        Raises:
            RunRefused: `environment-value` if it is not a text; `secret-not-generated` if it has to
                be a generated one and is not (RN148); `secret-not-bound` if it does not state its
                place and the grant does not allow that (RN264).
        """
        if isinstance(secret.value, bytes):
            raise RunRefused("environment-value", name)
        label = parse_secret_name(name, scope=scope)
        if is_protected(name):
            # RN148: otherwise an owner could pass off a value of its own as a generated one. The
            # tag covers owner and path, so a valid tag says where the value belongs (RN265).
            if not self.tags.is_valid(run_grant.owner, label, secret):
                cause = _CHANGED if secret.generated else "stored by hand"
                raise RunRefused("secret-not-generated", f"{name}: {cause}")
        # RN264: the value may be that of another secret, which a writer of this path stored there
        elif not secret.is_bound and not run_grant.statement.allows_unbound:
            raise _without_place(name, scope)
        return secret.value


def _without_place(name: str, scope: str | None) -> RunRefused:
    """Return the refusal of a value that states no place (RN264)."""
    label = parse_secret_name(name, scope=scope).label
    option = "" if scope is None else f" --scope {scope}"
    return RunRefused(
        "secret-not-bound",
        f"{label} does not say where it belongs; if its value is right, run `sealspace secret bind"
        f" {name}{option}`, or grant again with --allow-unbound",
    )


def _of_another_place(name: str, scope: str | None) -> RunRefused:
    """Return the refusal of a value that belongs to another place (RN148, RN264)."""
    if is_protected(name):
        return RunRefused("secret-not-generated", f"{name}: {_CHANGED}")
    label = parse_secret_name(name, scope=scope).label
    return RunRefused(
        "secret-not-bound",
        f"the value stored as {label} belongs to another secret; `sealspace activity` shows who"
        f" wrote it, and `sealspace secret put {label}` replaces it",
    )


def capped(limits: Limits, caps: Mapping[str, int | None]) -> Limits:
    """Return a copy of the limits with upper bounds applied (RN86).

    Instructions are rounded down to whole millions (RN1), except below one million, which a grant
    or a runner may set.

    Raises:
        RunRefused: `limits-invalid` if a limit is below 1.
    """
    lower = {
        name: min(getattr(limits, name), limit) for name, limit in caps.items() if limit is not None
    }
    smallest = replace(limits, **lower)
    # RN1: by exact limits a caller could measure the instructions that a program spends on a
    # secret. Bisection reads 16 characters in 493 calls from a program that compares byte by byte.
    # The limits of grants are rounded too, because a caller can choose among grants.
    if smallest.max_instructions < MILLION:
        return smallest
    rounded = smallest.max_instructions // MILLION * MILLION
    return replace(smallest, max_instructions=rounded)
