"""Tests of the questions of `sealspace mcp` and of the effect of each answer (AG5)."""

import asyncio
import json
import re
from typing import Any

import pytest
from mcp_agent import CANARY, NO, YES, Person, agent_of, allow, rules_file
from mcp_types import ElicitResult, ErrorData, InputRequiredResult
from owner_machine import Owner

from sealspace.cli.use.agent_questions import Outcome, Questions
from sealspace.cli.use.agent_rules import Command
from sealspace.errors import InvalidInput

EQUAL_CALLS = 30


@pytest.fixture
def owner(forking_owner: Owner) -> Owner:
    """The owner, whose server runs in a fork."""
    return forking_owner


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_AG5_the_person_sees_what_runs(owner: Owner, mode: str) -> None:
    """AG5: the person sees the whole command before it runs, with control characters escaped."""
    await owner.store_secrets(API_KEY=CANARY)
    person = Person([YES, YES])
    script = "echo $API_KEY\u202e\x1b[2K\rharmless <!-- not shown --> [ls](evil)"
    async with agent_of(owner, person, mode=mode) as agent:
        for _ in range(2):
            assert "got" not in await agent.run_command("/bin/sh", "-c", script)
    assert len(person.questions) == 2
    for question in person.questions:
        title, _, rest = question.partition("\n")
        assert title == "An agent wants to use your secrets for this:"
        assert question.isascii() and not re.search("[\x1b\r<>]|[]][(]", question)
        assert json.loads(rest) == {
            "program": "/bin/sh",
            "arguments": ["-c", script],
            "secrets": ["API_KEY"],
            "scope": "",
            "folder": "/",
        }
    assert not rules_file(owner).exists()  # a yes is never written down


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_AG5_no_is_no(owner: Owner, mode: str) -> None:
    """AG5: a command runs only after the person's own yes, and a refused question is not
    repeated."""
    await owner.store_secrets(API_KEY=CANARY)
    answers = [NO, ElicitResult(action="cancel")]
    contents: tuple[Any, ...] = ({"allow": False}, {"allow": "perhaps"}, {})
    answers += [ElicitResult(action="accept", content=content) for content in contents]
    person, made = Person([*answers]), owner.folder / "made"
    async with agent_of(owner, person, mode=mode) as agent:
        for number, answer in enumerate(answers):
            told = await agent.run_command("/usr/bin/touch", str(made), str(number))
            is_answer = answer.action != "accept" or answer.content == {"allow": False}
            assert ("the person said no" in told) == is_answer
            assert told.startswith("error: ")
        assert "already said no" in await agent.run_command("/usr/bin/touch", str(made), "0")
    assert not made.exists()
    assert len(person.questions) == len(answers)


async def test_AG5_questions_are_bounded(owner: Owner) -> None:
    """AG5: the person is asked at most five questions without a yes."""
    await owner.store_secrets(API_KEY=CANARY)
    person = Person([NO] * 9)
    async with agent_of(owner, person) as agent:
        assert "too long to be shown" in await agent.run_command("/bin/echo", "x" * 5000)
        for number in range(9):
            told = await agent.run_command("/bin/echo", str(number))
        assert "too many questions" in told
        assert len(person.questions) == 5
    allow(owner, "ask = false")
    async with agent_of(owner, person) as agent:
        assert "the host cannot ask the owner" in await agent.run_command("/bin/echo")
    assert len(person.questions) == 5


# --- equal calls ----------------------------------------------------------------------------------


class WaitingPerson(Person):
    """A person who answers when the test says so."""

    def __init__(self, answers: list[ElicitResult]) -> None:
        super().__init__(answers)
        self.may_answer = asyncio.Event()

    async def answer(self, context: object, params: object) -> ElicitResult:
        result = await super().answer(context, params)
        await self.may_answer.wait()
        return result


async def _equal_calls(owner: Owner, person: WaitingPerson, mode: str, script: str) -> list[str]:
    """Send equal calls at once, and let the person answer when all have arrived.

    Returns the answers of the calls.
    """
    async with agent_of(owner, person, mode=mode) as agent:
        calls = [
            asyncio.create_task(agent.run_command("/bin/sh", "-c", script))
            for _ in range(EQUAL_CALLS)
        ]
        # The server reads calls in turn: with the answer to a later one, all have begun.
        while len(person.questions) == 0:
            await agent.call("list_secrets")
        await agent.call("list_secrets")
        person.may_answer.set()
        return await asyncio.gather(*calls)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_AG5_a_no_ends_all_equal_calls(owner: Owner, mode: str) -> None:
    """AG5: thirty equal concurrent calls are one question, and a no ends all of them."""
    await owner.store_secrets(API_KEY=CANARY)
    made = owner.folder / "made"
    person = WaitingPerson([NO] * 11 + [YES] * EQUAL_CALLS)
    told = await _equal_calls(owner, person, mode, f"echo run >> {made}")
    assert len(person.questions) == 1
    assert all("said no" in one for one in told)
    assert not made.exists()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_AG5_a_yes_is_for_one_call(owner: Owner, mode: str) -> None:
    """AG5: of thirty equal concurrent calls, a yes allows only the call that asked."""
    await owner.store_secrets(API_KEY=CANARY)
    made = owner.folder / "made"
    person = WaitingPerson([YES] * EQUAL_CALLS)
    told = await _equal_calls(owner, person, mode, f"echo run >> {made}")
    assert len(person.questions) == 1
    assert made.read_text() == "run\n"
    assert told.count("exit status 0\n") == 1
    assert sum("a yes is for one call" in one for one in told) == EQUAL_CALLS - 1


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_AG5_questions_under_way_count(owner: Owner, mode: str) -> None:
    """AG5: of thirty different concurrent calls, only five ask the person."""
    await owner.store_secrets(API_KEY=CANARY)
    person = Person([NO] * EQUAL_CALLS)
    async with agent_of(owner, person, mode=mode) as agent:
        calls = [agent.run_command("/bin/echo", str(number)) for number in range(EQUAL_CALLS)]
        told = await asyncio.gather(*calls)
    assert len(person.questions) == 5
    assert sum("too many questions were asked" in one for one in told) == EQUAL_CALLS - 5


