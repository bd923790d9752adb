"""Grants that let program runners use secrets, read private projects, and write new secrets.

A run grant is a delegation to a runner's DID that the owner signed directly, without a parent (RN41
to RN46). It has `tinycloud.kv/get` on listed secrets, decrypt on one network of the owner, a policy
on the runner's code, and exactly one run statement. Instead, the owner can sign a job grant to the
key of a job, which then grants later builds of one program to the runner (RN245, RN246).

    {"programs": [{"wasmSha256": …, "project"?: "<did>/<name>", "build"?: {…}}
                  | {"project": "<did>/<name>"}
                  | {"project": "<did>/<name>", "builds": {…}}, without another program],
     "callers":  a condition, see `call_conditions`; absent: only the owner
     "hosts":    ["api.example.com", …]
     "limits":   {"maxInstructions", "maxMemoryMb", "maxExecutionSeconds"}, each optional
     "unbound":  true if values that do not state their place may be delivered
     "refreshFor": DID of the runner, only in a job grant}

There are 1 to 64 programs, and at most 64 hosts. A UCAN contains the statement as the fact
`{"sealspace.run/v1": {…}}`. A sign-in text contains it as the resource
`urn:sealspace:run:v1:<base64url of the canonical JSON>` before its ReCap. The node enforces who may
use the grant, which code opens keys, and which secrets. Only the runner enforces programs, callers,
hosts and limits, so the policy on its code is required.

Example:
    statement = RunStatement(programs=(ByHash("ab" * 32),), hosts=("api.example.com",))
    assert parse_run_statement(run_statement_json(statement)) == statement
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from itertools import chain
from typing import Annotated, Any, NamedTuple, NoReturn

from msgspec import UNSET, Meta, UnsetType, structs, to_builtins

from capabilities.abilities import DECRYPT, KV_DELETE, KV_GET, KV_LIST, KV_PUT
from capabilities.cacao import Cacao
from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.frozen import frozen
from capabilities.principals import Principal
from capabilities.resources import NetworkId, SpaceResource, network_of, root_of
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json, JsonObject, Sha256Hex, StrictStruct, parse_json, shaped
from capabilities.tokens import (
    Delegation,
    UnverifiedDelegation,
    parse_delegation,
    verify_delegation,
)
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, policies_of

from ..errors import InvalidInput, InvalidPortableDelegation
from ..session import space_of
from .builds import Build, Commit, TrustedBuilds
from .call_conditions import Condition, Owner, condition_json, parse_condition
from .project_names import PROJECTS_SPACE, ProjectId, checked_project_name, parse_project
from .secret_names import (
    PROTECTED_NETWORK,
    SECRETS_SPACE,
    SecretName,
    is_protected,
    secret_at,
)
from .shapes import shaped_at

RUN_FACT = "sealspace.run/v1"
RUN_URN = "urn:sealspace:run:v1:"
JOB_FACT = "sealspace.run.job/v1"
"""Member of the only fact in a run grant that a job signed; contains the job grant."""
MAX_STATEMENT_BYTES = 64 * 1024
MAX_PROGRAMS = 64
MAX_HOSTS = 64
MAX_SECRETS = 32
MOST: Mapping[str, int] = {
    "maxInstructions": 500_000_000_000,
    "maxMemoryMb": 512,
    "maxExecutionSeconds": 180,
}
"""The largest limits that a grant may state, by the names of their members."""

_FACT_FAMILY = "sealspace.run/"
_URN_FAMILY = "urn:sealspace:run:"
_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")


@frozen
class ByHash:
    """A rule that allows the program with a given hash.

    Attributes:
        wasm_sha256: 64 lower-case hex digits.
        project: the program must be called as a version of this project, whose manifest applies.
            None: it may be called in any way, and no manifest applies (RN176).
        build: origin of the program, which the owner verified; a label for readers (PV14).
        is_proven: whether the runner itself verified `build` for this call (PV20). No grant states
            it.
    """

    wasm_sha256: str
    project: ProjectId | None = None
    build: Build | None = None
    is_proven: bool = False


@frozen
class ByProject:
    """A rule that allows the active version of a project.

    The project's developer chooses the active version.
    """

    project: ProjectId


@frozen
class ByBuilds:
    """A rule that allows the active version of a project if the runner verifies its build (PV17).

    Attributes:
        project: the project, whose manifest applies.
        builds: statement about what the provenance bundle of the version has to prove.
    """

    project: ProjectId
    builds: TrustedBuilds


ProgramRule = ByHash | ByProject | ByBuilds


@frozen
class GrantLimits:
    """Resource limits for programs that use granted secrets.

    None means the runner's own limit. The attributes are in the same order as the keys of `MOST`.
    """

    max_instructions: int | None = None
    max_memory_mb: int | None = None
    max_execution_s: int | None = None

    @property
    def stated(self) -> JsonObject:
        """The specified limits by JSON name."""
        return {
            name: limit
            for name, limit in zip(MOST, astuple(self), strict=True)
            if limit is not None
        }


@frozen(kw_only=True)
class RunStatement:
    """The conditions under which a runner may use granted secrets.

    Attributes:
        programs: rules that name the programs, at least one.
        callers: condition on the callers.
        hosts: hosts to which a program with these secrets may send anything; lower case, no IP
            addresses. They apply only to programs of named projects (RN176).
        limits: limits of a run.
        allows_unbound: whether a run may have a secret whose value does not state its place. The
            value may be that of another secret of the owner, which somebody stored there (RN264).
        refresh_for: in a job grant, the DID of the runner to which the job may grant later builds.
    """

    programs: tuple[ProgramRule, ...]
    callers: Condition = Owner()
    hosts: tuple[str, ...] = ()
    limits: GrantLimits = GrantLimits()
    allows_unbound: bool = False
    refresh_for: str | None = None

    def rules_for(
        self, wasm_sha256: str, project: ProjectId | None, active_of: ProjectId | None
    ) -> list[ProgramRule]:
        """Return the rules that allow a call to a program (RN45, RN176).

        A rule for builds allows nothing by itself: see `builds_for`.

        Args:
            wasm_sha256: SHA-256 of the compiled bytes.
            project: project as whose version the program is called; None: called by its hash.
            active_of: the same project if its active version is called, else None.
        """
        allowing: list[ProgramRule] = []
        for rule in self.programs:
            allows = False
            if isinstance(rule, ByHash):
                allows = rule.wasm_sha256 == wasm_sha256 and rule.project in (None, project)
            elif isinstance(rule, ByProject):
                allows = rule.project == active_of
            if allows:
                allowing.append(rule)
        return allowing

    def builds_for(self, target: str, active_of: ProjectId | None) -> ByBuilds | None:
        """Return the rule that allows a call if the build of the program is proven (PV17).

        Args:
            target: kind of the program.
            active_of: the project whose active version is called; None: another call.
        """
        match self.programs:
            case (ByBuilds() as rule,) if rule.project == active_of and (
                rule.builds.target == target
            ):
                return rule
        return None


@frozen(kw_only=True)
class RunGrant:
    """A verified grant that lets a runner use secrets, or a job grant.

    Attributes:
        header: the delegation as text.
        delegation: the verified delegation.
        owner: owner of the secrets, who signed it or the job grant.
        secrets: names of the secrets, at least one, without duplicates.
        network: the network that opens them.
        statement: the programs, callers, hosts and limits of the grant.
        policies: policies on the runner's code, at least one.
        expires_at: epoch seconds.
        job: content key of the job grant by which a job made it; empty: the owner made it.
        commit: the commit that the job stated.
    """

    header: str
    delegation: Delegation
    owner: Principal
    secrets: tuple[SecretName, ...]
    network: NetworkId
    statement: RunStatement
    policies: tuple[Policy, ...]
    expires_at: float
    job: bytes = b""
    commit: str = ""


# --- the statement --------------------------------------------------------------------------------


class _StatedProgram(StrictStruct):
    wasmSha256: Sha256Hex | UnsetType = UNSET
    project: str | UnsetType = UNSET
    build: Build | None = None
    builds: TrustedBuilds | None = None


class _Stated(StrictStruct):
    programs: Annotated[list[_StatedProgram], Meta(min_length=1, max_length=MAX_PROGRAMS)]
    callers: Any = UNSET
    hosts: Annotated[tuple[str, ...], Meta(max_length=MAX_HOSTS)] = ()
    limits: Mapping[str, int] = {}
    unbound: bool = False
    refreshFor: str | None = None


class _Refresh(StrictStruct, rename={"grant": JOB_FACT}):
    grant: str
    wasmSha256: Sha256Hex
    commit: Commit


def parse_run_statement(value: Json) -> RunStatement:
    """Parse the untrusted conditions of a grant made to a runner (RN44).

    Raises:
        InvalidInput: a member is unknown, missing, of another type, or beyond its limit.
    """
    stated = shaped_at("", value, _Stated, _refuse)
    limits = stated.limits
    if not all(name in MOST and 1 <= limit <= MOST[name] for name, limit in limits.items()):
        most = ", ".join(f"{name} {limit}" for name, limit in MOST.items())
        raise InvalidInput(
            f"the limits in a run grant's terms must be at least 1; the maximums are {most}"
        )
    programs = tuple(map(_program, stated.programs))
    # PV17: a second program could be one that the runner does not verify
    if len(programs) > 1 and any(isinstance(rule, ByBuilds) for rule in programs):
        raise InvalidInput("a run grant for builds of a repository names no other program")
    return RunStatement(
        programs=programs,
        callers=Owner() if stated.callers is UNSET else parse_condition(stated.callers),
        hosts=tuple(map(checked_host, stated.hosts)),
        limits=GrantLimits(
            max_instructions=limits.get("maxInstructions"),
            max_memory_mb=limits.get("maxMemoryMb"),
            max_execution_s=limits.get("maxExecutionSeconds"),
        ),
        allows_unbound=stated.unbound,
        refresh_for=stated.refreshFor,
    )


def run_statement_json(statement: RunStatement) -> JsonObject:
    """Encode the conditions of a grant made to a runner as JSON.

    `parse_run_statement` reads the JSON back.
    """
    programs: list[Json] = []
    for rule in statement.programs:
        program: JsonObject = {}
        if isinstance(rule, ByHash):
            program["wasmSha256"] = rule.wasm_sha256
            if rule.build is not None:
                program["build"] = to_builtins(rule.build)
        elif isinstance(rule, ByBuilds):
            program["builds"] = to_builtins(rule.builds)
        if rule.project:
            program["project"] = rule.project.text
        programs.append(program)
    value = {"programs": programs, "callers": condition_json(statement.callers)}
    if statement.hosts:
        value["hosts"] = list(statement.hosts)
    if limits := statement.limits.stated:
        value["limits"] = limits
    if statement.allows_unbound:
        value["unbound"] = True
    if statement.refresh_for:
        value["refreshFor"] = statement.refresh_for
    return value


def checked_host(value: Json) -> str:
    """Validate the name of a host that a program may contact.

    Raises:
        InvalidInput: the name is not in lower case, ends with a dot, or is an IP address.
    """
    if isinstance(value, str) and _HOST.fullmatch(value) is not None:
        _, _, last_label = value.rpartition(".")
        is_ip_address = _NUMERIC.fullmatch(last_label) is not None
        if not is_ip_address:
            return value
    raise InvalidInput(
        "a host name must be like api.example.com: in lower case, without scheme, port or trailing"
        " dot"
    )


def _refuse(member: str, what: str) -> NoReturn:
    fault = f"are malformed: {member} {what}" if member else what
    raise InvalidInput(f"the run grant's terms {fault}")


def _program(stated: _StatedProgram) -> ProgramRule:
    project = None if stated.project is UNSET else parse_project(stated.project)
    if stated.builds is not None:
        if project is None or stated.build is not None or stated.wasmSha256 is not UNSET:
            raise InvalidInput('a program with "builds" must have "project", and nothing else')
        return ByBuilds(project, stated.builds)
    if stated.wasmSha256 is not UNSET:
        return ByHash(wasm_sha256=stated.wasmSha256, project=project, build=stated.build)
    if project is None or stated.build is not None:
        raise InvalidInput('a program must have "wasmSha256", "project" or both')
    return ByProject(project)


# --- the grant ------------------------------------------------------------------------------------


def read_run_grant(header: str, *, runner: str | None) -> RunGrant:
    """Parse and verify a grant that lets a runner use secrets (RN41 to RN46).

    Args:
        header: CACAO or UCAN text, untrusted.
        runner: DID of the runner to which the grant must be issued; None: it must be a job grant,
            to any key (RN245).
    Raises:
        InvalidPortableDelegation: a rule is broken; the message says which.
    Does not check:
        Expiry and revocation: the node does, for the reads of each run. Whether the policy approves
            the code: the node does.
    """
    _, delegation = _verify(header)
    # A grant that a job signed has the job grant in its only fact (RN246).
    with suppress(InvalidJson):
        (refresh,) = shaped([*delegation.facts], tuple[_Refresh])
        return _read_job_grant(delegation, refresh, runner)
    unverified, delegation, expires_at = verified_own(header, runner=runner)
    secrets, network = _secrets_and_network(delegation)
    statement = _statement_of(unverified)
    try:
        policies = policies_of(delegation.facts)
    except PolicyError as exc:
        raise InvalidPortableDelegation(f"the policy of the run grant is not valid: {exc}") from exc
    _require_policy(policies, delegation)
    # A job grant is for the key of a job, a run grant for a runner; neither passes for the other
    # (RN245).
    is_job_grant = statement.refresh_for is not None
    job_grant_expected = runner is None
    if is_job_grant != job_grant_expected:
        raise InvalidPortableDelegation(
            "a run grant is for a runner, and a job grant for the key of a job",
            hint="to use the token of a job: sealspace runner grant URL --refresh",
        )
    return RunGrant(
        header=header,
        delegation=delegation,
        owner=delegation.delegator,
        secrets=secrets,
        network=network,
        statement=statement,
        policies=policies,
        expires_at=expires_at,
    )


def _read_job_grant(delegation: Delegation, stated: _Refresh, runner: str | None) -> RunGrant:
    """Return the run grant that a job made for a later build (RN246).

    The job chooses the hash and the commit. Everything else is what the job grant says.
    """
    job = read_run_grant(stated.grant, runner=None)
    differs = InvalidPortableDelegation(
        "the job's grant differs from what the owner allowed",
        hint="run `sealspace runner grant URL --refresh` for the runner that the owner named",
    )
    is_for_this_runner = runner == delegation.audience == job.statement.refresh_for
    is_by_job = delegation.delegator == job.delegation.delegate
    parent_cids = [parent.digest for parent in delegation.parents]
    has_same_rights = delegation.capabilities == job.delegation.capabilities
    if not is_for_this_runner or not is_by_job:
        raise differs
    if parent_cids != [job.delegation.cid] or not has_same_rights:
        raise differs
    expires_at = delegation.expires_at
    if expires_at is None or expires_at > job.expires_at:
        raise differs
    match job.statement.programs:
        case (ByHash(project=ProjectId(), build=Build() as build) as rule,):
            build = structs.replace(build, commit=stated.commit)
            rule = replace(rule, wasm_sha256=stated.wasmSha256, build=build)
        case _:
            raise differs
    return replace(
        job,
        header=delegation.header,
        delegation=delegation,
        statement=replace(job.statement, programs=(rule,), refresh_for=None),
        expires_at=expires_at,
        job=job.delegation.content_key,
        commit=stated.commit,
    )


class OwnGrant(NamedTuple):
    """A grant that an owner issued directly to a runner.

    Attributes:
        unverified: the delegation before it was verified.
        delegation: the verified delegation.
        expires_at: end of the delegation, epoch seconds.
    """

    unverified: UnverifiedDelegation
    delegation: Delegation
    expires_at: float


def verified_own(header: str, *, runner: str | None) -> OwnGrant:
    """Verify that an owner issued a grant directly to a runner (RN41).

    Args:
        header: CACAO or UCAN text, untrusted.
        runner: DID of the runner to which the grant must be issued; None: any recipient.
    Raises:
        InvalidPortableDelegation: the delegation is not such a grant.
    """
    unverified, delegation = _verify(header)
    # The statements of a parent delegation could be left out (RN41).
    if delegation.parents or runner not in (None, delegation.audience):
        raise InvalidPortableDelegation(
            "the run grant must be signed by the owner, have no parent delegation, and be for"
            " this runner's DID",
            hint=f"sign a new run grant for {runner} with the owner's wallet or key",
        )
    if delegation.expires_at is None:
        raise InvalidPortableDelegation("the run grant must have an expiry time")
    # Grants of secrets, generated secrets and programs all have this rule (RN42, RN143, RN152).
    for capability in delegation.capabilities:
        is_own = root_of(capability.resource) == delegation.delegator
        if not is_own or capability.caveats:
            raise InvalidPortableDelegation(
                "the run grant must cover only the signer's own resources, and must have no caveats"
            )
    return OwnGrant(unverified=unverified, delegation=delegation, expires_at=delegation.expires_at)


def _verify(header: str) -> tuple[UnverifiedDelegation, Delegation]:
    try:
        unverified = parse_delegation(header)
        return unverified, verify_delegation(unverified)
    except CapabilityError as exc:
        raise InvalidPortableDelegation(
            "the grant is malformed, or its signature is not valid"
        ) from exc


def _secrets_and_network(delegation: Delegation) -> tuple[tuple[SecretName, ...], NetworkId]:
    """Return the secrets and the network in a runner's grant (RN42)."""
    secrets: list[SecretName] = []
    networks: list[NetworkId] = []
    for capability in delegation.capabilities:
        network = network_of(capability.resource)
        if capability.ability == KV_GET and isinstance(capability.resource, SpaceResource):
            secrets.append(listed_secret(capability.resource))
        elif capability.ability == DECRYPT and network is not None:
            networks.append(network)
        else:
            raise InvalidPortableDelegation(
                f"a run grant may include only {KV_GET} on secrets, and {DECRYPT} on a network, but"
                f" not {capability.ability} on {capability.resource.text}"
            )
    if not 1 <= len(secrets) <= MAX_SECRETS or len(networks) != 1:
        raise InvalidPortableDelegation(
            f"a run grant must name 1 to {MAX_SECRETS} secrets and one network"
        )
    # RN146: sealed to another network, a protected secret could be opened with any right to decrypt
    # on that network.
    is_protected_network = networks[0].name == PROTECTED_NETWORK
    if any(is_protected(secret.name) != is_protected_network for secret in secrets):
        raise InvalidPortableDelegation(
            f"only PROTECTED_ secrets, and all of them, must use the network {PROTECTED_NETWORK}",
            hint="make one grant for PROTECTED_ secrets and one for other secrets",
        )
    return tuple(secrets), networks[0]


