"""Exports of the audit chain, and their confirmation with `audit kept`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from embedded_node import embedded_node
from tests_support import FixedClock

from node.config.tree import Config, Http, Retention, Store
from node.housekeeping.schedule import prune_audit
from node.housekeeping.seal_audit import seal_audit
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.wallets import new_wallet

DAY_S = 86_400.0


def config_of(folder: Path, **retention: Any) -> Config:
    return Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(folder / "data")),
        retention=Retention(**retention),
    )


async def used(folder: Path, clock: FixedClock, *, owners: int = 1, **retention: int) -> str:
    """Use a node on a folder and run its due housekeeping; return its DID."""
    async with embedded_node(config_of(folder, **retention), clock=clock) as node:
        for _ in range(owners):
            async with Client(node.url, clock=clock) as client:
                await client.sign_in(new_wallet())
        while await prune_audit(node.services):
            pass
        while await seal_audit(node.services):
            pass
        return node.services.keyring.node_did


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main([*arguments])
    reported = capsys.readouterr()
    return status, reported.out, reported.err


async def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    return await asyncio.to_thread(ran, capsys, *arguments)


async def test_from_an_export_to_a_cut_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a confirmed export, old entries are removed and the rest of the chain verifies (RC27,
    RC28)."""
    clock, data = FixedClock(1_700_000_000.0), ("--data", str(tmp_path / "data"))
    did = await used(tmp_path, clock, owners=2, audit_days=365)
    first = tmp_path / "first.jsonl"
    status, text, _ = await run(capsys, "admin", "audit", "export", *data)
    first.write_text(text)
    assert status == 0
    number = json.loads((await run(capsys, "verify", "--node-did", did, str(first)))[1])["number"]
    status, text, _ = await run(capsys, "admin", "audit", "kept", *data, str(first))
    assert (status, json.loads(text)) == (0, {"kept": number})
    clock.advance(4000 * DAY_S)  # an export is signed by the system's clock
    await used(tmp_path, clock, audit_days=365)
    status, text, reported = await run(capsys, "admin", "audit", "export", *data)
    assert status == 0
    assert f"entries up to {number} were removed" in reported
    second = tmp_path / "second.jsonl"
    second.write_text(text)
    _, text, reported = await run(capsys, "verify", "--node-did", did, str(second))
    left = json.loads(text)
    assert left["after"] == number
    ending = f"entries {number + 1} to {left['number']} of the audit chain: valid\n"
    assert reported == ending
    assert left["number"] > number
    assert (await run(capsys, "admin", "audit", "kept", *data, str(second)))[0] == 0


async def test_exports_count_again_after_a_cut_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After entries were removed without an export, exports of the rest can be confirmed (RC27)."""
    clock, data = FixedClock(1_700_000_000.0), ("--data", str(tmp_path / "data"))
    await used(tmp_path, clock, audit_days=365)
    await run(capsys, "admin", "audit", "export", *data)  # seals, and signs a head
    clock.advance(4000 * DAY_S)
    await used(tmp_path, clock, audit_days=365, audit_unexported=True)
    status, text, _ = await run(capsys, "admin", "audit", "export", *data)
    assert status == 0 and json.loads(text.splitlines()[0])["after"] > 0
    file = tmp_path / "left.jsonl"
    file.write_text(text)
    status, text, _ = await run(capsys, "admin", "audit", "kept", *data, str(file))
    assert status == 0
    assert json.loads(text or "{}").get("kept", 0) > 0


async def test_files_that_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export that is invalid, of another store, or starts too late is refused with a next
    step."""
    clock, data = FixedClock(), ("--data", str(tmp_path / "a" / "data"))
    await used(tmp_path / "a", clock, owners=2)
    await used(tmp_path / "b", clock)
    (_, whole, _), (_, other, _), (_, late, _) = [
        await run(
            capsys, "admin", "audit", "export", "--data", str(tmp_path / name / "data"), *more
        )
        for name, more in (("a", ()), ("b", ()), ("a", ("--after", "1")))
    ]
    changed = whole.replace("delegation.registered", "delegation.forgotten", 1)
    assert changed != whole
    for text, hint in (
        (changed, "export it again"),
        (other, "export it again"),
        (late, "--after 0"),
    ):
        path = tmp_path / "file.jsonl"
        path.write_text(text)
        status, out, reported = await run(capsys, "admin", "audit", "kept", *data, str(path))
        assert status == 1, reported
        assert out == "", reported
        assert hint in reported.splitlines()[-1]


@pytest.mark.parametrize("setting", [{"receipts_days": 89}, {"audit_days": 364}])
def test_memory_is_not_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: dict[str, int]
) -> None:
    """Retention below the documented minimum is refused at the start (RC25, RC27)."""
    ((name, days),) = setting.items()
    path = tmp_path / "sealspace.toml"
    path.write_text(f"[retention]\n{name} = {days}\n")
    status, _, reported = ran(
        capsys, "serve", "--config", str(path), "--data", str(tmp_path / "data")
    )
    assert status == 2
    assert f"retention.{name}" in reported
