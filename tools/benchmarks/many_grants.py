"""Compare the cost of reports and calls for an owner with many grants and one with few.

Two stores are made, one with 100 and one with 100,000 grants of one wallet: half of them sign-ins
of the wallet to keys of their own, half grants that one session passed on. Every token is signed
and judged like one that was posted; only the commits are larger. Then each question is asked of
both stores in turn, and the CPU time of this thread is compared, once with everything that was
decoded before in memory and once with nothing.

    python tools/benchmarks/many_grants.py [--grants 100000] [--rounds 9]
"""

import argparse
import asyncio
import itertools
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from space_grants import iso

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.chain import Marker, Registered, judge_registration
from capabilities.cids import cid_text
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.recap import Recap, attach
from capabilities.resources import parse_space_id
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation, parse_invocation, verify_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.keyring import Keyring
from node.config.tree import Config, Store
from node.operations.authorise import admit_token, read_call
from node.operations.delegations.delegation_query import query_delegations
from node.operations.delegations.delegation_status import delegation_status
from node.operations.delegations.read_capabilities import read_capabilities
from node.processes.start import claim_store
from node.services import Services
from spaces.grants.delegation_cache import Delegations
from spaces.grants.delegations import registration_puts
from spaces.grants.hosting import HostingPolicy, hosting_by_put, plan_hosting
from spaces.store.contract import Commit, Put
from spaces.store.lmdb.engine import open_lmdb
from spaces.values.value_heads import head_key

FEW = 100
TARGET_RATIO = 1.5
NOW = 1_795_000_000.0
WALLET = WalletSigner(b"\x11" * 32)
SESSION = Ed25519Signer(b"\x12" * 32)
SPACE = parse_space_id(f"tinycloud:{WALLET.did.removeprefix('did:')}:default")
READ, LIST, STATUS = (
    "tinycloud.capabilities/read",
    "tinycloud.delegation/list",
    "tinycloud.delegation/status",
)
GET = "tinycloud.kv/get"
SIGN_IN = {
    f"{SPACE.text}/kv": [GET],
    f"{SPACE.text}/capabilities": [READ],
    f"{SPACE.text}/delegation": [LIST, STATUS],
}
_PUTS = 240
_IN_FLIGHT = 64
_CALLS = 60
_COUNT = itertools.count()

Grants = dict[str, list[str]]


class StandingClock:
    """A clock that stands still."""

    def now(self) -> float:
        """Return the time of the benchmark."""
        return NOW


def wallet_token(to: Ed25519Signer, at: float) -> str:
    """The wallet's word to a key."""
    message = SiweMessage(
        domain="app.example",
        address=WALLET.address,
        chain_id=WALLET.chain_id,
        uri=to.did_url,
        nonce=f"nonce{next(_COUNT):012}",
        issued_at=iso(at),
        expiration_time=iso(NOW + 86_400),
    )
    recap = Recap(
        {
            resource: {ability: ({},) for ability in abilities}
            for resource, abilities in SIGN_IN.items()
        },
        (),
    )
    return header_text(encode_cacao(sign_cacao(attach(message, recap), WALLET)))


def key_token(
    signer: Ed25519Signer,
    grants: Grants,
    proofs: Sequence[Registered],
    *,
    audience: str | None = None,
    lifetime_s: float = 3600,
    facts: Sequence[Json] = (),
) -> str:
    """A key's word."""
    payload = UcanPayload(
        iss=signer.did_url,
        aud=audience or signer.did,
        exp=NOW + lifetime_s,
        nnc=f"{next(_COUNT):012}{secrets.token_hex(4)}",
        fct=list(facts) or None,
        prf=[cid_text(proof.delegation.cid) for proof in proofs],
        att={
            resource: {ability: [{}] for ability in abilities}
            for resource, abilities in grants.items()
        },
    )
    return encode_ucan(payload, signer)


def judged(header: str, *parents: Registered) -> Registered:
    """Verify and judge a delegation as one that is posted."""
    delegation = verify_delegation(parse_delegation(header))
    marks = {member.content_key: Marker.LIVE for parent in parents for member in parent.closure}
    return judge_registration(delegation, parents, marks, now=NOW)


