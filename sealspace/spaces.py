"""Clients for owned spaces and for public spaces.

Public spaces can be read without a session. A sign-in requests the rights to list and create spaces
with `SignIn(spaces_rights=True)`. A wallet can grant them later with one signature. A key has them
on its own spaces.

Example:
    await client.delegations.add_right(wallet, client.spaces().rights)
    space = await client.spaces().create("notes")
    names = [entry.space.name for entry in await client.spaces().list()]

    await client.sign_in(wallet, SignIn(spaces=("public",)))
    await client.kv("public").put("posts/1", "hello")
    public = client.public(client.kv("public").space.text)  # needs no session
    assert [key async for key in public.list("posts/")] == ["posts/1"]
    assert (await public.get("posts/1")).body == b"hello"
"""

from collections.abc import AsyncIterator, Mapping
from operator import attrgetter
from typing import Literal, NamedTuple

import msgspec

from capabilities.abilities import SPACE_CREATE, SPACE_INFO, SPACE_LIST
from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.resources import SpaceId, parse_space_id
from capabilities.tokens import Capability

from .errors import InvalidInput, MalformedAnswer, NotFound
from .kv import MAX_PAGE_KEYS, MAX_VALUE_BYTES
from .session import space_capability, space_of
from .wire.caller import Caller
from .wire.node_answers import decoded, read_pages, require_advance, text_list
from .wire.sign_in import SPACES_ABILITIES
from .wire.transport import Answer, Request, Transport, path_segment
from .wire.values import Value, header_value, whole_value_of


class _PublicPage(NamedTuple):
    """A page of keys, and the key after which the next page begins; None for the last page."""

    keys: list[str]
    next_after: str | None


