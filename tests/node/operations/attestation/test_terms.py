"""The public terms by which a node judges backends (AT59)."""

import hashlib
from pathlib import Path

import pytest
from attestation_stage import Here, staying
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from running_node import Reply, send
from trust_settings import trusting_config

from node.config.tree import Collateral, Limits

DAY_S = 86_400.0


async def terms(here: Here, query: str = "") -> Reply:
    return await send(here.url, "GET", f"/attestation/terms{query}")


def family(platform: SimulatedPlatform) -> str:
    return f"?fmspc={platform.fmspc.hex()}&ca=platform"


async def test_what_a_node_tells(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """The answer has the terms in force and whether a platform family can be judged now (AT59)."""
    async with staying(tmp_path, platform, key_providers=("tpm",)) as here:
        told = {
            "attestation": "delegates",
            "trustRoots": [hashlib.sha256(platform.root_der).hexdigest()],
            "keyProviders": ["tpm"],
            "nodePolicy": False,
            "nodePolicySuffices": False,
        }
        assert (await terms(here)).value == told
        assert (await terms(here, family(platform))).value == told | {"collateral": "usable"}
        assert (await terms(here, "?fmspc=000000000000&ca=platform")).value[
            "collateral"
        ] == "missing"
        here.clock.advance(60 * DAY_S)
        assert (await terms(here, family(platform))).value["collateral"] == "unusable"


async def test_a_node_that_fetches(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """The answer says that collateral is fetched when a quote needs it (AT39, AT59)."""
    fetching = Collateral(service_url="https://127.0.0.1:1")
    async with staying(tmp_path, platform, with_collateral=False, fetching=fetching) as here:
        assert (await terms(here, family(platform))).value["collateral"] == "fetched"


@pytest.mark.parametrize(
    "query",
    [
        "?fmspc=000000000000",
        "?ca=platform",
        "?fmspc=00000000000&ca=platform",
        "?fmspc=00000000000G&ca=platform",
        "?fmspc=AA0000000000&ca=platform",
        "?fmspc=000000000000&ca=root",
        "?fmspc=000000000000&fmspc=000000000000&ca=platform",
    ],
)
async def test_what_is_no_family(tmp_path: Path, platform: SimulatedPlatform, query: str) -> None:
    """A request for half a platform family, for two families or in another spelling is refused
    (AT59)."""
    async with staying(tmp_path, platform) as here:
        reply = await terms(here, query)
        assert (reply.status, reply.value["code"]) == (400, "request-malformed")


async def test_terms_take_the_rate_of_challenges(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """Requests for the terms count towards the client's rate of challenges (AT59)."""
    config = trusting_config(tmp_path, platform, limits=Limits(challenges_per_minute=2))
    async with embedded_node(config) as node:
        statuses = [(await send(node.url, "GET", "/attestation/terms")).status for _ in range(3)]
    assert statuses == [200, 200, 429]