class AbsentPerson(Person):
    """A person who is absent: the host refuses to ask."""

    async def answer(self, context: object, params: object) -> Any:
        self.questions.append("")
        return ErrorData(code=-1, message="nobody is here")


async def test_AG5_a_question_without_an_answer_counts(owner: Owner) -> None:
    """AG5: a question that ended without an answer may be asked again, but counts each time."""
    await owner.store_secrets(API_KEY=CANARY)
    person = AbsentPerson()
    async with agent_of(owner, person, mode="legacy") as agent:
        for _ in range(5):
            assert "nobody is here" in await _failure(agent.run_command("/bin/echo"))
        assert "too many questions were asked" in await agent.run_command("/bin/echo")
    assert len(person.questions) == 5


async def _failure(call: Any) -> str:
    """Return the text of an error, or of a call's error."""
    try:
        return str(await call)
    except Exception as error:  # the client's, with the host's words
        return str(error)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("content", ["yes", "true", 1], ids=str)
async def test_AG5_only_true_is_a_yes(owner: Owner, mode: str, content: str | int) -> None:
    """AG5: an answer that resembles a yes allows nothing."""
    await owner.store_secrets(API_KEY=CANARY)
    made = owner.folder / "made"
    person = Person([ElicitResult(action="accept", content={"allow": content})])
    async with agent_of(owner, person, mode=mode) as agent:
        told = await agent.run_command("/usr/bin/touch", str(made))
    assert "the host's answer is neither yes nor no" in told
    assert not made.exists()


async def test_AG5_an_answer_counts_once(owner: Owner) -> None:
    """AG5: a host that repeats a call with the same yes makes the person be asked again."""
    await owner.store_secrets(API_KEY=CANARY)
    made = owner.folder / "made"
    wanted = {
        "program": "/bin/sh",
        "arguments": ["-c", f"echo run >> {made}"],
        "secrets": ["API_KEY"],
    }
    async with agent_of(owner, Person()) as agent:
        session = agent.client.session
        asked = await session.call_tool(
            "run_command", {"wanted": wanted}, allow_input_required=True
        )
        assert isinstance(asked, InputRequiredResult) and asked.input_requests is not None
        (key,) = asked.input_requests
        for _ in range(2):
            answered = await session.call_tool(
                "run_command",
                {"wanted": wanted},
                input_responses={key: YES},
                request_state=asked.request_state,
                allow_input_required=True,
            )
    assert isinstance(answered, InputRequiredResult)
    assert answered.request_state != asked.request_state
    assert made.read_text() == "run\n"


# --- the record of questions ----------------------------------------------------------------------


def _command(*arguments: str) -> Command:
    return Command(program="/bin/echo", arguments=arguments, secrets=("API_KEY",))


async def test_AG5_a_question_ends_after_its_time() -> None:
    """AG5: a question that the host does not answer ends after its time."""
    questions = Questions(answer_s=0)
    question = await questions.begin(_command())
    with pytest.raises(InvalidInput, match="an equal question ended without an answer"):
        await questions.begin(_command())
    assert not questions.end(question, Outcome.YES)
    assert questions.find(_command(), question.id) is None
    for _ in range(4):
        again = await questions.begin(_command())
        assert await again.ended is Outcome.UNANSWERED
    with pytest.raises(InvalidInput, match="too many questions were asked: 5 are"):
        await questions.begin(_command())


async def test_AG5_a_yes_frees_its_place() -> None:
    """AG5: a question that got a yes does not count towards the limit of questions."""
    questions = Questions()
    for number in range(4):
        questions.end(await questions.begin(_command(str(number))), Outcome.NO)
    for _ in range(20):
        assert questions.end(await questions.begin(_command()), Outcome.YES)
    await questions.begin(_command())
    with pytest.raises(InvalidInput, match="too many questions"):
        await questions.begin(_command("another"))


async def test_AG5_a_call_that_is_cancelled_while_it_waits() -> None:
    """AG5: cancelling one waiting call ends neither the question nor the other calls."""
    questions = Questions()
    question = await questions.begin(_command())
    waiting = [asyncio.create_task(questions.begin(_command())) for _ in range(2)]
    await asyncio.wait(waiting, timeout=0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert questions.end(question, Outcome.NO)
    with pytest.raises(InvalidInput, match="already said no"):
        await waiting[1]


async def test_AG5_an_answer_to_another_question() -> None:
    """AG5: an answer counts for the question with its id, about its action."""
    questions = Questions()
    question = await questions.begin(_command("one"))
    other = await questions.begin(_command("other"))
    assert questions.find(_command("one"), question.id) is question
    assert questions.find(_command("one"), other.id) is None
    assert questions.find(_command("one"), None) is None
    assert questions.find(_command("none"), question.id) is None
