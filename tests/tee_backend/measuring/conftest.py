"""Fixtures of reference values: a folder as a backend's operator publishes it."""

from pathlib import Path

import pytest
from published_folder import PublishedFolder


@pytest.fixture
def published(tmp_path: Path) -> PublishedFolder:
    """A folder that is complete once it is written."""
    return PublishedFolder(folder=tmp_path / "published")
