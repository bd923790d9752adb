"""Tests of run grants, each of which breaks one rule (RN41 to RN46)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from capability_cases import NOW, OWNER, SESSION, granted, ucan
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.cids import cid_text
from capabilities.facts import ATTESTATION_FACT, statement_resource
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer
from capabilities.siwe import SiweMessage
from capabilities.strict_base64 import encode_url
from capabilities.tokens import parse_delegation
from encryption_network.policy import Policy, policy_json
from sealspace.documents.builds import Build
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.documents.run_grants import (
    JOB_FACT,
    RUN_FACT,
    RUN_URN,
    ByHash,
    ByProject,
    ProgramRule,
    RunStatement,
    parse_run_statement,
    read_run_grant,
    run_statement_json,
)
from sealspace.documents.secret_names import parse_secret_label
from sealspace.errors import InvalidInput, InvalidPortableDelegation
from sealspace.session import iso_time, token_cid
from tee_backend.evidence.simulated import measurements_of

KEY = SESSION
RUNNER = Ed25519Signer(bytes(range(100, 132)))
SHA256 = "ab" * 32
GET, DECRYPT = "tinycloud.kv/get", "tinycloud.encryption/decrypt"
STATEMENT = RunStatement(programs=(ByHash(SHA256),), hosts=("api.example.com",))
STATED: dict[str, Any] = run_statement_json(STATEMENT)


def _run_resource(statement: RunStatement) -> str:
    return statement_resource(run_statement_json(statement), urn=RUN_URN)


def space_of(signer: Any) -> str:
    return f"tinycloud:{signer.did[4:]}:secrets"


def at(signer: Any, path: str) -> str:
    return f"{space_of(signer)}/kv/vault/secrets/{path}"


def network_of(signer: Any) -> str:
    return f"urn:tinycloud:encryption:{signer.did}:default"


def policy_for(signer: Any, *paths: str, **members: Any) -> dict[str, Any]:
    named = tuple(sorted(at(signer, path) for path in paths or ("API_KEY",)))
    policy = Policy(**({"measurements": (measurements_of("image"),), "paths": named} | members))
    return policy_json(policy)


def att_of(signer: Any, *paths: str) -> dict[str, Sequence[str]]:
    named: dict[str, Sequence[str]] = {at(signer, path): [GET] for path in paths or ("API_KEY",)}
    return named | {network_of(signer): [DECRYPT]}


def by_key(
    att: Mapping[str, Any] | None = None,
    *,
    facts: list[Any] | None = None,
    audience: str = RUNNER.did,
    **more: Any,
) -> str:
    stated = [{ATTESTATION_FACT: policy_for(KEY)}, {RUN_FACT: STATED}] if facts is None else facts
    return ucan(KEY, audience, att or att_of(KEY), fct=stated, **more)


def by_wallet(*resources: str, audience: str = RUNNER.did) -> str:
    message = SiweMessage(
        domain="localhost",
        address=OWNER.address,
        chain_id=1,
        uri=audience,
        nonce="abcdefgh12345678",
        issued_at=iso_time(NOW),
        expiration_time=iso_time(NOW + 3600),
        resources=resources or (statement_resource(policy_for(OWNER)), _run_resource(STATEMENT)),
    )
    held: Any = granted(att_of(OWNER))
    return header_text(encode_cacao(sign_cacao(attach(message, Recap(held, ())), OWNER)))


def refused(header: str) -> str:
    with pytest.raises(InvalidPortableDelegation) as refusal:
        read_run_grant(header, runner=RUNNER.did)
    return refusal.value.message


@pytest.mark.parametrize("owner", [KEY, OWNER], ids=["key", "wallet"])
def test_a_run_grant_of_a_key_and_of_a_wallet(owner: Any) -> None:
    grant = read_run_grant(by_key() if owner is KEY else by_wallet(), runner=RUNNER.did)
    assert grant.owner == owner.did
    assert [secret.label for secret in grant.secrets] == ["API_KEY"]
    assert grant.network.text == network_of(owner)
    assert grant.statement == STATEMENT
    assert grant.expires_at == NOW + 3600
    assert len(grant.policies) == 1


def test_secrets_of_a_scope() -> None:
    facts = [{ATTESTATION_FACT: policy_for(KEY, "scoped/prod/A", "B"), RUN_FACT: STATED}]
    grant = read_run_grant(
        by_key(att_of(KEY, "scoped/prod/A", "B"), facts=facts), runner=RUNNER.did
    )
    assert sorted(one.label for one in grant.secrets) == ["B", "prod/A"]
    assert [parse_secret_label(one.label) for one in grant.secrets] == list(grant.secrets)


BOB = Ed25519Signer(bytes(range(32, 64)))


@pytest.mark.parametrize(
    ("att", "part"),
    [
        (att_of(BOB), "the signer's own resources"),  # RN42
        (att_of(KEY) | {at(BOB, "B"): [GET]}, "the signer's own resources"),
        (att_of(KEY) | {network_of(BOB): [DECRYPT]}, "the signer's own resources"),
        (att_of(KEY) | {at(KEY, "API_KEY"): [GET, "tinycloud.kv/put"]}, "not tinycloud.kv/put"),
        (
            att_of(KEY) | {f"{space_of(KEY)}/capabilities/all": ["tinycloud.capabilities/read"]},
            "capabilities/read",
        ),
        ({at(KEY, "API_KEY"): [GET]}, "one network"),
        ({network_of(KEY): [DECRYPT]}, "1 to 32 secrets"),
        (att_of(KEY) | {f"{network_of(KEY)}2": [DECRYPT]}, "one network"),
        (att_of(KEY, *(f"K{number}" for number in range(33))), "1 to 32 secrets"),
        (att_of(KEY, ""), "one by one"),
        (att_of(KEY, "scoped/prod/"), "one by one"),
        (att_of(KEY, "scoped/Prod/A"), "one by one"),
        (att_of(KEY, "scoped/A"), "one by one"),
        (att_of(KEY, "a"), "one by one"),
        (att_of(KEY, "A/"), "one by one"),
        (att_of(KEY, "A/B"), "one by one"),
        (att_of(KEY, "A?x"), "one by one"),
        (att_of(KEY, "A#x"), "one by one"),
        (att_of(KEY, "../secrets/A"), "the signer's own resources"),  # no path of a space
        ({f"{space_of(KEY)}/kv/secrets/A": [GET], network_of(KEY): [DECRYPT]}, "one by one"),
        ({f"{space_of(KEY)}/sql/vault/secrets/A": [GET], network_of(KEY): [DECRYPT]}, "one by one"),
        (
            {at(KEY, "A").replace(":secrets/", ":default/"): [GET], network_of(KEY): [DECRYPT]},
            "one by one",
        ),
        ({at(KEY, "API_KEY"): {GET: [{"path": "x"}]}, network_of(KEY): [DECRYPT]}, "caveats"),
    ],
)
def test_what_a_run_grant_may_not_hold(att: Any, part: str) -> None:
    assert part in refused(by_key(att))


def test_parents_and_others_runners() -> None:
    parent = "bafkr4iapdmm3hhvtkmcjdihqdfcpb2l7xz2hmsgcqzpqm6hixtpamehlqe"
    assert "have no parent delegation" in refused(by_key(prf=[parent]))  # RN41
    assert "for this runner" in refused(by_key(audience=BOB.did))
    # a fragment would make it a sign-in (IP2)
    assert "for this runner" in refused(by_wallet(audience=RUNNER.did_url))
    assert "signature is not valid" in refused(by_key()[:-8] + "AAAAAAA=")
    token = by_key()
    assert "signature is not valid" in refused(
        token.replace(token.split(".")[1], by_key(facts=[]).split(".")[1])
    )


@pytest.mark.parametrize(
    ("facts", "part"),
    [
        ([{ATTESTATION_FACT: policy_for(KEY)}], "states them 0 times"),  # RN43
        (
            [{ATTESTATION_FACT: policy_for(KEY)}, {RUN_FACT: STATED}, {RUN_FACT: STATED}],
            "states them 2 times",
        ),
        ([{ATTESTATION_FACT: policy_for(KEY)}, {"sealspace.run/v2": STATED}], "unknown version"),
        (
            [{ATTESTATION_FACT: policy_for(KEY)}, {RUN_FACT: STATED, "SEALSPACE.RUN/v1": STATED}],
            "unknown version",
        ),
        (
            [{ATTESTATION_FACT: policy_for(KEY)}, {RUN_FACT: STATED}, [{"a": {RUN_FACT: STATED}}]],
            "unknown version",
        ),
        ([{ATTESTATION_FACT: policy_for(KEY)}, {"x": {RUN_FACT: STATED}}], "unknown version"),
        (
            [{ATTESTATION_FACT: policy_for(KEY)}, {RUN_FACT: {**STATED, "more": 1}}],
            "more is no known member",
        ),
        ([{RUN_FACT: STATED}], "must have a policy"),  # RN46
        (
            [{ATTESTATION_FACT: policy_for(KEY, measurements=())}, {RUN_FACT: STATED}],
            "must have a policy",
        ),
        (
            [{ATTESTATION_FACT: policy_for(KEY, receiver="signed")}, {RUN_FACT: STATED}],
            "must have a policy",
        ),
        ([{ATTESTATION_FACT: policy_for(KEY, paths=())}, {RUN_FACT: STATED}], "must have a policy"),
        (
            [{ATTESTATION_FACT: policy_for(KEY, "API_KEY", "B")}, {RUN_FACT: STATED}],
            "must have a policy",
        ),
        ([{ATTESTATION_FACT: {"more": 1}}, {RUN_FACT: STATED}], "policy of the run grant"),
    ],
)
def test_statement_and_policy(facts: list[Any], part: str) -> None:
    assert part in refused(by_key(facts=facts))


def test_statements_in_a_sign_in_text() -> None:
    policy, run = statement_resource(policy_for(OWNER)), _run_resource(STATEMENT)
    assert "states them 0 times" in refused(by_wallet(policy))
    assert "states them 2 times" in refused(by_wallet(policy, run, run))
    spaced = RUN_URN + encode_url(json.dumps(STATED).encode())
    for odd in (
        "urn:sealspace:run:v2:e30",
        RUN_URN.upper() + "e30",
        RUN_URN + "e30=",
        RUN_URN + "!",
        spaced,
    ):
        assert "unknown version" in refused(by_wallet(policy, odd)), odd
        assert "unknown version" in refused(by_wallet(policy, run, odd)), odd
    assert "more is no known member" in refused(
        by_wallet(policy, RUN_URN + encode_url(b'{"more":1}'))
    )


DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"programs": []},
        {"programs": [SHA256]},
        {"programs": [{"wasmSha256": SHA256.upper()}]},
        {"programs": [{}]},
        {"programs": [{"wasmSha256": SHA256, "project": None}]},
        {"programs": [{"wasmSha256": SHA256, "project": "a"}]},
        {"programs": [{"wasmSha256": None, "project": f"{DID}/a"}]},
        {"programs": [{"wasmSha256": SHA256, "project": f"{DID}/a", "version": SHA256}]},
        {"programs": [{"project": "a/b"}]},
        {"programs": [{"project": f"{DID}#x/a"}]},
        {"programs": [{"project": f"{DID}/A"}]},
        {"programs": [{"project": f"{DID}/-a"}]},
        {"programs": [{"project": f"{DID}/{'a' * 65}"}]},
        # not canonical
        {
            "programs": [
                {"project": "did:pkh:eip155:1:0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266/a"}
            ]
        },
        {"programs": [{"wasmSha256": SHA256}] * 65},
        {**STATED, "callers": None},
        {**STATED, "callers": "allowall"},
        {**STATED, "hosts": "api.example.com"},
        {**STATED, "hosts": ["API.example.com"]},
        {**STATED, "hosts": ["api.example.com."]},
        {**STATED, "hosts": ["api.example.com:443"]},
        {**STATED, "hosts": ["https://api.example.com"]},
        {**STATED, "hosts": ["*.example.com"]},
        {**STATED, "hosts": ["127.0.0.1"]},
        {**STATED, "hosts": ["2130706433"]},
        {**STATED, "hosts": ["0x7f.1"]},
        {**STATED, "hosts": ["127.0x1"]},
        {**STATED, "hosts": ["[::1]"]},
        {**STATED, "hosts": ["::1"]},
        {**STATED, "hosts": ["user@api.example.com"]},
        {**STATED, "hosts": ["a..b"]},
        {**STATED, "hosts": ["a" * 64]},
        {**STATED, "hosts": ["a\n"]},
        {**STATED, "hosts": [f"h{number}" for number in range(65)]},
        {**STATED, "limits": None},
        {**STATED, "limits": {"maxMemoryMb": 0}},
        {**STATED, "limits": {"maxMemoryMb": True}},
        {**STATED, "limits": {"maxMemoryMb": 513}},
        {**STATED, "limits": {"maxExecutionSeconds": 1.5}},
        {**STATED, "limits": {"maxInstructions": 500_000_000_001}},
        {**STATED, "limits": {"more": 1}},
        {**STATED, "unbound": None},
        {**STATED, "unbound": 1},
        {**STATED, "unbound": "true"},
        {**STATED, "more": 1},
    ],
)
def test_statements_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_run_statement(value)


def test_RN264_unbound_values_are_not_allowed_unless_stated() -> None:
    """RN264: a grant without the member, as former clients wrote it, does not allow them."""
    assert not parse_run_statement(STATED).allows_unbound
    assert not parse_run_statement({**STATED, "unbound": False}).allows_unbound
    assert parse_run_statement({**STATED, "unbound": True}).allows_unbound


def test_statements_round_trip() -> None:
    value: dict[str, Any] = {
        "programs": [
            {"wasmSha256": SHA256},
            {"project": f"{DID}/mail-digest"},
            {"wasmSha256": SHA256, "project": f"{DID}/mail-digest"},
        ],
        "callers": {"Not": {"condition": {"Owner": {}}}},
        "hosts": ["api.example.com", "localhost"],
        "limits": {
            "maxInstructions": 500_000_000_000,
            "maxMemoryMb": 512,
            "maxExecutionSeconds": 180,
        },
        "unbound": True,
    }
    statement = parse_run_statement(value)
    assert run_statement_json(statement) == value
    project = parse_project(f"{DID}/mail-digest")
    assert statement.programs == (ByHash(SHA256), ByProject(project), ByHash(SHA256, project))
    assert run_statement_json(parse_run_statement({"programs": [{"wasmSha256": SHA256}]})) == {
        "programs": [{"wasmSha256": SHA256}],
        "callers": {"Owner": {}},
    }


def test_which_programs_a_statement_names() -> None:
    """RN45, RN176: a grant of a hash with a project applies to a version of that project only."""
    project, other = parse_project(f"{DID}/a"), parse_project(f"{DID}/b")

    def named(
        rule: ProgramRule, sha256: str, project: ProjectId | None, *, is_active: bool = False
    ) -> bool:
        active_of = project if is_active else None
        found = RunStatement(programs=(rule,)).rules_for(
            wasm_sha256=sha256, project=project, active_of=active_of
        )
        return found == [rule]

    by_hash, of_project, follows = ByHash(SHA256), ByHash(SHA256, project), ByProject(project)
    assert all(named(by_hash, SHA256, called) for called in (None, project, other))
    assert not named(by_hash, "cd" * 32, project)
    assert named(of_project, SHA256, project) and named(of_project, SHA256, project, is_active=True)
    assert not any(named(of_project, SHA256, called) for called in (None, other))
    assert not named(of_project, "cd" * 32, project, is_active=True)
    assert named(follows, "cd" * 32, project, is_active=True)
    assert not named(follows, "cd" * 32, other, is_active=True)
    assert not named(follows, "cd" * 32, project) and not named(follows, "cd" * 32, None)


@given(st.text(max_size=300))
def test_fuzz_run_grants(header: str) -> None:
    with pytest.raises(InvalidPortableDelegation):
        read_run_grant(header, runner=RUNNER.did)


# --- grants that a job made -----------------------------------------------------------------------

JOB = Ed25519Signer(bytes(range(60, 92)))
BUILD = Build(
    repository="github.com/alice/project",
    repository_id="1001",
    ref="refs/heads/main",
    commit="a1" * 20,
    workflow="github.com/alice/project/.github/workflows/release.yml",
)
RULE = ByHash(SHA256, parse_project(f"{BOB.did}/digest"), BUILD)
OFFERED = replace(STATEMENT, programs=(RULE,), refresh_for=RUNNER.did)
LATER = {"wasmSha256": "cd" * 32, "commit": "b2" * 20}


def job_grant(statement: RunStatement = OFFERED, **more: Any) -> str:
    """Return a grant of the owner to the job."""
    facts = [{ATTESTATION_FACT: policy_for(KEY)}, {RUN_FACT: run_statement_json(statement)}]
    return by_key(facts=facts, audience=JOB.did, **more)


def by_job(parent: str, *, signer: Any = JOB, audience: str = RUNNER.did, **more: Any) -> str:
    """Return a job's grant of a later build to the runner; `more` changes the token."""
    stated: dict[str, Any] = {"fct": [{JOB_FACT: parent, **LATER}], "prf": [token_cid(parent)]}
    return ucan(signer, audience, more.pop("att", att_of(KEY)), **(stated | more))


