"""Tests of stored collateral: which document applies, and the effect of a damaged one."""

from pathlib import Path

import pytest
from deviating_platform import CollateralOptions, SimulatedPlatform

from sealspace.errors import CollateralNeeded
from tee_backend.attestation.attestation_errors import CollateralUnusable
from tee_backend.attestation.collateral import HeldCollateral
from tee_backend.attestation.inspection import CollateralFolder


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_older_edition_does_not_return(
    machine: SimulatedPlatform, now: float, tmp_path: Path, order: tuple[int, int]
) -> None:
    """A document with a higher evaluation number is preferred to another of the same family
    (AT16)."""
    kinder = machine.collateral_json(
        now, options=CollateralOptions(evaluation_number=19, issued_before_s=60)
    )
    newer = machine.collateral_json(
        now, options=CollateralOptions(evaluation_number=20, issued_before_s=7200)
    )
    documents = [(kinder, newer)[place] for place in order]
    for name, document in zip("ab", documents, strict=True):
        (tmp_path / f"{name}.json").write_bytes(document)
    for provider in (HeldCollateral(documents), CollateralFolder(tmp_path)):
        assert (await provider.collateral(machine.fmspc, "platform")).raw == newer


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_one_edition_the_later_one_judges(
    machine: SimulatedPlatform, now: float, order: tuple[int, int]
) -> None:
    """Of two documents with one evaluation number, the document that was issued later is used."""
    dated = [
        machine.collateral_json(now, options=CollateralOptions(issued_before_s=ago))
        for ago in (7200, 60)
    ]
    held = HeldCollateral([dated[place] for place in order])
    assert (await held.collateral(machine.fmspc, "platform")).raw == dated[1]


async def test_a_damaged_document_is_not_passed_over(
    machine: SimulatedPlatform, now: float, tmp_path: Path
) -> None:
    """A damaged document refuses all: it may be the newest, and the others more lenient."""
    document = machine.collateral_json(now)
    with pytest.raises(CollateralUnusable, match=r"^collateral-malformed$"):
        HeldCollateral([document, b"{}"])
    (tmp_path / "good.json").write_bytes(document)
    folder = CollateralFolder(tmp_path)
    assert (await folder.collateral(machine.fmspc, "platform")).raw == document
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CollateralNeeded, match="was refused") as damaged:
        await folder.collateral(machine.fmspc, "platform")
    assert damaged.value.problem == "collateral-malformed"
    assert str(tmp_path) in damaged.value.hint
    (tmp_path / "other.json").unlink()
    (tmp_path / "other.json").mkdir()
    with pytest.raises(CollateralNeeded, match=r"other\.json") as unreadable:
        await folder.collateral(machine.fmspc, "platform")
    assert unreadable.value.problem == "collateral-malformed"


async def test_a_family_that_is_not_held(machine: SimulatedPlatform, now: float) -> None:
    """A document of one family is not used for another family (AT16)."""
    held = HeldCollateral([machine.collateral_json(now)])
    with pytest.raises(CollateralUnusable, match=r"^platform-unknown$"):
        await held.collateral(bytes(6), "platform")
