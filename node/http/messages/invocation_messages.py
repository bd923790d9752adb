"""What a POST /invoke states beside its token, as the operations read it: option headers, one value, a form of values.

Nothing of a body is read before an operation asks for it (I11).
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import web

from ...config.tree import Http
from ...operations.errors import BodyTooLarge
from ...operations.values.kv_batch import BatchUpload, Part
from ...operations.values.kv_write import Upload
from .clients import client_address
from .multipart import boundary_of, multipart_parts, part_path
from .problems import NotReadable, TooLarge, TooSlow
from .request_bodies import body_at_hand, body_pieces, limited_body

_STORED: Final = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
_STORED_PREFIX: Final = "x-tinycloud-meta-"


class InvocationMessage:
    """A request of /invoke without its token: the `Message` of the operations."""

    __slots__ = ("_http", "_request", "headers")

    def __init__(self, request: web.Request, http: Http) -> None:
        self._request = request
        self._http = http
        self.headers: Mapping[str, str] = request.headers

    @property
    def is_form(self) -> bool:
        """See `Message.is_form`."""
        return self.headers.get("Content-Type", "").lower().startswith("multipart/form-data")

    @property
    def client(self) -> str | None:
        """See `Message.client`."""
        return client_address(self._request, self._http)

    def upload(self) -> Upload:
        """See `Message.upload`."""
        return Upload(
            at_hand=self._at_hand,
            pieces=self._pieces,
            declared_bytes=self._request.content_length,
            metadata=_stored(self.headers),
            client=self.client,
        )

    def uploads(self) -> BatchUpload:
        """See `Message.uploads`."""
        boundary = boundary_of(self.headers["Content-Type"])

        async def parts() -> AsyncIterator[Part]:
            async for part in multipart_parts(self._pieces(), boundary):
                yield Part(part_path(part.name), _stored(part.headers), part.pieces)

        return BatchUpload(parts=parts, client=self.client)

    async def whole_body(self, *, max_bytes: int) -> bytes | None:
        """See `Message.whole_body`."""
        try:
            return await limited_body(self._request, max_bytes=max_bytes)
        except (NotReadable, TooLarge, TooSlow):
            return None

    def _at_hand(self) -> bytes | None:
        try:
            return body_at_hand(self._request, max_bytes=self._http.max_body_bytes)
        except TooLarge:
            raise BodyTooLarge(self._http.max_body_bytes) from None  # Q2

    async def _pieces(self) -> AsyncIterator[bytes]:
        http = self._http
        try:
            async for piece in body_pieces(self._request, max_bytes=http.max_body_bytes, idle_s=http.idle_body_s):
                yield piece
        except TooLarge:
            raise BodyTooLarge(http.max_body_bytes) from None  # Q2


def _stored(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of some headers, by lower-case name; of a repeated one the last value (4.4.3)."""
    return {
        name: value
        for key, value in headers.items()
        if (name := key.lower()) in _STORED or name.startswith(_STORED_PREFIX)
    }