@dataclass(frozen=True, slots=True)
class Account:
    """A store with grants of one wallet, and what is asked about.

    Attributes:
        services: over the store.
        session: the wallet's word to the session that asks.
        newest: the grant that was registered last, and the key it is for.
    """

    services: Services
    session: Registered
    newest: Registered
    newest_key: Ed25519Signer

    def without_memory(self) -> "Account":
        """The same, with nothing decoded yet."""
        delegations = Delegations(self.services.store)
        return replace(self, services=replace(self.services, delegations=delegations))


async def filled(services: Services, count: int) -> Account:
    """Register grants until there are `count` of them."""
    session = judged(wallet_token(SESSION, NOW - 1))
    await _host(services)
    batch: list[Put] = []
    pending: set[asyncio.Task[object]] = set()
    newest = (SESSION, session)
    for at, newest in enumerate(_grants(session, count - 1), 1):  # the last one is asked about
        puts = _puts(newest[1], NOW - 1000 + at * 1e-3)
        if len(batch) + len(puts) > _PUTS:
            pending.add(asyncio.create_task(_committed(services, batch)))
            batch = []
        batch += puts
        if len(pending) == _IN_FLIGHT:
            await asyncio.gather(*pending)
            pending.clear()
            print(f"\r{at:>8} grants", end="", file=sys.stderr)
    await asyncio.gather(*pending, _committed(services, [*batch, *_puts(session, NOW)]))
    print(f"\r{count:>8} grants", file=sys.stderr)
    return Account(services, session, newest_key=newest[0], newest=newest[1])


def _grants(session: Registered, count: int) -> Iterator[tuple[Ed25519Signer, Registered]]:
    for at in range(count):
        key = Ed25519Signer(secrets.token_bytes(32))
        if at % 2 == count % 2:
            yield key, judged(wallet_token(key, NOW - 2 - at % 80_000))
        else:
            header = key_token(
                SESSION, {f"{SPACE.text}/kv/{at}": [GET]}, [session], audience=key.did
            )
            yield key, judged(header, session)


def _puts(stored: Registered, at: float) -> list[Put]:
    return registration_puts(msgspec.structs.replace(stored, registered_at=at))


async def _committed(services: Services, puts: list[Put]) -> None:
    await services.store.commit(Commit(puts=tuple(puts)))


async def _host(services: Services) -> None:
    wanted = hosting_by_put(SPACE, SPACE.owner, HostingPolicy(), client=None, now=NOW)
    plan = plan_hosting(wanted, (await services.store.read(wanted.keys())).records, now=NOW)
    await services.store.commit(Commit(puts=plan.puts, adds=plan.adds))


# --- questions ------------------------------------------------------------------------------------


Question = Callable[[Account], Callable[[], Awaitable[object]]]


def first_page(account: Account) -> Callable[[], Awaitable[object]]:
    """`/delegation/query`, the first page of fifty."""
    return _page(account, b"{}")


def filtered_page(account: Account) -> Callable[[], Awaitable[object]]:
    """`/delegation/query` with a filter that fits all."""
    return _page(account, b'{"status":"active","space":"default","direction":"granted"}')


def _page(account: Account, body: bytes) -> Callable[[], Awaitable[object]]:
    token = key_token(SESSION, {f"{SPACE.text}/delegation": [LIST]}, [account.session])
    return lambda: query_delegations(account.services, parse_invocation(token), body)


def status(account: Account) -> Callable[[], Awaitable[object]]:
    """`/delegation/status` of the newest grant."""
    cid = cid_text(account.newest.delegation.cid)
    token = key_token(SESSION, {f"urn:cid:{cid}": [STATUS]}, [account.session])
    return lambda: delegation_status(account.services, parse_invocation(token), cid)


def chain(account: Account) -> Callable[[], Awaitable[object]]:
    """`capabilities/read`, the chain of the newest grant."""
    cid = cid_text(account.newest.delegation.cid)
    return _read(account, [{"capabilitiesReadParams": {"type": "chain", "delegation_cid": cid}}])