def test_a_job_s_grant_has_the_owner_s_terms() -> None:
    """RN245, RN246: a job's grant has the terms that the owner signed, and the job's own hash and
    commit."""
    parent = job_grant()
    job = read_run_grant(parent, runner=None)
    grant = read_run_grant(by_job(parent), runner=RUNNER.did)
    later = structs.replace(BUILD, commit="b2" * 20)
    rule = replace(RULE, wasm_sha256="cd" * 32, build=later)
    assert grant.statement == replace(OFFERED, programs=(rule,), refresh_for=None)
    assert grant.owner == KEY.did
    assert grant.secrets == job.secrets
    assert grant.policies == job.policies
    assert grant.delegation.delegator == JOB.did
    assert grant.expires_at == NOW + 3600
    assert read_run_grant(by_job(parent, exp=NOW + 60), runner=RUNNER.did).expires_at == NOW + 60


def test_a_job_s_grant_by_a_wallet() -> None:
    stated = (statement_resource(policy_for(OWNER)), _run_resource(OFFERED))
    parent = by_wallet(*stated, audience=JOB.did)
    cid = cid_text(parse_delegation(parent).cid)
    grant = read_run_grant(by_job(parent, att=att_of(OWNER), prf=[cid]), runner=RUNNER.did)
    assert grant.owner == OWNER.did


