"""Tests of how a runner's resources are shared among payers, for any order of calls (RN160 to
RN168)."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.principals import Principal
from runner.calls.journal import Journal
from runner.reasons import RunRefused
from runner.shares import call_refusal, count_stored
from serving.shares import Bounds, FairSemaphore, Payer, ResourceUse

PAYERS = [Payer(Principal(f"did:key:{name}"), is_known=name in "abc") for name in "abcxyz"]
HELD = "SELECT payer, cost FROM held WHERE payer != ''"
_ANY = st.integers(0, 1_000_000)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "go", "leave"]), st.integers(0, len(PAYERS) - 1), _ANY
    ),
    max_size=60,
)


class Crowd:
    """Calls that wait for places, use them until released, and may be cancelled while waiting."""

    def __init__(self, places: int, *, beside: bool) -> None:
        self.places, self.of_strangers = places, max(places // 2, 1)
        self.total = places + (self.of_strangers if beside else 0)
        self.turns = FairSemaphore(places, beside=beside)
        self.waiting: dict[asyncio.Task[None], Payer] = {}
        self.running: dict[asyncio.Task[None], tuple[Payer, asyncio.Event]] = {}
        # of who waits: the turns that others had meanwhile
        self.since: dict[Payer, Counter[Payer]] = {}

    def come(self, payer: Payer) -> None:
        released = asyncio.Event()

        async def call() -> None:
            async with self.turns.acquire(payer):
                self.begun(task, payer, released)
                await released.wait()

        task = asyncio.create_task(call())
        self.waiting[task] = payer
        self.since.setdefault(payer, Counter())

    def of(self, *, is_known: bool) -> int:
        return sum(payer.is_known is is_known for payer, _ in self.running.values())

    def is_at_its_bound(self, payer: Payer) -> bool:
        held = sum(one == payer for one, _ in self.running.values())
        return held >= max(self.places - 1, 1)

    def begun(self, task: "asyncio.Task[None]", payer: Payer, released: asyncio.Event) -> None:
        """Record a turn, and compare it with those of the waiting calls."""
        del self.waiting[task]
        waiting = set(self.waiting.values())
        for other in waiting - {payer}:
            if self.is_at_its_bound(other):
                self.since[other].clear()
            elif other.is_known == payer.is_known:
                self.since[other][payer] += 1
                assert self.since[other][payer] < 2, (
                    "a payer had two turns while another one waited"
                )
            elif other.is_known:
                has_place = self.of(is_known=True) < self.places
                assert not has_place, "a stranger had a turn while a key holder waited"
        self.since[payer].clear()
        self.running[task] = payer, released
        assert len(self.running) <= self.total
        assert self.of(is_known=False) <= self.of_strangers
        assert self.of(is_known=True) <= self.places

    async def step(self, kind: str, payer: Payer, which: int) -> None:
        if kind == "come":
            self.come(payer)
        elif kind == "go" and self.running:
            task = list(self.running)[which % len(self.running)]
            self.running.pop(task)[1].set()
            await task
        elif kind == "leave" and self.waiting:
            task = list(self.waiting)[which % len(self.waiting)]
            payer = self.waiting.pop(task)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if payer not in self.waiting.values():
                self.since[payer].clear()
        for _ in range(3):
            await asyncio.sleep(0)

    def is_idle_for_nothing(self) -> bool:
        """Return whether a call waits although a place is free for it."""
        most = {True: self.places, False: self.of_strangers}
        return len(self.running) < self.total and any(
            self.of(is_known=payer.is_known) < most[payer.is_known]
            and not self.is_at_its_bound(payer)
            for payer in self.waiting.values()
        )


@given(places=st.integers(1, 5), beside=st.booleans(), steps=_STEPS)
def test_places_are_taken_in_turns(
    places: int, beside: bool, steps: list[tuple[str, int, int]]
) -> None:
    """RN161, RN162: payers take turns, and unknown payers use at most half of the places."""

    async def played() -> None:
        crowd = Crowd(places, beside=beside)
        for kind, who, which in steps:
            await crowd.step(kind, PAYERS[who], which)
            assert not crowd.is_idle_for_nothing()
        while crowd.waiting or crowd.running:
            await crowd.step("go" if crowd.running else "leave", PAYERS[0], 0)
        assert not crowd.turns._used and not crowd.turns._waiting

    asyncio.run(played())


async def test_a_turn_that_was_given_is_not_lost() -> None:
    """RN161: a call cancelled when it gets its place passes the place on."""
    turns, order = FairSemaphore(1, beside=False), list[str]()

    async def call(name: str) -> None:
        async with turns.acquire(PAYERS[0]):
            order.append(name)

    async with turns.acquire(PAYERS[1]):
        first, second = asyncio.create_task(call("first")), asyncio.create_task(call("second"))
        await asyncio.sleep(0)
    first.cancel()  # its turn is set, and it did not go on yet
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == ["second"] and not turns._used and not turns._waiting


@given(
    calls=st.lists(
        st.tuples(st.booleans(), st.integers(0, len(PAYERS) - 1), st.integers(0, 30)), max_size=80
    )
)
def test_calls_under_way_are_bounded(calls: list[tuple[bool, int, int]]) -> None:
    """RN163: one payer has at most a quarter, unknown payers half, and all is released."""
    bounds, held = Bounds(16, 200, refusal=call_refusal), list[tuple[Payer, int, ExitStack]]()
    for ends, who, size in calls:
        if ends and held:
            held.pop(who % len(held))[2].close()
            continue
        payer, stack = PAYERS[who], ExitStack()
        try:
            stack.enter_context(bounds.reserve(payer, size))
        except RunRefused:
            own, share = (
                [
                    one
                    for one in held
                    if one[0] == payer or (is_share and not one[0].is_known and not payer.is_known)
                ]
                for is_share in (False, True)
            )
            assert any(
                len(some) + 1 > 16 // part or sum(one[1] for one in some) + size > 200 // part
                for some, part in ((own, 4), (share, 2), (held, 1))
            )
            continue
        held.append((payer, size, stack))
        strangers = [one for one in held if not one[0].is_known]
        assert len(strangers) <= 8 and sum(one[1] for one in strangers) <= 100
        assert len(held) <= 16 and sum(one[1] for one in held) <= 200
        assert max(Counter(one[0] for one in held).values()) <= 4
    for _, _, stack in held:
        stack.close()
    assert not bounds._calls._amounts and not bounds._bytes._amounts


def test_calls_from_before_a_restart_are_not_refused() -> None:
    """RN99, RN163: calls from before a restart count, and are not refused."""
    bounds = Bounds(4, 4, refusal=call_refusal)
    with ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(bounds.reserve(PAYERS[0], 1, is_new=False))
        with pytest.raises(RunRefused) as refused:
            stack.enter_context(bounds.reserve(PAYERS[1], 0))
        assert refused.value.reason.code == "runner-busy"


@given(rows=st.lists(st.tuples(st.integers(0, len(PAYERS) - 1), st.integers(1, 4)), max_size=60))
def test_kept_rows_displace_those_of_their_own_payer_first(rows: list[tuple[int, int]]) -> None:
    """RN168: in a full share the largest payer loses its oldest entry."""

    async def played(path: Path) -> None:
        model: dict[str, tuple[Payer, int]] = {}
        async with Journal(path) as journal:
            for number, (who, cost) in enumerate(rows):
                payer = PAYERS[who]
                await journal.write(
                    partial(
                        count_stored,
                        kind="receipt",
                        job=f"{number}",
                        payer=payer,
                        cost=cost,
                        most=24,
                    )
                )
                before = model | {f"{number}": (payer, cost)}
                rest = await journal.write(
                    lambda c: [row[0] for row in c.execute("SELECT job FROM kept")]
                )
                lost = [job for job in before if job not in rest]
                model = {job: before[job] for job in rest}
                share = [one for one in model.values() if one[0].is_known == payer.is_known]
                assert sum(cost for _, cost in share) <= 12
                for job in lost:
                    other = before[job][0]
                    sums = Counter[Payer]()
                    for one, size in before.values():
                        sums[one] += size
                    assert (
                        other.is_known == payer.is_known and sums[other] >= sums[payer] - cost + 1
                    )
                    assert all(int(job) < int(kept) for kept in rest if before[kept][0] == other)
                sums = Counter[Payer]()
                for one, size in model.values():
                    sums[one] += size
                held = await journal.write(
                    lambda c: c.execute("SELECT payer, cost FROM held WHERE payer != ''").fetchall()
                )
                assert dict(held) == {one.did: size for one, size in sums.items()}

    with TemporaryDirectory() as folder:
        asyncio.run(played(Path(folder) / "journal"))


def test_who_uses_much_leaves_as_much_for_others() -> None:
    """RN67: a few owners with long bodies leave bytes for owners with short bodies."""
    use = ResourceUse(call_refusal)

    def take_all(owner: str) -> int:
        """Take units one by one until one is refused, and return how many were taken."""
        taken = 0
        while True:
            try:
                use.require_left(owner, "keys", 1, 100)
            except RunRefused as refused:
                assert refused.reason.code == "too-many-calls"
                return taken
            use.add({"keys": 1, owner: 2}, 1, 100)
            taken += 1

    assert [take_all(owner) for owner in ("a", "b", "c")] == [50, 25, 13]
    assert take_all("d") > 0
