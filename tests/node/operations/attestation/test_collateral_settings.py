"""The configured collateral service, and the operator's list of stored collateral."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from attestation_stage import Stay
from deviating_platform import CollateralOptions, SimulatedPlatform
from tests_support import FixedClock

from node.collateral.collateral_source import configured_source, refresh_rules
from node.collateral.intake import import_collateral
from node.config.loading import load_config
from node.config.tree import Collateral, Config, Store
from node.storage.stores import open_store
from sealspace.cli.root import main
from spaces.documents.collateral_rows import CollateralState, state_put
from spaces.keyspace import collateral_key
from spaces.store.contract import Commit, Put
from tee_backend.attestation.pcs import INTEL_SERVICE_URL
from tee_backend.attestation.refresh import RefreshRules
from tee_backend.attestation.trust_root import parse_trust_root


def test_no_service_by_default() -> None:
    """By default a node fetches nothing (AT18)."""
    assert configured_source(load_config(environment={}).collateral) is None


@pytest.mark.parametrize(
    "url", [INTEL_SERVICE_URL, INTEL_SERVICE_URL + "/", "http://127.0.0.1:8081/pccs/"]
)
def test_a_service_is_named_by_its_host(url: str) -> None:
    """Only the host of the service's address is displayed."""
    source = configured_source(Collateral(service_url=url))
    assert source is not None
    assert source.name == ("127.0.0.1" if "127" in url else "api.trustedservices.intel.com")


def test_rules_follow_the_settings() -> None:
    """The operator's settings determine when documents are renewed."""
    settings = Collateral(refresh_s=7200, lead_s=3601, retry_s=60, stale_s=5000)
    assert refresh_rules(settings) == RefreshRules(
        every_s=7200, ahead_s=3601, retry_s=60, stale_s=5000
    )
    default = RefreshRules()
    found = refresh_rules(Collateral())
    assert found.every_s == default.every_s
    assert found.ahead_s == default.ahead_s
    assert found.retry_s == default.retry_s


async def test_a_list_of_what_is_held(
    staying: Stay, platform: SimulatedPlatform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list shows source, validity windows, last refresh, and the error of the last fetch."""
    now = int(time.time())
    async with staying(with_collateral=False) as here:
        root = parse_trust_root(platform.root_der)
        document = platform.collateral_json(now, options=CollateralOptions(issued_before_s=0))
        await import_collateral(
            here.services.store, document, root=root, clock=FixedClock(now), source="a.json"
        )
        wish = CollateralState(
            wanted_at=now, tried_at=now + 60, failed="platform-unknown", failures=2
        )
        await here.services.store.commit(
            Commit(puts=(state_put((b"\xffothers"[:6], "processor"), wish),))
        )
    arguments = ["admin", "collateral", "list", "--data", str(tmp_path / "data")]
    assert await asyncio.to_thread(main, arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert await asyncio.to_thread(main, [*arguments, "--json"]) == 0
    held, wanted = json.loads(capsys.readouterr().out)
    ends, failed = f" {held['ends']}  import ", " platform-unknown"
    assert [ends in shown[0], shown[1].endswith(failed), len(shown)] == [True, True, 2]
    day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    assert held["fmspc"] == platform.fmspc.hex()
    assert held["ca"] == "platform"
    assert held["source"] == "import"
    assert held["issued"] == day
    assert held["refreshed"] == day
    assert held["evaluationNumber"] == 20
    assert held["windows"]["TCB info"][0] == day
    assert min(ends for _, ends in held["windows"].values()) == held["ends"]
    assert held["failed"] is None
    assert held["failures"] == 0
    assert wanted["wanted"] == day
    assert wanted["failed"] == "platform-unknown"
    assert wanted["failures"] == 2
    assert "windows" not in wanted


async def test_a_list_of_a_document_that_is_damaged(
    staying: Stay, platform: SimulatedPlatform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged stored document is reported as an error without a traceback."""
    async with staying():
        pass
    store = open_store(Config(store=Store(data=str(tmp_path / "data"))))
    try:
        await store.commit(Commit(puts=(Put(collateral_key(platform.fmspc, "platform"), b"{}"),)))
    finally:
        await store.close()
    assert (
        await asyncio.to_thread(
            main, ["admin", "collateral", "list", "--data", str(tmp_path / "data")]
        )
        == 7
    )
    assert "collateral-malformed" in capsys.readouterr().err