def listed_secret(resource: SpaceResource) -> SecretName:
    """Return the secret named by a resource.

    Raises InvalidPortableDelegation for any other resource. A folder, for example, would include
    secrets that are added later.
    """
    secret = secret_at(resource.path or "")
    # The whole text of the resource is compared, so that a query or fragment is rejected.
    is_whole = secret is not None and resource.text == f"{resource.space.text}/kv/{secret.path}"
    if secret is None or resource.space.name != SECRETS_SPACE or not is_whole:
        raise InvalidPortableDelegation(
            "a run grant must list its secrets one by one: vault/secrets/NAME"
        )
    return secret


def _statement_of(delegation: UnverifiedDelegation) -> RunStatement:
    """Return the conditions in a runner's grant (RN43).

    The delegation must contain them exactly once.
    """
    statements = list(chain.from_iterable(map(_find_terms, delegation.facts)))
    envelope = delegation.envelope
    resources = envelope.message.resources if isinstance(envelope, Cacao) else ()
    for resource in resources:
        if resource[: len(_URN_FAMILY)].lower() != _URN_FAMILY:
            continue
        data = None
        if resource.startswith(RUN_URN):
            data = decode_url(resource.removeprefix(RUN_URN))
        value = None
        if data is not None:
            with suppress(InvalidJson):
                value = parse_json(data, max_bytes=MAX_STATEMENT_BYTES)
        if value is None or canonical_bytes(value) != data:
            raise InvalidPortableDelegation(
                "the terms of the run grant have an unknown version, or are not canonical JSON in"
                " base64url"
            )
        statements.append(value)
    if len(statements) != 1:
        raise InvalidPortableDelegation(
            "a run grant must state its terms exactly once; this grant states them"
            f" {len(statements)} times"
        )
    try:
        return parse_run_statement(statements[0])
    except InvalidInput as exc:
        raise InvalidPortableDelegation(
            f"the terms of the run grant are not valid: {exc.message}"
        ) from exc


