"""Looks for new values of the secrets that a program uses."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import field

from capabilities.frozen import frozen

from ...errors import (
    DecryptDenied,
    NodeRefused,
    NotFound,
    NotSignedIn,
    SealspaceError,
    TokenOutsideWindow,
    TransportError,
    Unauthorized,
)
from ...secrets import Secrets
from ...service.command_errors import NotThere
from ..keep.shared_secrets import shared_secrets
from ..owner.owner_profile import own_did, owner_home
from ..terminal import tell, what_happened
from .secret_reading import Reading, place_of_secrets

MAX_DELAY_S = 300.0
"""Longest time between two looks after errors, seconds, unless looks are rarer without errors."""
_SPREAD = 0.1
"""Part of the time between two looks by which it varies, so that many programs do not look at the
same moment."""


@frozen
class Update:
    """A change of secrets, or a message of the watch.

    Attributes:
        replaced: names of the secrets with new values, for messages.
        values: the values of all secrets by name; empty if the access was lost.
        is_lost: a secret was deleted, or may no longer be read, and the watch has ended.
        message: text to print as it is; then nothing else has changed.
    """

    replaced: tuple[str, ...] = ()
    values: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)
    is_lost: bool = False
    message: str = ""


def spread(delay_s: float) -> float:
    """Return a delay that varies a little."""
    return delay_s * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311  # no secret


class SecretWatch:
    """A watch over secrets that were read.

    Args:
        reading: the secrets, as a program has them.
        deliver: takes new values, after all of them were opened.
        every_s: seconds between two looks.
        keeps: words for messages: what stays as it is while there are no new values.
        ends_if_lost: end with an update if a secret was deleted, or may no longer be read.
        wait: waits for a number of seconds.
    """

    def __init__(
        self,
        reading: Reading,
        deliver: Callable[[Update], None],
        *,
        every_s: float,
        keeps: str,
        ends_if_lost: bool = False,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._reading = reading
        self._known = {name: secret.etag for name, secret in reading.secrets.items()}
        self._every_s = self._delay_s = every_s
        self._deliver = deliver
        self._keeps = keeps
        self._ends_if_lost = ends_if_lost
        self._wait = wait
        self._trouble = ""
        self._is_over = False

    async def run(self) -> None:
        """Look again and again, until the access is lost and this ends the watch.

        An error is reported once, and the looks become rarer until one succeeds.
        """
        while not self._is_over:
            await self._wait(spread(self._delay_s))
            try:
                await self._look_until_error()
            except (SealspaceError, OSError) as error:
                self._fail(error)

    async def _look_until_error(self) -> None:
        """Look again and again with one client.

        A new client reads the session of the newest login.
        """
        async with self._open_secrets() as secrets:
            while True:
                await self._look(secrets)
                self._succeed()
                await self._wait(spread(self._delay_s))

    @asynccontextmanager
    async def _open_secrets(self) -> AsyncIterator[Secrets]:
        async with (
            owner_home().client() as client,
            shared_secrets(client, self._reading.source) as secrets,
        ):
            # Somebody may have logged in as another owner, whose secrets have the same names.
            if place_of_secrets(client, secrets) != self._reading.place:
                raise NotSignedIn(
                    "the login is now that of another owner or node",
                    hint="stop this command, and start it again",
                )
            yield secrets

    async def _look(self, secrets: Secrets) -> None:
        """Compare the versions, and read all secrets if one was replaced."""
        scope = self._reading.scope
        now = await secrets.etags(self._known, scope=scope)
        self._require_all(now)
        if now == self._known:
            return
        secrets_by_name = await secrets.read_many(self._known, scope=scope)
        self._require_all(secrets_by_name)
        etags = {name: secret.etag for name, secret in secrets_by_name.items()}
        replaced = tuple([name for name, etag in etags.items() if etag != self._known[name]])
        self._known = etags
        values = {name: secret.value for name, secret in secrets_by_name.items()}
        self._deliver(Update(replaced=replaced, values=values))

    def _require_all(self, present: Mapping[str, object]) -> None:
        missing = [name for name in self._known if name not in present]
        if missing:
            raise NotThere(
                f"deleted secrets: {', '.join(missing):.300}",
                hint=f"store it again: sealspace secret put {missing[0]}",
            )

    def _succeed(self) -> None:
        if self._trouble:
            tell("the secrets can be read again")
        self._trouble = ""
        self._delay_s = self._every_s

    def _fail(self, error: SealspaceError | OSError) -> None:
        """Report an error, unless one of its kind was reported at the last look."""
        self._is_over = self._ends_if_lost and _is_lost(error)
        outcome = "stopping" if self._is_over else self._keeps
        text = f"cannot look for new values: {_text_of(error)}; {outcome}"
        if isinstance(error, SealspaceError):
            text += f"; next: {error.step}"
        if (kind := _kind_of(error)) != self._trouble:
            tell(text)
        self._trouble = kind
        if self._is_over:
            self._deliver(Update(is_lost=True))
        # A secret that is missing may be stored again at any time.
        if not isinstance(error, NotThere):
            self._delay_s = min(2 * self._delay_s, max(self._every_s, MAX_DELAY_S))


def _kind_of(error: SealspaceError | OSError) -> str:
    """Return a text that is the same for errors that are reported once.

    The texts of errors of one kind differ: a node that stops may first interrupt a connection, and
    then refuse the next one.
    """
    if isinstance(error, TransportError):
        return TransportError.code
    return error.code if isinstance(error, NodeRefused) else str(error)


def _text_of(error: SealspaceError | OSError) -> str:
    if isinstance(error, SealspaceError):
        return what_happened(error, own=own_did())
    return str(error.strerror).lower()


def _is_lost(error: BaseException) -> bool:
    """Return whether a secret was deleted, or the node no longer lets this caller read it."""
    # An error about a machine token has the node's refusal as its cause.
    for cause in (error, error.__cause__):
        if isinstance(cause, TokenOutsideWindow):  # also if a clock is wrong
            return False
        if isinstance(cause, NotThere | NotFound | Unauthorized | DecryptDenied):
            return True
    return False
