"""The kit against nodes with one fault each."""

import asyncio

import pytest
from conformance_kit.evidence_faults import EVIDENCE_FAULTS
from conformance_kit.faults import FAULTS
from conformance_kit.line_faults import Fault
from conformance_kit.runner_faults import RUNNER_FAULTS
from patience import PATIENCE_S
from sealspace_conformance.catalogue import run_groups
from sealspace_conformance.groups.vectors import cases
from sealspace_conformance.report import FAILED
from tests_support import REPOSITORY


def test_number_of_faults() -> None:
    """There are at least twenty faults, each with a name of its own, and the page has the numbers
    of all."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20
    page = (REPOSITORY / "docs" / "reference" / "conformance-kit.md").read_text("utf-8")
    assert f" {len(FAULTS)} copies of it" in page
    assert f" {len(EVIDENCE_FAULTS)} copies of a node that accepts evidence" in page
    assert f" {len(RUNNER_FAULTS)} copies of the runner" in page
    assert f" {len(cases())} recorded tokens" in page


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(node_url: str, fault: Fault) -> None:
    """A row fails that names the fault. The same row passes without it (`test_nodes.py`)."""
    with fault.present():
        run, _ = asyncio.run(run_groups(node_url, only=[fault.group], timeout_s=PATIENCE_S))
    assert fault.asked in {row.asked for row in run.rows if row.verdict == FAILED}