PARENT = job_grant()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        pytest.param(header, part, id=name)
        for name, header, part in (
            ("the job grant itself", PARENT, "this runner's DID"),
            (
                "a direct grant with its term",
                by_key(
                    facts=[
                        {
                            ATTESTATION_FACT: policy_for(KEY),
                            RUN_FACT: {**run_statement_json(OFFERED)},
                        }
                    ]
                ),
                "for the key of a job",
            ),
            ("another job", by_job(PARENT, signer=BOB), "differs"),
            ("another runner", by_job(PARENT, audience=BOB.did), "differs"),
            (
                "a grant for another runner",
                by_job(job_grant(replace(OFFERED, refresh_for=BOB.did))),
                "differs",
            ),
            ("another parent", by_job(PARENT, prf=[token_cid(job_grant(exp=NOW + 9))]), "differs"),
            (
                "a further parent",
                by_job(PARENT, prf=[token_cid(PARENT), token_cid(job_grant(exp=NOW + 9))]),
                "differs",
            ),
            ("no parent", by_job(PARENT, prf=[]), "differs"),
            ("fewer rights", by_job(PARENT, att={at(KEY, "API_KEY"): [GET]}), "differs"),
            ("more rights", by_job(PARENT, att=att_of(KEY, "API_KEY", "B")), "differs"),
            ("a later end", by_job(PARENT, exp=NOW + 3601), "differs"),
            (
                "a job grant without a build",
                by_job(job_grant(replace(OFFERED, programs=(replace(RULE, build=None),)))),
                "differs",
            ),
            (
                "a job grant without a project",
                by_job(job_grant(replace(OFFERED, programs=(replace(RULE, project=None),)))),
                "differs",
            ),
            (
                "a job grant of two programs",
                by_job(job_grant(replace(OFFERED, programs=(RULE, ByHash("ef" * 32))))),
                "differs",
            ),
            (
                "a parent that is no job grant",
                by_job(job_grant(replace(OFFERED, refresh_for=None))),
                "for the key of a job",
            ),
            (
                "a job grant with a parent",
                by_job(job_grant(prf=[token_cid(PARENT)])),
                "have no parent delegation",
            ),
            ("a job grant that was altered", by_job(PARENT[:-8] + "AAAAAAAA"), "not valid"),
            ("a grant of a grant by a job", by_job(by_job(PARENT)), "differs"),
            (
                "a run statement of the job",
                by_job(PARENT, fct=[{JOB_FACT: PARENT, **LATER}, {RUN_FACT: STATED}]),
                "have no parent delegation",
            ),
            (
                "a policy of the job",
                by_job(PARENT, fct=[{JOB_FACT: PARENT, **LATER, ATTESTATION_FACT: {}}]),
                "",
            ),
            (
                "two facts",
                by_job(PARENT, fct=[{JOB_FACT: PARENT, **LATER}] * 2),
                "have no parent delegation",
            ),
            (
                "a hash in capitals",
                by_job(PARENT, fct=[{JOB_FACT: PARENT, **LATER, "wasmSha256": "CD" * 32}]),
                "have no parent delegation",
            ),
            (
                "a branch for a commit",
                by_job(PARENT, fct=[{JOB_FACT: PARENT, **LATER, "commit": "main"}]),
                "have no parent delegation",
            ),
            ("no fact", by_job(PARENT, fct=[]), "have no parent delegation"),
        )
    ],
)
def test_what_a_job_may_not_grant(header: str, part: str) -> None:
    """RN245, RN246: a job's grant is refused if it breaks any single rule."""
    assert part in refused(header)


def test_a_job_grant_is_read_as_such_alone() -> None:
    """RN245: a run grant or a grant by a job is not accepted as a job grant."""
    for header in (by_key(), by_job(PARENT)):
        with pytest.raises(InvalidPortableDelegation):
            read_run_grant(header, runner=None)
