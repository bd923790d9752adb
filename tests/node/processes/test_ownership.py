"""A node does not start if another package has one of our names.

See spec/decisions/0001-flat-packages.md.
"""

import sys
from pathlib import Path

import pytest

from node.processes.supervisor import refuse_foreign_distribution, refuse_foreign_package
from sealspace.service.command_errors import ForeignDistribution


def test_ours_alone_passes() -> None:
    """Our own distribution is no clash, and neither is a checkout without one."""
    refuse_foreign_distribution()


def test_a_foreign_claim_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another distribution with one of our names is refused by name, with a hint."""
    about = tmp_path / "culprit-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: culprit\n")
    (about / "RECORD").write_text("spaces/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ForeignDistribution, match=r"the distribution culprit .* named spaces"
    ) as refused:
        refuse_foreign_distribution()
    assert "its own environment" in refused.value.hint


def test_a_module_on_the_path_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that would be imported in place of ours is refused."""
    (tmp_path / "spaces.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    with pytest.raises(ForeignDistribution, match="own package spaces"):
        refuse_foreign_package()
