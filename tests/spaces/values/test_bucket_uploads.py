"""Listings of unfinished uploads as a server may send them: in pieces, page after page, with what was not asked for."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import spaces.values._bucket_uploads as uploads
from spaces.errors import StoreUnavailable
from spaces.values._bucket_uploads import BucketAccess, BucketPlace, Uploads

_BEGUN = "2026-01-01T00:00:00.000Z"
_LATER = 4e9
_PIECE_BYTES = 16 * 1024


@dataclass
class Listings:
    """A server that tells of uploads, `page` at a time and in pieces, whatever the prefix that is asked for."""

    keys: Sequence[str]
    page: int = 1000
    padding_bytes: int = 0
    status: int = 200
    asked: int = 0
    aborted: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """List, or abort."""
        if request.method == "DELETE":
            self.aborted.append(request.path.removeprefix("/bodies/"))
            return web.Response(status=204)
        self.asked += 1
        answer = web.StreamResponse(status=self.status)
        await answer.prepare(request)
        text = self._listing(request.query.get("key-marker", "")).encode()
        for start in range(0, len(text), _PIECE_BYTES):
            await answer.write(text[start : start + _PIECE_BYTES])
        return answer

    def _listing(self, marker: str) -> str:
        left = [key for key in self.keys if key > marker]
        listed = f"<Prefix>{'x' * self.padding_bytes}</Prefix>" + "".join(
            f"<Upload><Key>{key}</Key><UploadId>id</UploadId><Initiated>{_BEGUN}</Initiated></Upload>"
            for key in left[: self.page]
        )
        if len(left) > self.page:
            listed += f"<NextKeyMarker>{left[self.page - 1]}</NextKeyMarker><NextUploadIdMarker>id</NextUploadIdMarker>"
            listed += "<IsTruncated>true</IsTruncated>"
        return f"<ListMultipartUploadsResult>{listed}</ListMultipartUploadsResult>"


@pytest.fixture
def listings() -> Listings:
    """Forty uploads of ours, and one of somebody else's."""
    return Listings(sorted([f"node/incoming/{n:02}" for n in range(40)] + ["node/incoming-of-others"]))


@pytest.fixture
async def found(listings: Listings) -> AsyncIterator[Uploads]:
    """The uploads below the place that the server tells of."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", listings.answer)
    async with TestServer(app) as server:
        access = BucketAccess(key_id="key", secret_key="hush", endpoint=str(server.make_url("")))
        yield Uploads(BucketPlace("bodies", "node"), access)


async def test_listing_that_comes_in_pieces_is_read_whole(listings: Listings, found: Uploads) -> None:
    """One read returns what has arrived: a listing longer than that is read on, and foreign uploads are left alone."""
    listings.padding_bytes = 1024 * 1024
    await found.try_out()
    assert await found.abort_older_than(_LATER) == 40
    assert sorted(listings.aborted) == [f"node/incoming/{n:02}" for n in range(40)]


async def test_every_page_of_a_listing_is_read(listings: Listings, found: Uploads) -> None:
    """A listing goes on where its last page ended."""
    listings.page = 7
    assert await found.abort_older_than(_LATER) == 40
    assert (listings.asked, len(set(listings.aborted))) == (6, 40)


async def test_listing_without_end_is_refused(
    listings: Listings, found: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing is read up to its bound."""
    monkeypatch.setattr(uploads, "_MAX_ANSWER_BYTES", 2000)
    with pytest.raises(StoreUnavailable, match="too long"):
        await found.abort_older_than(_LATER)
    assert listings.aborted == []


@pytest.mark.parametrize("status", [301, 403, 503])
async def test_bucket_that_refuses_to_tell(listings: Listings, found: Uploads, status: int) -> None:
    """What is answered beside a refusal is no listing, however much it looks like one."""
    listings.status = status
    with pytest.raises(StoreUnavailable, match=str(status)):
        await found.abort_older_than(_LATER)
    assert listings.aborted == []


async def test_bucket_that_cannot_be_reached(unused_tcp_port: int) -> None:
    """A server that is not there is an error of ours."""
    access = BucketAccess(key_id="key", secret_key="hush", endpoint=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await Uploads(BucketPlace("bodies"), access).try_out()
