"""What a command asks of a wallet in a browser, and what the page answers: one question at a time.

The command waits in `ask`; threads of `wallet_server` bring what the page sends. The page that was opened last is the
one that answers.

Example:
    address = desk.ask({"kind": "connect"}, lambda said: parse_address(str(said["address"])))
    desk.end({"kind": "done"})
"""

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

from capabilities.strict_json import Json

from .errors import NotSigned

LIMIT_S: Final = 300.0
"""How long a person has for one question."""

_POLL_S: Final = 20.0
_FAREWELL_S: Final = 2.0
_TAB: Final = re.compile(r"[0-9a-f]{32}")
_AGAIN: Final = "start the command again, and open the address that it prints"

View = Mapping[str, Json]
T = TypeVar("T")


class AnswerRefused(Exception):
    """What a page sent is not what was asked for; it may try again.

    Attributes:
        code: for the page.
        text: what is wrong, a sentence for a person.
        hint: what to do.
    """

    def __init__(self, code: str, text: str, *, hint: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint


class WalletDesk:
    """The questions of one command.

    Args:
        limit_s: how long a person has for one question.
    """

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._changed = threading.Condition()
        self._view: View = {"kind": "working"}
        self._version = 1
        self._delivered = 0
        self._tab = ""
        self._is_cancelled = False
        self._take: Callable[[Mapping[str, Json]], None] | None = None

    # --- the command ---------------------------------------------------------------------------------------------

    def ask(self, view: View, accept: Callable[[Mapping[str, Json]], T]) -> T:
        """Show a question and wait for its answer.

        Args:
            view: what the page shows; its member `kind` says what is asked.
            accept: judges an answer, untrusted, and returns what it means; raises AnswerRefused.
        Raises:
            NotSigned: nobody answered in time, or it was cancelled in the page.
            KeyboardInterrupt: on Ctrl-C, in an event loop too.
        """
        answers: list[T] = []
        with _interruptible(), self._changed:
            self._take = lambda said: answers.append(accept(said))
            self._show(view)
            try:
                self._changed.wait_for(lambda: answers or self._is_cancelled, self._limit_s)
            finally:
                self._take = None
                self._show({"kind": "working"})
        if answers:
            return answers[0]
        if self._is_cancelled:
            raise NotSigned("it was cancelled in the browser, and nothing more is signed", hint=_AGAIN)
        raise NotSigned(f"{self._missing(view)} within {self._limit_s / 60:g} minutes", hint=_AGAIN)

    def end(self, view: View) -> None:
        """Show a last view, and wait a moment until the page has it."""
        with self._changed:
            self._show(view)
            if self._tab:
                self._changed.wait_for(lambda: self._delivered == self._version, _FAREWELL_S)

    def _show(self, view: View) -> None:
        self._view, self._version = view, self._version + 1
        self._changed.notify_all()

    def _missing(self, view: View) -> str:
        if not self._tab:
            return "nobody opened the page"
        return "no wallet was connected" if view["kind"] == "connect" else "the wallet did not sign"

    # --- the page ------------------------------------------------------------------------------------------------

    def next_view(self, tab: str, after: int) -> tuple[int, View]:
        """Return what to show as soon as that is another version than `after`, or after a while.

        Args:
            tab: what the page calls itself, 32 hex digits.
            after: version that the page shows; 0: none, it was opened just now and answers from now on.
        Raises:
            AnswerRefused: another page was opened since.
        """
        with self._changed:
            if after == 0 and _TAB.fullmatch(tab):
                self._tab = tab
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._version != after or self._tab != tab, _POLL_S)
            self._require_tab(tab)
            return self._version, self._view

    def delivered(self, version: int) -> None:
        """Note that the page has this version."""
        with self._changed:
            self._delivered = version
            self._changed.notify_all()

    def answer(self, tab: str, version: int, said: Mapping[str, Json]) -> None:
        """Take an answer to the question of that version.

        Raises:
            AnswerRefused: it is not what was asked for, or no longer.
        """
        with self._changed:
            self._require_tab(tab)
            if self._take is None or version != self._version:
                raise AnswerRefused("past", "this was answered already", hint="go on with what the page shows now")
            self._take(said)
            self._take = None  # one answer
            self._changed.notify_all()

    def cancel(self, tab: str) -> None:
        """End the question, and those that would follow; raises AnswerRefused."""
        with self._changed:
            self._require_tab(tab)
            self._is_cancelled = True
            self._changed.notify_all()

    def _require_tab(self, tab: str) -> None:
        if not self._tab or tab != self._tab:
            raise AnswerRefused(
                "other-tab", "this page was opened in another tab since", hint="go on there, or load this one again"
            )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C end a wait that blocks the event loop: asyncio's handler cancels a task, which goes on waiting."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
