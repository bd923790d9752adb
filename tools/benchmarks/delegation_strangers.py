"""Strangers with large delegations: what a stranger's requests make a node decode.

`strangers.py` measures an honest owner under each of these attacks; this module is also the
attacker's process. One account has many delegations of the largest size, and eight clients ask for
what depends on them:

- `sessions`: versions of a value, with a sign-in that does not tell whether the owner is there;
- `query`: pages of the account's delegations;
- `capabilities`: a list of the delegations on a space, with a filter that matches nothing;
- `chain`: versions of a value, with a chain of large delegations.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests"))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

import aiohttp
from delegation_bench import GET, PUT, READ, Delegating, everything, space
from paced import Ask
from running_node import Reply, new_key

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from sealspace.wallets import new_wallet

METADATA = "tinycloud.kv/metadata"
PADDING: list[Json] = [{"padding": "x" * 280_000}]
_CLIENTS = 8
_PAUSE_S = 0.05  # after a refusal

Again = Callable[[Delegating], Awaitable[Reply]]


async def padded(stranger: Delegating, key: Ed25519Signer, count: int) -> None:
    """Register large delegations of a key's own space."""
    for _ in range(count):
        right = {f"{space(key)}/kv": [GET]}
        await stranger.grant(key, new_key().did, right, facts=PADDING)


async def prepare_query(stranger: Delegating, count: int) -> Again:
    """Prepare pages of an account's delegations."""
    key = new_key()
    await padded(stranger, key, count)
    return lambda asking: asking.asked(key, owner=key, limit=100)


async def prepare_capabilities(stranger: Delegating, count: int) -> Again:
    """Prepare lists that match nothing."""
    key = new_key()
    await padded(stranger, key, count)
    filters: Json = {"type": "list", "filters": {"path": "no/such/path"}}
    facts: list[Json] = [{"capabilitiesReadParams": filters}]
    listed = f"{space(key)}/capabilities/all"
    return lambda asking: asking.invoke(key, listed, READ, facts=facts)


def versions(key: Ed25519Signer, value: str, proof: str) -> Again:
    """Return requests for the versions of a value, which are for the owner in person."""

    async def ask(asking: Delegating) -> Reply:
        token = asking.token(key, {value: [METADATA]}, proof)
        return await asking.send("/invoke", token, None, **{"x-sealspace-version": "all"})

    return ask


async def prepare_sessions(stranger: Delegating, count: int) -> Again:
    """Prepare many sign-ins of one key, of which one is enough."""
    wallet, key = new_wallet(), new_key()
    long = {f"{space(wallet)}/kv/{'x' * 900}{number}": [GET] for number in range(60)}
    value = f"{space(wallet)}/kv/a"
    plain = await stranger.sign_in(wallet, key, {value: [METADATA, PUT]})
    for _ in range(count):
        await stranger.sign_in(wallet, key, {**everything(wallet), **long})
    return versions(key, value, plain)


async def prepare_chain(stranger: Delegating, count: int) -> Again:
    """Prepare a chain of large delegations."""
    keys = [new_key() for _ in range(min(count, 60))]
    value = f"{space(keys[0])}/kv/a"
    right = {value: [METADATA]}
    proofs: list[str] = []
    for number, (signer, to) in enumerate(pairwise(keys)):
        await stranger.grant(signer, signer.did, {f"{space(signer)}/kv": [GET]})  # hosts a space
        ends_in_s = 3600 - 10 * number  # no later than what is above
        above = await stranger.grant(
            signer, to.did, right, *proofs, lifetime_s=ends_in_s, facts=PADDING
        )
        proofs = [above]
    return versions(keys[-1], value, proofs[0])


PREPARE: dict[str, Callable[[Delegating, int], Awaitable[Again]]] = {
    "sessions": prepare_sessions,
    "query": prepare_query,
    "capabilities": prepare_capabilities,
    "chain": prepare_chain,
}


async def attack(name: str, url: str, seconds: float, count: int) -> None:
    """Attack until SIGTERM, and print how often each status was the answer."""
    statuses: dict[str, int] = {}
    node: Any = SimpleNamespace(url=url)
    clock: Any = SystemClock()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        stranger = Delegating(node, http, clock)
        ask = await PREPARE[name](stranger, count)

        async def client() -> None:
            while True:
                status = "gone"
                with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                    status = str((await ask(stranger)).status)
                statuses[status] = statuses.get(status, 0) + 1
                if status != "200":
                    await asyncio.sleep(_PAUSE_S)

        print("attacking", flush=True)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        clients = [asyncio.create_task(client()) for _ in range(_CLIENTS)]
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    print(json.dumps(statuses), flush=True)


async def honest(url: str) -> Ask:
    """Store another owner's value, and return how it is read."""
    key = new_key()
    value = f"{space(key)}/kv/a"
    node: Any = SimpleNamespace(url=url)
    clock: Any = SystemClock()
    async with aiohttp.ClientSession() as http:
        owner = Delegating(node, http, clock)
        stored = await owner.send("/invoke", owner.token(key, {value: [PUT]}), b"x" * 1024)
        if stored.status != 200:
            raise RuntimeError(stored.text)

    async def ask(http: aiohttp.ClientSession, _: int) -> bool:
        return (await Delegating(node, http, clock).invoke(key, value, GET)).status == 200

    return ask


def main() -> None:
    """Attack as a process that a measurement starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--as", dest="given", nargs=4, metavar=("ATTACK", "URL", "S", "COUNT"))
    name, url, seconds, count = parser.parse_args().given
    asyncio.run(attack(name, url, float(seconds), int(count)))


if __name__ == "__main__":
    main()
