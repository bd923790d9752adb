"""The owner's spaces: list them, make one, look at one.

A sign-in asks for these rights with `SignIn(spaces_rights=True)`; a wallet adds them later with one signature, a key
has them on its own spaces.

Example:
    await client.delegations.add_right(wallet, client.spaces().rights)
    space = await client.spaces().create("notes")
    names = [entry.space.name for entry in await client.spaces().list()]
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from capabilities.abilities import SPACE_CREATE, SPACE_INFO, SPACE_LIST
from capabilities.errors import CapabilityError
from capabilities.resources import SpaceId, parse_space_id
from capabilities.tokens import Capability

from .errors import InvalidInput, MalformedAnswer
from .session import space_of
from .tokens import space_capability
from .wire.answers import decoded
from .wire.caller import Caller
from .wire.sign_in import SPACES_ABILITIES
from .wire.transport import Answer


@dataclass(frozen=True, slots=True)
class SpaceEntry:
    """A space that the node hosts.

    Attributes:
        space: its id.
        created_at: since when, in UTC as the node wrote it; None where it does not say.
        is_own: whether the session acts for its owner; this and the rest None where that was not asked.
        usage_bytes: stored in it.
        limit_bytes: most that may be stored in it; None also where there is no limit.
    """

    space: SpaceId
    created_at: str | None
    is_own: bool | None = None
    usage_bytes: int | None = None
    limit_bytes: int | None = None


class _Entry(msgspec.Struct, rename="camel"):
    id: str
    owner: str
    created_at: str | None = None
    type: Literal["owned", "delegated"] | None = None
    usage_bytes: int | None = None
    limit_bytes: int | None = None


_ONE: Final = msgspec.json.Decoder(_Entry)
_MANY: Final = msgspec.json.Decoder(list[_Entry])


class Spaces:
    """The spaces of the owner of one space; made by `Client.spaces`.

    Args:
        caller: sends requests with the session's authority.
        space: a hosted space of the owner in question, through which the node is asked.
    """

    def __init__(self, caller: Caller, space: SpaceId) -> None:
        self._caller = caller
        self._space = space

    @property
    def rights(self) -> tuple[Capability, ...]:
        """What a session has to hold for everything here; see `Delegations.add_right`."""
        return tuple(space_capability(self._space, "space", None, ability) for ability in SPACES_ABILITIES)

    async def list(self) -> tuple[SpaceEntry, ...]:
        """Return the owner's spaces, by id.

        Raises:
            NotGranted, Unauthorized: the session may not see them.
            SpaceNotFound: the space that is asked through is not hosted.
        """
        return entries_of(await self._invoke("", SPACE_LIST, repeatable=True))

    async def create(self, name: str) -> SpaceEntry:
        """Have the node host a space of the owner.

        Args:
            name: letters, digits, `-` and `_`; what else a node accepts is up to the node.
        Raises:
            InvalidInput: no name.
            DuplicateRequest: there is such a space.
            NotGranted, Unauthorized: the session may not make one, or the node does not host it.
        """
        path = space_of(self._space.owner, name).name
        if path != name:
            raise InvalidInput("a space is made by its name, not by its id")
        return entry_of(await self._invoke(path, SPACE_CREATE))

    async def info(self, name: str) -> SpaceEntry:
        """Return a space of the owner.

        Args:
            name: its name or its id.
        Raises:
            SpaceNotFound: it is not hosted, or is not the owner's.
            NotGranted, Unauthorized: the session may not ask.
        """
        target = space_of(self._space.owner, name)
        return entry_of(await self._invoke(target.text, SPACE_INFO, repeatable=True))

    async def _invoke(self, path: str, ability: str, *, repeatable: bool = False) -> Answer:
        wanted = space_capability(self._space, "space", path, ability)
        return (await self._caller.exchange([wanted], repeatable=repeatable)).require()


def entry_of(answer: Answer) -> SpaceEntry:
    """Read the description of one space.

    Raises:
        MalformedAnswer: nothing of the kind.
    """
    return _entry(decoded(_ONE, answer, "a space"))


def entries_of(answer: Answer) -> tuple[SpaceEntry, ...]:
    """Read a list of spaces.

    Raises:
        MalformedAnswer: it is none.
    """
    return tuple([_entry(one) for one in decoded(_MANY, answer, "a list of spaces")])


def _entry(answered: _Entry) -> SpaceEntry:
    try:
        space = parse_space_id(answered.id)
    except CapabilityError as exc:
        raise MalformedAnswer("the node's answer names no space") from exc
    is_own = None if answered.type is None else answered.type == "owned"
    return SpaceEntry(space, answered.created_at, is_own, answered.usage_bytes, answered.limit_bytes)
