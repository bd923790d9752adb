"""Workflows and hooks run only `make` targets and pinned actions."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
_TARGETS = frozenset(
    re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
)


def _values(text: str, name: str) -> Iterator[str]:
    yield from re.findall(rf"^ *(?:- )?{name}: *(.*)$", text, re.MULTILINE)


def _is_target(command: str) -> bool:
    match = re.fullmatch(r"make(?: --no-print-directory)? ([a-z-]+)", command)
    return match is not None and match[1] in _TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_make_targets(path: Path) -> None:
    """Each command is a target of the Makefile, and each action is pinned by a full commit hash
    with its version."""
    text = path.read_text("utf-8")
    commands, actions = list(_values(text, "run")), list(_values(text, "uses"))
    assert [command for command in commands if not _is_target(command)] == []
    assert [
        one
        for one in actions
        if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+(\.\d+)*", one)
    ] == []
    assert commands
    assert actions


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_few_rights(path: Path) -> None:
    """A workflow has read rights only, except for the job that attests a release."""
    text = path.read_text("utf-8")
    assert "\npermissions: {}\n" in text
    jobs = re.split(r"^  (?=[a-z-]+:$)", text.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    (writing,) = [job for job in jobs if "write" in job] or [""]
    expected = ["id-token", "attestations"] if path.name == "release.yml" else []
    assert re.findall(r"^      ([a-z-]+): write$", writing, re.MULTILINE) == expected
    assert text.count("write") == len(expected)
    assert "run:" not in writing
    assert "checkout" not in writing
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_supported_versions_are_tested() -> None:
    """The versions of Python that the distribution declares are those of the tests' matrix."""
    declared = re.findall(r"Python :: (3\.\d+)", (REPOSITORY / "pyproject.toml").read_text("utf-8"))
    matrices = list(
        _values((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text("utf-8"), "python")
    )
    assert matrices == [str(declared).replace("'", '"')] * 2


def test_a_release_is_what_a_tag_builds() -> None:
    """A tag starts the release workflow, which attests everything that `make release` builds."""
    text = (REPOSITORY / ".github" / "workflows" / "release.yml").read_text("utf-8")
    assert 'on:\n  push:\n    tags: ["v*"]\n\n' in text
    assert list(_values(text, "run")) == ["make release"]
    assert list(_values(text, "subject-path")) == ["dist/*"]
    assert text.index("  build:") < text.index("    needs: build") < text.index("attest-build")
    recipe = (REPOSITORY / "Makefile").read_text("utf-8").split("\nrelease: wheel ")[1]
    recipe = recipe.partition("\n\n")[0]
    for made in (
        "--sdist",
        "dist/sealspace-files.txt",
        "dist/sealspace-sbom.json",
        "dist/sealspace-image.tar",
    ):
        assert made in recipe


def test_hooks_run_make_targets() -> None:
    """Every pre-commit hook runs a target of the Makefile."""
    hooks = list(_values((REPOSITORY / ".pre-commit-config.yaml").read_text("utf-8"), "entry"))
    assert hooks
    assert [hook for hook in hooks if not _is_target(hook)] == []
