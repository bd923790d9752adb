"""Fixtures: a node with chosen release settings."""

from functools import partial
from pathlib import Path

import pytest
from attestation_stage import Stay
from attestation_stage import staying as stay_on
from deviating_platform import SimulatedPlatform


@pytest.fixture
def staying(tmp_path: Path, platform: SimulatedPlatform) -> Stay:
    """Return a function that runs a node with some release settings, always on one folder."""
    return partial(stay_on, tmp_path, platform)