class PublicKv:
    """A client that reads values from a public space.

    Use `Client.public` to get an instance.

    Args:
        transport: connection to the node; no token is sent.
        space: the space.
    """

    def __init__(self, transport: Transport, space: SpaceId) -> None:
        self._transport = transport
        self._space = space
        self._path = f"/public/{path_segment(space.text)}/kv"

    @property
    def space(self) -> SpaceId:
        """The id of this space."""
        return self._space

    async def get(self, key: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Value:
        """Read a value.

        Of the metadata, nodes publish only the content type.

        Args:
            key: the key.
            max_bytes: largest accepted value.
        Raises:
            NotFound: there is no such value or space.
            RateLimited: the node accepts no more reads from this address for now.
            ResponseTooLarge: the value is larger than `max_bytes`.
            TransferBroken: the body does not match the digest in its ETag.
        """
        return self._value(key, await self._read(key, None, max_bytes))

    async def get_if_changed(
        self, key: str, etag: str, *, max_bytes: int = MAX_VALUE_BYTES
    ) -> Value | None:
        """Read a value if it has changed since a known version.

        Returns None if the version is still `etag`.

        Raises:
            SealspaceError: the same errors as `get`.
        """
        answer = await self._read(key, header_value(etag), max_bytes)
        return None if answer.status == 304 else self._value(key, answer)

    async def list(self, prefix: str = "", *, page_keys: int = MAX_PAGE_KEYS) -> AsyncIterator[str]:
        """Yield all keys below a prefix.

        The keys are in ascending order, and are fetched page by page. A space that does not exist
        has no keys.

        Args:
            prefix: whole segments: `posts` is this key and all below `posts/`; "" is the whole
                space.
            page_keys: size of a page, 1 to 1000; a node may send fewer keys, or all at once.
        Raises:
            InvalidInput: the page size is out of range.
            RateLimited: the node accepts no more reads from this address for now.
            MalformedAnswer: the keys do not ascend below the prefix, a page before the last one is
                empty, or the list has too many pages.
        """
        if not 1 <= page_keys <= MAX_PAGE_KEYS:
            raise InvalidInput(f"the page size must be 1 to {MAX_PAGE_KEYS} keys, not {page_keys}")

        async def read_page(after: str | None) -> _PublicPage:
            query = f"?prefix={path_segment(prefix)}&limit={page_keys}"
            if after:
                query += f"&after={path_segment(after)}"
            answer = await self._transport.require(
                Request("GET", self._path + query, repeatable=True)
            )
            keys = text_list(answer)
            is_last = answer.headers.get("x-tinycloud-truncated") != "true"
            require_advance(keys, prefix=prefix, after=after, limit=page_keys, is_last=is_last)
            return _PublicPage(keys, next_after=None if is_last else keys[-1])

        async for page in read_pages(read_page, attrgetter("next_after")):
            for key in page.keys:
                yield key

    def _value(self, key: str, answer: Answer) -> Value:
        try:
            return whole_value_of(answer.require())
        except NotFound as missing:
            missing.restate(
                f"value with the key {key} in the space {self._space.text}",
                hint=f'list the keys with `client.public("{self._space.text}").list()`',
            )
            raise

    async def _read(self, key: str, etag: str | None, max_bytes: int) -> Answer:
        """Request a public value, unless it still has the version `etag`."""
        # J11: each segment is percent-encoded once more; nodes also look up the decoded text.
        path = "/".join(path_segment(part) for part in key.split("/"))
        headers = {}
        if etag is not None:
            headers["If-None-Match"] = etag
        request = Request(
            "GET",
            f"{self._path}/{path}",
            headers=headers,
            repeatable=True,
            max_answer_bytes=max_bytes,
        )
        return await self._transport.exchange(request)


@frozen
class SpaceEntry:
    """A space that the node hosts.

    Attributes:
        space: the id of the space.
        created_at: UTC time in the node's format; None if the node does not say.
        is_own: whether the session's owner owns it; None, as below, if the node does not say.
        usage_bytes: bytes stored in it.
        limit_bytes: most bytes that it may store; None also means no limit.
        databases: name of each of its databases -> size in bytes.
    """

    space: SpaceId
    created_at: str | None
    is_own: bool | None
    usage_bytes: int | None
    limit_bytes: int | None
    databases: Mapping[str, int]


class _SpaceForm(msgspec.Struct, rename="camel"):
    id: str
    owner: str
    created_at: str | None = None
    type: Literal["owned", "delegated"] | None = None
    usage_bytes: int | None = None
    limit_bytes: int | None = None
    databases: dict[str, int] = {}


_ONE = msgspec.json.Decoder(_SpaceForm)
_MANY = msgspec.json.Decoder(list[_SpaceForm])


class Spaces:
    """A client that lists and creates an owner's spaces.

    Use `Client.spaces` to get an instance.

    Args:
        caller: sends requests with the session's authority.
        space: a hosted space of that owner, which the requests name.
    """

    def __init__(self, caller: Caller, space: SpaceId) -> None:
        self._caller = caller
        self._space = space

    @property
    def rights(self) -> tuple[Capability, ...]:
        """The capabilities that the methods of this class require.

        See `Delegations.add_right`.
        """
        return tuple(
            space_capability(self._space, "space", None, ability) for ability in SPACES_ABILITIES
        )

    async def list(self) -> tuple[SpaceEntry, ...]:
        """Return the owner's spaces, ordered by id.

        Raises:
            NotGranted, Unauthorized: the session may not list them.
            SpaceNotFound: the node does not host the space that the request names.
        """
        return entries_of(await self._invoke("", SPACE_LIST, repeatable=True))

    async def create(self, name: str) -> SpaceEntry:
        """Create a space for the owner.

        Args:
            name: letters, digits, `-` and `_`; a node may accept more.
        Raises:
            InvalidInput: the name is not valid.
            DuplicateRequest: the space already exists.
            NotGranted, Unauthorized: the session may not create it, or the node does not host it.
        """
        path = space_of(self._space.owner, name).name
        if path != name:
            raise InvalidInput("a new space needs a short name, not an id")
        return entry_of(await self._invoke(path, SPACE_CREATE))

    async def info(self, name: str) -> SpaceEntry:
        """Return information about one of the owner's spaces.

        Args:
            name: short name or id.
        Raises:
            SpaceNotFound: the node does not host it, or it belongs to another owner.
            NotGranted, Unauthorized: the session may not ask about it.
        """
        return entry_of(
            await self._invoke(space_of(self._space.owner, name).text, SPACE_INFO, repeatable=True)
        )

    async def _invoke(self, path: str, ability: str, *, repeatable: bool = False) -> Answer:
        wanted = space_capability(self._space, "space", path, ability)
        return (await self._caller.invoke([wanted], Request(repeatable=repeatable))).require()


def entry_of(answer: Answer) -> SpaceEntry:
    """Parse a response that describes one space.

    Raises:
        MalformedAnswer: the answer is not a space.
    """
    return _parse_space_entry(decoded(_ONE, answer, "a space"))


def entries_of(answer: Answer) -> tuple[SpaceEntry, ...]:
    """Parse a response that lists spaces.

    Raises:
        MalformedAnswer: the answer is not a list of spaces.
    """
    space_forms = decoded(_MANY, answer, "a list of spaces")
    return tuple([_parse_space_entry(space_form) for space_form in space_forms])


def _parse_space_entry(space_form: _SpaceForm) -> SpaceEntry:
    """Convert the node's form of a space; raises MalformedAnswer for an invalid id."""
    try:
        space = parse_space_id(space_form.id)
    except CapabilityError as exc:
        raise MalformedAnswer("the node's response has an invalid space id") from exc
    is_own = None if space_form.type is None else space_form.type == "owned"
    return SpaceEntry(
        space=space,
        created_at=space_form.created_at,
        is_own=is_own,
        usage_bytes=space_form.usage_bytes,
        limit_bytes=space_form.limit_bytes,
        databases=space_form.databases,
    )
