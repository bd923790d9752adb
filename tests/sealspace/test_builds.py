"""The wanted origin of a program (PV11), and addresses of repositories."""

from typing import Any

import pytest
from sigstore_authority import SigstoreAuthority
from tests_support import altered

from sealspace.apps.provenance import parse_trusted_root, require_build, verify_provenance
from sealspace.documents.builds import Build, repository_of
from sealspace.errors import InvalidInput, ProvenanceInvalid

AUTHORITY = SigstoreAuthority()
ROOT = parse_trusted_root(AUTHORITY.trusted_root)
PROGRAM = "5a" * 32
REPOSITORY = "github.com/alice/project"
ELSEWHERE = "github.com/mallory/project"
SHARED_WORKFLOW = "github.com/builders/shared/.github/workflows/build.yml"
BUILD = verify_provenance(AUTHORITY.bundle(PROGRAM), PROGRAM, ROOT)
OWN_WORKFLOW = f"{BUILD.workflow}@{BUILD.ref}"


def test_a_reusable_workflow_of_another_repository_has_to_be_named() -> None:
    """PV9, PV11: a reusable workflow of another repository is refused unless the owner names it."""
    for ref in ("refs/tags/v1", "refs/tags/shared@1.0", "c3" * 20):
        data = AUTHORITY.bundle(
            PROGRAM, workflow=SHARED_WORKFLOW, workflow_ref=ref, config=OWN_WORKFLOW
        )
        build = verify_provenance(data, PROGRAM, ROOT)
        assert build == altered(BUILD, workflow=SHARED_WORKFLOW)
        require_build(build, repository=REPOSITORY, ref=BUILD.ref, workflow=SHARED_WORKFLOW)
        assert not_wanted(build) == "workflow"


def not_wanted(build: Build, **wanted: Any) -> str:
    with pytest.raises(ProvenanceInvalid) as refusal:
        require_build(build, **({"repository": REPOSITORY, "ref": BUILD.ref} | wanted))
    assert refusal.value.hint
    return refusal.value.claim


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"repository_id": "1001"},
        {"workflow": BUILD.workflow},
        {"repository_id": "1001", "workflow": BUILD.workflow},
    ],
)
def test_the_wanted_origin_is_accepted(wanted: dict[str, str]) -> None:
    """PV11: a program with the wanted origin is accepted."""
    require_build(BUILD, repository=REPOSITORY, ref=BUILD.ref, **wanted)


@pytest.mark.parametrize(
    ("claim", "wanted"),
    [
        ("repository", {"repository": ELSEWHERE}),
        ("repository", {"repository": "github.com/alice/proj"}),
        ("repository", {"repository": "github.com/alice/project-evil"}),
        ("repository", {"repository": "github.com/Alice/project"}),
        ("repository", {"repository": "github.com/alice/project/"}),
        ("repository", {"repository": "https://github.com/alice/project"}),
        ("repository", {"repository": ""}),
        ("repository", {"repository": ELSEWHERE, "repository_id": "1001"}),
        ("repository", {"repository": ELSEWHERE, "repository_id": "1002"}),
        ("repository-id", {"repository_id": "1002"}),
        ("repository-id", {"repository_id": ""}),
        ("ref", {"ref": "refs/tags/main"}),
        ("ref", {"ref": "main"}),
        ("ref", {"ref": "refs/heads/main "}),
        ("ref", {"ref": "refs/heads/Main"}),
        ("ref", {"ref": ""}),
        ("workflow", {"workflow": SHARED_WORKFLOW}),
        ("workflow", {"workflow": OWN_WORKFLOW}),
        ("workflow", {"workflow": BUILD.workflow.removesuffix("l")}),
        ("workflow", {"workflow": ""}),
    ],
)
def test_another_origin_than_the_wanted_one_is_refused(claim: str, wanted: dict[str, str]) -> None:
    """PV11: a program with another origin than the wanted one is refused."""
    assert not_wanted(BUILD, **wanted) == claim


def test_a_namesake_of_the_repository_is_not_the_repository() -> None:
    """PV11: a repository whose name begins like the wanted one is refused as source and as
    workflow."""
    evil = f"{REPOSITORY}-evil"
    data = AUTHORITY.bundle(PROGRAM, repository=evil, repository_id="6")
    build = verify_provenance(data, PROGRAM, ROOT)
    assert not_wanted(build) == "repository"
    assert not_wanted(altered(BUILD, workflow=f"{evil}/.github/workflows/a.yml")) == "workflow"
    assert not_wanted(altered(BUILD, workflow=f"{evil}/a.yml"), workflow="") == "workflow"


def test_a_renamed_and_a_replaced_repository_are_told_apart() -> None:
    """PV11: the error tells a renamed repository from a replaced one."""
    renamed = altered(BUILD, repository="github.com/alice/renamed")
    with pytest.raises(ProvenanceInvalid, match=r"is now named github.com/alice/renamed"):
        require_build(renamed, repository=REPOSITORY, ref=BUILD.ref, repository_id="1001")
    with pytest.raises(ProvenanceInvalid, match=r"number on GitHub is 1001, and was 7"):
        require_build(BUILD, repository=REPOSITORY, ref=BUILD.ref, repository_id="7")


@pytest.mark.parametrize(
    "text",
    [
        "alice/project",
        "github.com/alice/project",
        "https://github.com/alice/project",
        "https://github.com/alice/project/",
        "https://github.com/alice/project.git",
        "http://github.com/alice/project.git/",
        "git@github.com:alice/project.git",
        "ssh://git@github.com/alice/project.git",
    ],
)
def test_addresses_of_a_repository(text: str) -> None:
    assert repository_of(text) == REPOSITORY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "alice/",
        "/project",
        "alice/project/more",
        "alice/project\n",
        "alice/.",
        "alice/..",
        "../project",
        "алиса/project",
        "https://alice/project",
        "ssh://git@internal/project",
        "git@internal:alice/project",
        "https://gitlab.com/alice/project",
        "https://github.com./alice/project",
        "https://github.com@evil.example/alice/project",
        "https://evil.example/github.com/alice/project",
        "https://evil@github.com/alice/project",
        "https://github.com.evil.example/alice/project",
        "https://github.com/alice/project?ref=main",
        "https://github.com/alice/project#main",
        "https://github.com/alice/pro%6aect",
        "file:///alice/project",
    ],
)
def test_other_texts_are_no_address_of_a_repository(text: str) -> None:
    with pytest.raises(InvalidInput):
        repository_of(text)
