"""Tests of what a grant to later builds names, without a runner (PV17, PV18)."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs, to_builtins
from sigstore_authority import SigstoreAuthority

from capabilities.strict_json import shaped
from runner.cli.runner_serve import roots_of
from sealspace.apps.provenance import parse_trusted_root, verify_origin
from sealspace.documents.builds import GITHUB_ISSUER, Origin, TrustedBuilds, require_trusted
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByBuilds, parse_run_statement, run_statement_json
from sealspace.documents.trusted_roots import MAX_TRUSTED_ROOT_BYTES, named_root
from sealspace.errors import InvalidInput, ProvenanceInvalid
from sealspace.service.command_errors import ConfigurationError

SHA256 = "ab" * 32
DID = "did:key:z6MkjRuJtMxfTErK59VWeV7FELxpsvzSUQ3AC6DmdNPFjaXx"
REPOSITORY, REF = "github.com/alice/project", "refs/heads/main"
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml"
AUTHORITY = SigstoreAuthority()
ROOT = named_root(AUTHORITY.trusted_root)
BUILDS = TrustedBuilds(
    repository=REPOSITORY,
    repository_id="1001",
    ref=REF,
    source_workflow=WORKFLOW,
    signer=f"{WORKFLOW}@{REF}",
    target="wasm32-wasip1",
    issuer=GITHUB_ISSUER,
    trusted_root=ROOT.sha256,
    least_run=10,
    least_attempt=2,
)
BUILDS_JSON = to_builtins(BUILDS)


def origin(**claims: Any) -> Origin:
    bundle = AUTHORITY.bundle(SHA256, **{"run": 10, "attempt": 2, **claims})
    return verify_origin(bundle, SHA256, parse_trusted_root(ROOT.document))


@pytest.mark.parametrize("number", [(10, 2), (10, 3), (11, 1)])
def test_PV17_builds_that_are_admitted(number: tuple[int, int]) -> None:
    run, attempt = number
    require_trusted(origin(run=run, attempt=attempt), BUILDS)


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("issuer", {"issuer": "https://issuer.example"}),
        ("config", {"source_workflow": f"{WORKFLOW}@refs/heads/other"}),
        ("config", {"source_workflow": f"{REPOSITORY}/.github/workflows/x.yml@{REF}"}),
        ("signer", {"signer": f"{WORKFLOW}@refs/heads/other"}),
        ("run", {"run": 9, "attempt": 9}),
        ("run", {"attempt": 1}),
    ],
)
def test_PV17_each_part_is_compared(claim: str, change: dict[str, Any]) -> None:
    with pytest.raises(ProvenanceInvalid) as refused:
        require_trusted(structs.replace(origin(), **change), BUILDS)
    assert refused.value.claim == claim


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("repository", {"repository": "github.com/bob/project"}),
        ("repository-id", {"repository_id": "1002"}),
        ("ref", {"ref": "refs/heads/other"}),
    ],
)
def test_PV17_each_part_of_the_build_is_compared(claim: str, change: dict[str, Any]) -> None:
    one = origin()
    with pytest.raises(ProvenanceInvalid) as refused:
        require_trusted(structs.replace(one, build=structs.replace(one.build, **change)), BUILDS)
    assert refused.value.claim == claim


def test_PV17_a_statement_of_builds_round_trips() -> None:
    value: dict[str, Any] = {"programs": [{"project": f"{DID}/a", "builds": BUILDS_JSON}]}
    statement = parse_run_statement(value)
    project = parse_project(f"{DID}/a")
    assert statement.programs == (ByBuilds(project, BUILDS),)
    assert run_statement_json(statement)["programs"] == value["programs"]
    assert statement.builds_for("wasm32-wasip1", project) is not None
    assert statement.builds_for("wasm32-wasip2", project) is None
    assert statement.builds_for("wasm32-wasip1", None) is None
    assert statement.rules_for(SHA256, project, project) == [], "no build is proven yet"


RULE = {"project": f"{DID}/a", "builds": BUILDS_JSON}


@pytest.mark.parametrize(
    "programs",
    [
        [RULE, {"wasmSha256": SHA256}],
        [RULE, RULE],
        [{"builds": BUILDS_JSON}],
        [{**RULE, "wasmSha256": SHA256}],
        [{**RULE, "build": to_builtins(origin().build)}],
        *(
            [{**RULE, "builds": {key: value for key, value in BUILDS_JSON.items() if key != name}}]
            for name in BUILDS_JSON
        ),
        *(
            [{**RULE, "builds": BUILDS_JSON | change}]
            for change in (
                {"more": 1},
                {"ref": "main"},
                {"signer": WORKFLOW},
                {"signer": f"{WORKFLOW}@main"},
                {"sourceWorkflow": f"{WORKFLOW}@{REF}"},
                {"issuer": "https://issuer.example"},
                {"target": "wasm32"},
                {"trustedRoot": "AB" * 32},
                {"leastRun": 0},
                {"leastRun": "10"},
                {"leastAttempt": 2**53},
                {"repositoryId": 1001},
            )
        ),
    ],
)
def test_PV17_statements_that_are_refused(programs: list[Any]) -> None:
    """PV17, RN44: another program, a missing member and an unknown one refuse the grant."""
    with pytest.raises(InvalidInput):
        parse_run_statement({"programs": programs})


@pytest.mark.parametrize(
    "uri",
    [
        f"https://{REPOSITORY}/actions/runs/1",
        f"https://{REPOSITORY}/actions/runs/0/attempts/1",
        f"https://{REPOSITORY}/actions/runs/1/attempts/1/x",
        f"https://{REPOSITORY}/actions/runs/1/attempts/1\n",
        f"https://{REPOSITORY}/actions/runs/{'9' * 16}/attempts/1",
        "https://github.com/bob/project/actions/runs/1/attempts/1",
        f"https://{REPOSITORY.replace('.', '-')}/actions/runs/1/attempts/1",
        None,
    ],
)
def test_PV19_a_certificate_without_a_run(uri: str | None) -> None:
    from cryptography.hazmat import asn1
    from sigstore_authority import Deviations

    value = None if uri is None else asn1.encode_der(uri)
    with pytest.raises(ProvenanceInvalid) as refused:
        origin(deviations=Deviations(claims={21: value}))
    assert refused.value.claim == "run"


def test_PV18_the_name_of_a_trusted_root() -> None:
    """PV18: spaces, the order of members and further lines do not change the name; content does."""
    parsed = json.loads(AUTHORITY.trusted_root)
    copies = (
        json.dumps(parsed, indent=2).encode(),
        json.dumps(dict(reversed(parsed.items()))).encode(),
        AUTHORITY.trusted_root + b"\n{}\n",
    )
    for copy in copies:
        assert named_root(copy) == ROOT
    assert named_root(SigstoreAuthority().trusted_root).sha256 != ROOT.sha256
    for bad in (b"", b"{", b'{"a":1,"a":2}', b" " * MAX_TRUSTED_ROOT_BYTES + b"{}"):
        with pytest.raises(ProvenanceInvalid):
            named_root(bad)


def test_PV17_a_record_is_read_strictly() -> None:
    assert shaped(BUILDS_JSON, TrustedBuilds) == BUILDS


def test_PV18_the_trusted_roots_of_an_operator(tmp_path: Path) -> None:
    """PV18: an operator gives at most four files, and one that cannot be read stops the start."""
    good, bad = tmp_path / "root.json", tmp_path / "bad.json"
    good.write_bytes(AUTHORITY.trusted_root)
    bad.write_bytes(b"{")
    assert roots_of(SimpleNamespace(root_files=(good,))) == {ROOT.sha256: ROOT.document}
    assert roots_of(SimpleNamespace(root_files=())) == {}
    for files in ((bad,), (good,) * 5):
        with pytest.raises(ConfigurationError):
            roots_of(SimpleNamespace(root_files=files))
