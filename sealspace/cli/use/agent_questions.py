"""The questions that an agent's host asks a person (AG5).

Each question is about one call. While it is under way, equal calls wait for its answer and are then
refused: thirty equal calls are one question. A yes counts for the call that asked, so that nobody
who meant one run allows thirty.

    call -> begin() -> the host asks -> end(): YES, the call goes on
     equal call -> begin() waits ........ refused, whatever the answer is
"""

import asyncio
import json
import secrets
from dataclasses import dataclass
from enum import Enum, auto

from ...errors import InvalidInput
from .agent_rules import Action, as_rule
from .run_masker import HTML_SAFE

_MAX_QUESTION_CHARS = 2000
"""Longest question. In a longer one a person would overlook something."""
_MAX_WITHOUT_YES = 5
"""Questions under way, and answered without a yes, until the server asks no more."""
_ANSWER_S = 300
"""Time for an answer. A newer host may forget a question, and equal calls wait for it."""


class Outcome(Enum):
    """How a question ended."""

    YES = auto()
    NO = auto()
    UNANSWERED = auto()


@dataclass(eq=False)
class Question:
    """A question that the host asks.

    Attributes:
        id: random, so that an answer belongs to one question.
        action: the action that the agent wants to do.
        text: the text that the person reads.
        ended: the outcome of the question, once it has one.
    """

    id: str
    action: Action
    text: str
    ended: asyncio.Future[Outcome]


class Questions:
    """The questions of one server, from its start to its end."""

    def __init__(self, *, answer_s: float = _ANSWER_S) -> None:
        self._answer_s = answer_s
        self._under_way: dict[Action, Question] = {}
        self._refused: set[Action] = set()
        self._without_yes = 0

    async def begin(self, action: Action) -> Question:
        """Note a question that is asked from now on. The caller has to end it.

        While an equal question is under way, this waits for its answer, and then raises.

        Raises:
            InvalidInput: the action must not be asked about, or an equal question has ended, whose
                answer does not count for this call.
        """
        if action in self._refused:
            raise unlisted(action, "the person already said no")
        equal = self._under_way.get(action)
        if equal is not None:
            # Shielded: if this call is cancelled, the question goes on for the others.
            raise _refusal_after_equal(action, await asyncio.shield(equal.ended))
        text = question_text(action)
        if self._without_yes >= _MAX_WITHOUT_YES:
            raise unlisted(
                action,
                f"too many questions were asked: {_MAX_WITHOUT_YES} are under way or ended without"
                " a yes; after a restart of this server it asks again",
            )
        loop = asyncio.get_running_loop()
        question = Question(
            id=secrets.token_hex(16), action=action, text=text, ended=loop.create_future()
        )
        self._under_way[action] = question
        self._without_yes += 1  # until a yes, see `end`
        # Does nothing if the question has ended by then.
        loop.call_later(self._answer_s, self.end, question, Outcome.UNANSWERED)
        return question

    def find(self, action: Action, id_: str | None) -> Question | None:
        """Return the question under way about an action, if it has this id."""
        question = self._under_way.get(action)
        if question is None or question.id != id_:
            return None
        return question

    def end(self, question: Question, outcome: Outcome) -> bool:
        """End a question, and let the equal calls that wait go on.

        Returns False if the question had ended before. Then nothing changes, and a yes does not
        count.
        """
        if question.ended.done():
            return False
        del self._under_way[question.action]
        if outcome is Outcome.YES:
            self._without_yes -= 1
        if outcome is Outcome.NO:
            self._refused.add(question.action)
        question.ended.set_result(outcome)
        return True


def question_text(action: Action) -> str:
    """Return what the person reads.

    Raises:
        InvalidInput: it is too long for a person.
    """
    # ASCII with escapes, so that no character, tag or Markdown link hides another.
    shown = (
        json.dumps(action.model_dump(mode="json"), indent=1)
        .translate(HTML_SAFE)
        .replace("](", "]\\u0028")
    )
    if len(shown) > _MAX_QUESTION_CHARS:
        raise unlisted(action, "it is too long to be shown to a person")
    text = f"An agent wants to use your secrets for this:\n{shown}"
    if action.can_be_changed():
        text += "\nThe agent can change files that this runs or reads."
    return text


def unlisted(action: Action, reason: str) -> InvalidInput:
    """Return the refusal of an action that `agents.toml` does not list."""
    return InvalidInput(
        f"this is not listed in agents.toml: {reason}",
        hint=f"the owner can add these lines to the file:\n{as_rule(action)}",
    )


def _refusal_after_equal(action: Action, outcome: Outcome) -> InvalidInput:
    """Return the refusal of a call that waited for the answer to an equal one."""
    if outcome is Outcome.YES:
        return InvalidInput(
            "the person allowed an equal call, and a yes is for one call",
            hint="if it is needed once more, call again: then the person is asked again",
        )
    if outcome is Outcome.NO:
        return unlisted(action, "the person already said no")
    return unlisted(action, "an equal question ended without an answer")
