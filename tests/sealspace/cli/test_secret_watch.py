"""Tests of the looks of `--watch`: when they come, and what they read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from owner_desk import OwnerDesk, owner_desk
from relay import Relay, relay_before

from sealspace.cli.use.secret_reading import Reading, place_of_secrets
from sealspace.cli.use.secret_watch import MAX_DELAY_S, SecretWatch, Update
from sealspace.client import Client
from sealspace.session import load_session

FORMER, NEW = "canary-former-4711", "canary-new-4712"
KEPT = "the command keeps running"


class _EndOfStoryError(Exception):
    """The test has seen all looks that it wanted."""


class Story:
    """A watch whose waits are steps of a test.

    Attributes:
        delays_s: the waits so far.
        updates: the updates so far.
        asked: the paths of the requests since the last step.
    """

    def __init__(self, desk: OwnerDesk, relay: Relay) -> None:
        self.desk = desk
        self.relay = relay
        self.delays_s: list[float] = []
        self.updates: list[Update] = []
        self.asked: list[str] = []
        self.is_down = False
        relay.hold = self._hold

    async def _hold(self, request: web.Request) -> None:
        self.asked.append(request.path)
        if self.is_down:
            raise web.HTTPServiceUnavailable

    def client(self) -> Client:
        """Return a client that is not seen."""
        return Client(self.desk.node, session=load_session(self.desk.home / "session.json"))

    async def put(self, **values: str) -> None:
        """Store secrets in one commit."""
        async with self.client() as client:
            await client.secrets().put_many(values)

    async def watch(
        self, *steps: Callable[[], Awaitable[None]], every_s: float = 10, ends_if_lost: bool = False
    ) -> None:
        """Look after each of the steps, with the secrets as they are now."""
        async with self.client() as client:
            secrets = client.secrets()
            found = await secrets.read_many(await secrets.list())
            # The watch finds the secrets through the relay.
            place = place_of_secrets(client, secrets).replace(self.desk.node, self.relay.url)
        reading = Reading(secrets=found, scope=None, source=None, place=place)
        following = iter(steps)

        async def wait(delay_s: float) -> None:
            self.delays_s.append(delay_s)
            step = next(following, None)
            if step is None:
                raise _EndOfStoryError
            await step()
            self.asked.clear()

        watch = SecretWatch(
            reading,
            self.updates.append,
            every_s=every_s,
            keeps=KEPT,
            ends_if_lost=ends_if_lost,
            wait=wait,
        )
        await watch.run()


async def nothing() -> None:
    """A step after which nothing is different."""


@pytest.fixture
async def story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Story]:
    """An owner with two secrets, whose commands see the node through a relay."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk, relay_before(desk.node) as relay:
        await desk.log_in()
        monkeypatch.setenv("SEALSPACE_HOME", str(desk.home))
        monkeypatch.setenv("SEALSPACE_NODE", relay.url)
        story = Story(desk, relay)
        await story.put(A_KEY=FORMER, B_KEY=FORMER)
        capsys.readouterr()
        yield story


def said(story: Story) -> list[str]:
    """Return the messages since the last call."""
    return story.desk.capsys.readouterr().err.splitlines()


def near(delay_s: float) -> object:
    """Return what equals a time that varies by a tenth."""
    return pytest.approx(delay_s, rel=0.1)


async def test_CL7_a_look_is_one_request(story: Story) -> None:
    """CL7: a look at unchanged secrets is one request, and opens nothing. Only if one differs, all
    are read and opened."""
    looks: list[list[str]] = []

    async def note() -> None:
        looks.append([path for path in story.asked if path != "/info"])

    async def replace() -> None:
        await note()
        await story.put(B_KEY=NEW)

    with pytest.raises(_EndOfStoryError):
        await story.watch(nothing, note, replace, note, note)
    assert looks[:2] == [["/invoke"], ["/invoke"]]
    assert looks[2][:2] == ["/invoke", "/invoke"]
    assert len([path for path in looks[2] if path.endswith("/decrypt")]) == 2
    assert looks[3] == ["/invoke"]
    values = {"A_KEY": FORMER, "B_KEY": NEW}
    assert story.updates == [Update(replaced=("B_KEY",), values=values)]
    assert NEW not in repr(story.updates)
    assert story.delays_s == [near(10)] * 6
    assert said(story) == []