def _find_terms(value: Json, depth: int = 0) -> Iterator[Json]:
    """Find the conditions in the token of a runner's grant.

    Raises InvalidPortableDelegation for nested conditions, or an unknown version of them.
    """
    if isinstance(value, dict):
        for name, member in value.items():
            if name == RUN_FACT and depth == 0:
                yield member
            # An unknown statement may restrict the grant; ignoring it would widen the grant.
            elif name[: len(_FACT_FAMILY)].lower() == _FACT_FAMILY:
                raise InvalidPortableDelegation(
                    "the terms of the run grant have an unknown version, or are nested too deep in"
                    " the token's facts"
                )
            else:
                yield from _find_terms(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _find_terms(member, depth + 1)


def _require_policy(policies: Sequence[Policy], delegation: Delegation) -> None:
    """Check that a grant's policies admit only approved code (RN46).

    They must also admit only the granted secrets.
    """
    paths = {
        capability.resource.text
        for capability in delegation.capabilities
        if capability.ability == KV_GET
    }
    names_code = any(policy.is_allow_list and policy.receiver == "attested" for policy in policies)
    if not names_code or not any(set(policy.paths) == paths for policy in policies):
        raise InvalidPortableDelegation(
            "the run grant must have a policy with measurements and an attested receiver, and one"
            " policy whose paths are exactly the secrets of the grant",
            hint="make the grant with `sealspace runner grant`, which adds such a policy",
        )


# --- private projects -----------------------------------------------------------------------------

MAX_PROJECTS = 32
STORAGE_FOLDER = "storage"
"""Folder of the space `projects` for what programs store; that for code is `projects`."""
PROJECT_ABILITIES = {
    "projects": {KV_GET},
    STORAGE_FOLDER: {KV_GET, KV_PUT, KV_DELETE, KV_LIST},
}
"""Abilities of a grant on a project's folder."""


def project_resource(developer: str, name: str, folder: str = "projects") -> str:
    """Return the resource URI of a developer's project, or of its storage.

    The folder is in the developer's space `projects`.
    """
    return f"{space_of(developer, PROJECTS_SPACE).text}/kv/{folder}/{checked_project_name(name)}"


def read_program_grant(
    header: str, *, runner: str, folder: str = "projects"
) -> frozenset[ProjectId]:
    """Parse and verify a grant that lets a runner use projects (RN152, RN201).

    A developer grants `tinycloud.kv/get` on `projects/<name>` in its space `projects`. That
    includes all of the project: code, statements, and the active version. For what programs store,
    it grants to read, write, delete and list `storage/<name>` there.

    Args:
        header: CACAO or UCAN text, untrusted.
        runner: DID of the runner to which the grant must be issued.
        folder: `projects` for the programs, or `storage` for what they store.
    Raises:
        InvalidPortableDelegation: a rule is broken; the message says which.
    Does not check:
        Expiry and revocation: the node does, at each use.
    """
    delegation = verified_own(header, runner=runner).delegation
    projects: dict[ProjectId, set[str]] = {}
    for capability in delegation.capabilities:
        resource = capability.resource
        path = resource.path if isinstance(resource, SpaceResource) else None
        name = (path or "").removeprefix(f"{folder}/")
        try:
            is_project = resource.text == project_resource(delegation.delegator, name, folder)
        except InvalidInput:
            is_project = False
        if not is_project:
            raise InvalidPortableDelegation(f"a grant for projects may name only {folder}/NAME")
        projects.setdefault(ProjectId(delegation.delegator, name), set()).add(capability.ability)
    abilities = sorted(PROJECT_ABILITIES[folder])
    is_exact = all(sorted(granted) == abilities for granted in projects.values())
    if not is_exact or not 1 <= len(projects) <= MAX_PROJECTS:
        raise InvalidPortableDelegation(
            f"a grant for projects must list 1 to {MAX_PROJECTS} of {folder}/NAME, each with"
            f" exactly {', '.join(abilities)}"
        )
    return frozenset(projects)
