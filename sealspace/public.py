"""Values of public spaces: read by anybody, without a session.

Example:
    await client.sign_in(wallet, SignIn(spaces=("public",)))
    await client.kv("public").put("posts/1", "hello")
    public = client.public(client.kv("public").space.text)  # anybody, without a session
    assert [key async for key in public.list("posts/")] == ["posts/1"]
    assert (await public.get("posts/1")).body == b"hello"
"""

from collections.abc import AsyncIterator

from capabilities.resources import SpaceId

from .errors import InvalidInput, NotFound
from .kv import MAX_PAGE_KEYS, MAX_VALUE_BYTES
from .wire.answers import text_list
from .wire.listing import read_pages, require_advance
from .wire.transport import Answer, Request, Transport, path_segment
from .wire.values import Value, header_value, whole_value_of


class PublicKv:
    """The values of one public space; made by `Client.public`.

    Args:
        transport: to the node; no token is sent.
        space: the space.
    """

    def __init__(self, transport: Transport, space: SpaceId) -> None:
        self._transport = transport
        self._space = space

    @property
    def space(self) -> SpaceId:
        """The space."""
        return self._space

    async def get(self, key: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Value:
        """Read a value; of its metadata a node shows the content type only.

        Args:
            key: the key.
            max_bytes: no more is read.
        Raises:
            NotFound: there is no value under this key, or no such space.
            RateLimited: the node accepts no more reads from this address for a moment.
            ResponseTooLarge: the value is larger than `max_bytes`.
            TransferBroken: the body is another one than its version says.
        """
        return self._value(key, await self._read(key, None, max_bytes))

    async def get_if_changed(self, key: str, etag: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Value | None:
        """Read a value unless it still is the version that the caller has: then None.

        Raises:
            SealspaceError: as `get`.
        """
        answer = await self._read(key, header_value(etag), max_bytes)
        return None if answer.status == 304 else self._value(key, answer)

    async def list(self, prefix: str = "", *, page_keys: int = MAX_PAGE_KEYS) -> AsyncIterator[str]:
        """Yield every key that begins with a prefix, ascending; read page by page. Nothing for an unknown space.

        Args:
            prefix: plain text; "" is the whole space.
            page_keys: keys of a page, 1 to 1000; a node may send fewer, or all of them at once.
        Raises:
            InvalidInput: the number of keys is out of range.
            RateLimited: see `get`.
            MalformedAnswer: the keys do not ascend under the prefix, or the list has no end.
        """
        if not 1 <= page_keys <= MAX_PAGE_KEYS:
            raise InvalidInput(f"a page holds 1 to {MAX_PAGE_KEYS} keys")

        async def ask(after: str | None) -> tuple[list[str], str | None]:
            query = f"?prefix={path_segment(prefix)}&limit={page_keys}"
            query += f"&after={path_segment(after)}" if after else ""
            answer = (await self._transport.exchange(Request("GET", self._path + query, repeatable=True))).require()
            keys, is_last = text_list(answer), answer.headers.get("x-tinycloud-truncated") != "true"
            require_advance(keys, prefix=prefix, after=after, limit=page_keys, is_last=is_last)
            return keys, None if is_last else keys[-1]

        async for keys in read_pages(ask):
            for key in keys:
                yield key

    def _value(self, key: str, answer: Answer) -> Value:
        try:
            return whole_value_of(answer.require())
        except NotFound as missing:
            listed = f'client.public("{self._space.text}").list()'
            missing.restate(f"value {key} in {self._space.text}", hint=f"`{listed}` shows which keys there are")
            raise

    async def _read(self, key: str, etag: str | None, max_bytes: int) -> Answer:
        # J11: each part of a key is encoded once more; nodes look for the decoded text too.
        path = "/".join(path_segment(part) for part in key.split("/"))
        return await self._transport.exchange(
            Request(
                "GET",
                f"{self._path}/{path}",
                headers={} if etag is None else {"If-None-Match": etag},
                repeatable=True,
                max_answer_bytes=max_bytes,
            )
        )

    @property
    def _path(self) -> str:
        return f"/public/{path_segment(self._space.text)}/kv"
