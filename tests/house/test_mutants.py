"""What `make mutants` mutates, with which tests, and the mutants that were judged equivalent."""

import tomllib
from typing import Any

import pytest
import sbom
from tests_support import REPOSITORY

SETTINGS: dict[str, Any] = tomllib.loads((REPOSITORY / "tools" / "mutants.toml").read_text("utf-8"))


def _without_layout(text: str) -> str:
    return "".join(text.split())


def test_modules_and_their_tests() -> None:
    """Each module exists, is named once, and has tests that exist."""
    paths = [module["path"] for module in SETTINGS["module"]]
    assert len(paths) == len(set(paths)) >= 7
    for module in SETTINGS["module"]:
        assert (REPOSITORY / module["path"]).is_file()
        for stage in ("first", "wider"):
            tests = [name for name in module[stage] if name.startswith("tests/")]
            assert tests
            assert all((REPOSITORY / name).exists() for name in tests), module["path"]


def test_judgements_are_about_lines_that_exist() -> None:
    """A mutant is judged once, of the text that the module has now, and with a reason."""
    seen = set()
    for one in SETTINGS["equivalent"]:
        key = (one["module"], one["definition"], one["was"], one["became"])
        assert key not in seen
        seen.add(key)
        assert one["was"] != one["became"]
        assert len(one["why"].split()) > 3
        text = (REPOSITORY / one["module"]).read_text("utf-8")
        assert _without_layout(one["was"]) in _without_layout(text), key


@pytest.mark.parametrize(("tool", "package"), [("mutants", "cosmic-ray"), ("coverage", "coverage")])
def test_packages_are_installed_by_hashes(tool: str, package: str) -> None:
    """The packages beside the lock are locked by hashes, too."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    recipe = makefile.split(f"\n.cache/{tool}/.installed: ")[1]
    assert "--require-hashes" in recipe.partition("\n\n")[0]
    locked = (REPOSITORY / "tools" / f"{tool}.lock").read_text("utf-8")
    assert package in {one.name for one in sbom.parse_locked(locked)}
