"""The wheel and the source archive are reproducible, and the SBOM has exactly what is locked."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sbom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from reproducible import ELSEWHERE, HERE, build, differences
from tests_support import REPOSITORY

EPOCH = 1_790_000_000


@pytest.mark.slow
def test_two_builds_have_the_same_bytes(tmp_path: Path) -> None:
    """Builds in other folders, with other times of files, umasks, time zones and seeds of hashes
    have the same bytes. Another `SOURCE_DATE_EPOCH` changes them, so the comparison can fail."""
    first = build(REPOSITORY, str(EPOCH), HERE, tmp_path / "first")
    second = build(REPOSITORY, str(EPOCH), ELSEWHERE, tmp_path / "second")
    assert [name[-7:] for name in sorted(first)] == ["any.whl", ".tar.gz"]
    assert differences(first, second) == []
    later = build(REPOSITORY, str(EPOCH + 86_400), HERE, tmp_path / "later")
    assert differences(first, later) == sorted(first)


def test_archives_that_are_missing_or_differ() -> None:
    """A missing archive and one with other bytes are differences."""
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]


def _locked() -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of each locked package, read without the tool's parser."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in (REPOSITORY / "requirements.lock").read_text("utf-8").splitlines():
        if pinned := re.match(r"([a-zA-Z0-9._-]+)==([^ ;]+)", line):
            found[pinned[1]] = (pinned[2], [])
        elif hashed := re.match(r" +--hash=sha256:([0-9a-f]{64})", line):
            list(found.values())[-1][1].append(hashed[1])
    return found


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """Return the SBOM as it is written for a release."""
    document: dict[str, Any] = json.loads(sbom.sbom(EPOCH))
    return document


def test_the_sbom_has_what_is_locked(written: dict[str, Any]) -> None:
    """Each locked package is a component with its version and hashes, and nothing else is."""
    listed = {}
    for component in written["components"]:
        hashes = [one["content"] for one in component["hashes"]]
        listed[component["name"]] = (component["version"], sorted(hashes))
    locked = {name: (one, sorted(hashes)) for name, (one, hashes) in _locked().items()}
    assert len(locked) > 100
    assert listed == locked


def test_scopes_and_dependencies(written: dict[str, Any]) -> None:
    """The base install is required, extras are optional, and tools of developers are excluded."""
    scopes = {component["name"]: component["scope"] for component in written["components"]}
    expected = {"aiohttp": "required", "yarl": "required", "lmdb": "optional", "ruff": "excluded"}
    assert {name: scopes[name] for name in expected} == expected
    needed = {one["ref"]: one.get("dependsOn", []) for one in written["dependencies"]}
    direct = {reference.partition("==")[0] for reference in needed["sealspace"]}
    assert {"aiohttp", "cryptography", "lmdb", "wasmtime"} <= direct
    assert "ruff" not in direct
    cffi_users = [ref for ref, below in needed.items() if any("cffi==" in one for one in below)]
    assert any(ref.startswith("cryptography==") for ref in cffi_users)


def test_the_sbom_is_valid_and_repeatable(written: dict[str, Any]) -> None:
    """The document meets the schema of CycloneDX 1.6, and the same lock gives the same bytes."""
    text = sbom.sbom(EPOCH)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str('{"bomFormat": "other"}')
    assert json.loads(text) == written
    assert sbom.sbom(EPOCH) == text


@pytest.mark.parametrize("line", ["aiohttp==3.14.0\n", "aiohttp>=3 --hash=sha256:" + "0" * 64])
def test_a_lock_without_versions_or_hashes(line: str) -> None:
    """A package without an exact version and a hash is an error."""
    with pytest.raises(ValueError, match="no exact version with hashes"):
        sbom.parse_locked(line)


def test_audits_install_by_hashes() -> None:
    """The audit's own packages are locked by hashes, and each locked package is audited."""
    recipe = (REPOSITORY / "Makefile").read_text("utf-8").split("\naudit: ")[1].partition("\n\n")[0]
    assert "--require-hashes --requirement tools/audit.lock" in recipe
    assert "pip-audit --strict" in recipe
    assert "--requirement requirements.lock" in recipe
    audit = (REPOSITORY / "tools" / "audit.lock").read_text("utf-8")
    assert {one.name for one in sbom.parse_locked(audit)} >= {"pip-audit", "cyclonedx-python-lib"}
