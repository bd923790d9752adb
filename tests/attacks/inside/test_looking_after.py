"""Collateral that is fetched by itself, and what is removed by itself, against hostile services and clocks."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests_support import FixedClock

from node.cli import main
from node.config.tree import Config, Http, Retention, Store
from node.housekeeping.retention import prune_audit
from node.housekeeping.seal_audit import seal_audit
from node.processes.embedded import embedded_node
from sealspace.client import Client
from sealspace.wallets import new_wallet
from tee_backend.attestation.certificates import PlatformCa
from tee_backend.attestation.collateral import CollateralFile, check_not_older, parse_collateral
from tee_backend.attestation.collateral_fetcher import UNKNOWN_FOR_S, CollateralFetcher
from tee_backend.attestation.errors import CollateralRollback, PlatformUnknown
from tee_backend.evidence.simulated import SimulatedPlatform

DAY_S = 86_400.0


# --- collateral ----------------------------------------------------------------------------------------------------


def test_an_older_edition_of_the_quoting_enclave_does_not_return(platform: SimulatedPlatform) -> None:
    """Signed anew today, it is later than the one held, and kinder to old enclaves: refused all the same (AT19)."""
    now = 1_700_000_000.0
    held = parse_collateral(platform.collateral_json(now))
    today = parse_collateral(platform.collateral_json(now + DAY_S))
    check_not_older(today, held)
    older = replace(today.qe_identity, evaluation_number=held.qe_identity.evaluation_number - 1)
    with pytest.raises(CollateralRollback):
        check_not_older(replace(today, qe_identity=older), held)


async def test_a_clock_that_was_set_back_holds_no_family_up() -> None:
    """A failure is remembered as long as it may be, whatever the clock said when it happened (AT32)."""
    asked: list[bytes] = []

    class Service:
        async def collateral(self, fmspc: bytes, ca: PlatformCa) -> CollateralFile:
            asked.append(fmspc)
            raise PlatformUnknown("unknown")

    clock = FixedClock(1_900_000_000.0)
    fetcher = CollateralFetcher(Service(), clock=clock)
    for step_s in (0.0, UNKNOWN_FOR_S - 1, -300 * DAY_S):
        clock.advance(step_s)
        with pytest.raises(PlatformUnknown):
            await fetcher.fetch(b"family", "platform")
    assert len(asked) == 2


# --- the audit chain -----------------------------------------------------------------------------------------------


async def used(folder: Path, clock: FixedClock, *, unexported: bool = False) -> None:
    """Run a node on a folder, have it used, and cut what is due."""
    settings = Retention(audit_days=365, audit_unexported=unexported)
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(folder)), retention=settings)
    async with embedded_node(config, clock=clock) as node:
        async with Client(node.url, clock=clock) as client:
            await client.sign_in(new_wallet())
        while await prune_audit(node.services):
            pass
        while await seal_audit(node.services):
            pass


async def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = await asyncio.to_thread(main, [*arguments])
    return status, capsys.readouterr().out


async def test_exports_count_again_after_a_cut_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever cut the chain once without an export can note exports of what is left (RC27)."""
    clock, data = FixedClock(1_700_000_000.0), ("--data", str(tmp_path / "data"))
    await used(tmp_path / "data", clock)
    await run(capsys, "audit", "export", *data)  # seals, and signs a head
    clock.advance(4000 * DAY_S)
    await used(tmp_path / "data", clock, unexported=True)
    status, text = await run(capsys, "audit", "export", *data)
    assert status == 0 and json.loads(text.splitlines()[0])["after"] > 0
    file = tmp_path / "left.jsonl"
    file.write_text(text)
    status, text = await run(capsys, "audit", "kept", *data, str(file))
    assert (status, json.loads(text or "{}").get("kept", 0) > 0) == (0, True)
