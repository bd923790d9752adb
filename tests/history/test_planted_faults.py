"""The texts of the faults that runs plant into copies of the product."""

import ast

import pytest
from history.planted_faults import PLANTED_FAULTS, PlantedFault
from tests_support import REPOSITORY


@pytest.mark.parametrize("planted", PLANTED_FAULTS, ids=[one.name for one in PLANTED_FAULTS])
def test_a_planted_fault_fits_the_product(planted: PlantedFault) -> None:
    """The sound text occurs once in the module, and the broken text in its place can be parsed."""
    text = (REPOSITORY / planted.module).read_text("utf-8")
    assert text.count(planted.sound) == 1
    ast.parse(text.replace(planted.sound, planted.broken))
