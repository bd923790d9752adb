"""A node with any release settings on this test's folder."""

from functools import partial
from pathlib import Path

import pytest
from attestation_stage import Stay
from attestation_stage import staying as stay_on
from deviating_platform import SimulatedPlatform


@pytest.fixture
def staying(tmp_path: Path, platform: SimulatedPlatform) -> Stay:
    """Return what runs a node with some release settings; on one folder, however often."""
    return partial(stay_on, tmp_path, platform)