def whole_list(account: Account) -> Callable[[], Awaitable[object]]:
    """`capabilities/read`, the list: as long as the space's grants, up to its bound."""
    return _read(account, [])


def _read(account: Account, facts: Sequence[Json]) -> Callable[[], Awaitable[object]]:
    grants = {f"{SPACE.text}/capabilities/all": [READ]}
    header = key_token(SESSION, grants, [account.session], lifetime_s=60, facts=facts)
    invocation = admit_token(header, now=NOW, max_lifetime_s=300)
    return lambda: read_capabilities(account.services, invocation, SPACE)


def call(account: Account) -> Callable[[], Awaitable[object]]:
    """A read of a value under the newest grant, from the text of the token to the judged call."""
    path = (
        f"kv/{account.newest.delegation.capabilities[0].resource.text.partition('/kv/')[2] or 'a'}"
    )
    header = key_token(
        account.newest_key, {f"{SPACE.text}/{path}": [GET]}, [account.newest], lifetime_s=60
    )
    key = head_key(SPACE, path.removeprefix("kv/"))

    async def ask() -> object:
        invocation = admit_token(header, now=NOW, max_lifetime_s=300)
        return await read_call(account.services, invocation, (key,))

    return ask


QUESTIONS: dict[str, Question] = {
    "delegation/query, first page": first_page,
    "delegation/query, filtered": filtered_page,
    "delegation/status": status,
    "capabilities/read, chain": chain,
    "call under the newest grant": call,
}


# --- measuring ------------------------------------------------------------------------------------


async def cpu_s(question: Question, account: Account, calls: int, *, cold: bool) -> float:
    """Return the CPU time of one call, in the mean of some; making the tokens is not counted."""
    accounts = [account.without_memory() if cold else account for _ in range(calls)]
    asked = [question(one) for one in accounts]
    begun = time.thread_time()
    for ask in asked:
        await ask()
    return (time.thread_time() - begun) / calls


async def compare(
    question: Question, few: Account, many: Account, *, rounds: int, cold: bool
) -> tuple[float, float]:
    """Return the medians of both, asked in turn."""
    calls = 5 if question is whole_list else _CALLS
    for account in (few, many):
        await cpu_s(question, account, calls, cold=cold)
    pairs = [
        [await cpu_s(question, account, calls, cold=cold) for account in (few, many)]
        for _ in range(rounds)
    ]
    return statistics.median(pair[0] for pair in pairs), statistics.median(
        pair[1] for pair in pairs
    )


async def main(grants: int, rounds: int) -> None:
    """Make both stores, ask, and print."""
    async with AsyncExitStack() as running:
        accounts = []
        for count in (FEW, grants):
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="many-grants-")))
            config = Config(store=Store(data=str(folder)))
            store = open_lmdb(folder, clock=StandingClock())
            running.push_async_callback(store.close)
            services = await claim_store(
                config,
                store=store,
                keyring=Keyring(b"\x07" * 32),
                clock=StandingClock(),
                entropy=SystemEntropy(),
            )
            accounts.append(await filled(services, count))
        few, many = accounts
        print(
            f"{'CPU of one call':<32}{'memory':<8}{FEW:>10}{grants:>10}   ratio (at most"
            f" {TARGET_RATIO} is wanted)"
        )
        for name, question in QUESTIONS.items():
            for cold in (False, True):
                one, other = await compare(question, few, many, rounds=rounds, cold=cold)
                memory = "empty" if cold else "warm"
                print(
                    f"{name:<32}{memory:<8}{one * 1e6:>7.0f} µs{other * 1e6:>7.0f} µs  "
                    f" {other / one:.2f}"
                )
        one, other = await compare(whole_list, few, many, rounds=3, cold=True)
        print(
            f"{'capabilities/read, list':<32}{'empty':<8}{one * 1e3:>7.1f} ms{other * 1e3:>7.1f} ms"
            "   bounded, not flat"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--grants", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.grants, arguments.rounds))