async def test_CL9_looks_become_rarer_after_errors(story: Story) -> None:
    """CL9: an error is reported once. The time between looks doubles up to five minutes, until a
    look succeeds."""

    async def fails() -> None:
        story.is_down = True

    async def replace() -> None:
        story.is_down = False
        await story.put(A_KEY=NEW)

    with pytest.raises(_EndOfStoryError):
        await story.watch(nothing, fails, *[nothing] * 7, replace, nothing)
    doubled = [20, 40, 80, 160, MAX_DELAY_S, MAX_DELAY_S, MAX_DELAY_S, MAX_DELAY_S]
    assert story.delays_s == [near(one) for one in (10, 10, *doubled, 10, 10)]
    first, again = said(story)
    assert first.startswith("cannot look for new values: ") and f"; {KEPT}; next: " in first
    assert again == "the secrets can be read again"
    assert [update.replaced for update in story.updates] == [("A_KEY",)]


async def test_CL9_a_rare_look_does_not_become_more_frequent(story: Story) -> None:
    """CL9: after an error, the time between looks is never shorter than without one."""

    async def fails() -> None:
        story.is_down = True

    with pytest.raises(_EndOfStoryError):
        await story.watch(fails, nothing, every_s=3600)
    assert story.delays_s == [near(3600)] * 3


async def test_CL9_an_unavailable_node_ends_nothing(story: Story) -> None:
    """CL9: --watch-stop does not stop a command because the node is unavailable, but because a
    secret was deleted."""

    async def fails() -> None:
        story.is_down = True

    async def deletes() -> None:
        story.is_down = False
        async with story.client() as client:
            await client.secrets().delete("A_KEY")

    await story.watch(fails, nothing, deletes, ends_if_lost=True)
    assert story.updates == [Update(is_lost=True)]
    assert "deleted secrets: A_KEY; stopping; next: " in said(story)[-1]


async def test_CL7_no_update_before_all_values_are_open(story: Story) -> None:
    """CL7: if one of the secrets cannot be opened, nothing is delivered, not even the new value of
    another one."""

    async def spoil() -> None:
        async with story.client() as client:
            await client.kv("secrets").put("vault/secrets/A_KEY", "no envelope")
            await client.secrets().put("B_KEY", NEW)

    async def repair() -> None:
        assert story.updates == []
        await story.put(A_KEY=NEW)

    with pytest.raises(_EndOfStoryError):
        await story.watch(spoil, nothing, repair, nothing)
    assert story.updates == [
        Update(replaced=("A_KEY", "B_KEY"), values={"A_KEY": NEW, "B_KEY": NEW})
    ]
    first, again = said(story)
    assert "A_KEY is not a sealed secret" in first and NEW not in first
    assert again == "the secrets can be read again"


async def test_CL10_another_login_is_not_used(story: Story) -> None:
    """CL10: an ended session is continued by the owner's next login. The secrets of another owner
    with the same names are not read."""
    desk = story.desk
    session, profile = desk.home / "session.json", desk.home / "profile.json"
    kept = (session.read_bytes(), profile.read_bytes())

    async def forget() -> None:
        session.unlink()
        story.is_down = True  # the client of the last look is not used again

    async def up() -> None:
        story.is_down = False

    async def log_in_as_another() -> None:
        (desk.home / "wallet.key").rename(desk.home / "other.key")
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put_many({"A_KEY": "another's", "B_KEY": "another's"})

    async def log_in_again() -> None:
        session.write_bytes(kept[0])
        profile.write_bytes(kept[1])
        async with Client(desk.node, session=load_session(session)) as client:
            await client.secrets().put("A_KEY", NEW)

    with pytest.raises(_EndOfStoryError):
        await story.watch(forget, up, log_in_as_another, nothing, log_in_again, nothing)
    assert [update.values["A_KEY"] for update in story.updates] == [NEW]
