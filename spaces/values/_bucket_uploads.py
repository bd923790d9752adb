"""Unfinished multipart uploads: listed and aborted by requests that the S3 client does not know.

The parts of such an upload take space and appear in no listing of objects. The two requests are signed here (AWS
Signature Version 4); everything else goes through `obstore`.

Source: Amazon S3 API reference, ListMultipartUploads and AbortMultipartUpload; Signature Version 4, GET without a body.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit
from xml.parsers import expat

import aiohttp
from yarl import URL

from ..errors import StoreUnavailable

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=2)
_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_GONE: Final = 404
INCOMING: Final = "incoming"


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Where bodies are stored.

    Attributes:
        bucket: name of the bucket.
        prefix: of every key, without slashes around it; may be empty. It has no segment `incoming`: a store above would
            sweep whatever is below one as unfinished.
    Raises:
        ValueError: it has one (a mistake of the calling code).
    """

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if INCOMING in self.prefix.split("/"):
            raise ValueError("a prefix with the segment incoming")


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """How to reach a bucket, and with which credentials.

    Attributes:
        key_id: public part of the credentials.
        secret_key: secret part.
        session_token: the third part of temporary credentials.
        region: of the bucket.
        endpoint: address of a server other than Amazon's, without a path; None: that of the region.
    """

    key_id: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    endpoint: str | None = None

    @property
    def address(self) -> str:
        """Address of the server."""
        return (self.endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload.

    Attributes:
        key: whole key of the future object.
        upload_id: identifies it together with the key.
        begun_at: epoch seconds, by the bucket's clock.
    """

    key: str
    upload_id: str
    begun_at: float


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """A part of a listing.

    Attributes:
        uploads: in the order of their keys.
        next_key, next_id: where the next page begins; None at the end.
    """

    uploads: tuple[UnfinishedUpload, ...]
    next_key: str | None = None
    next_id: str | None = None


class Uploads:
    """The unfinished uploads below a prefix."""

    def __init__(self, place: BucketPlace, access: BucketAccess) -> None:
        self._prefix = f"{place.prefix}/{INCOMING}/" if place.prefix else f"{INCOMING}/"
        self._path = f"/{place.bucket}"
        self._access = access

    async def abort_older_than(self, before: float) -> int:
        """Abort uploads begun before `before`, in epoch seconds; return how many.

        Raises:
            StoreUnavailable: the bucket refuses, or cannot be reached.
        """
        aborted = 0
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            async for upload in self._listed(session):
                if upload.begun_at < before:
                    where = f"{self._path}/{quote(upload.key)}"
                    await self._ask(session, "DELETE", where, {"uploadId": upload.upload_id})
                    aborted += 1
        return aborted

    async def try_out(self) -> None:
        """Ask for a listing.

        Raises:
            StoreUnavailable: the bucket refuses, or cannot be reached.
        """
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            parse_uploads(await self._ask(session, "GET", self._path, self._query(None)))

    async def _listed(self, session: aiohttp.ClientSession) -> AsyncIterator[UnfinishedUpload]:
        page: UploadsPage | None = None
        while page is None or page.next_key is not None:
            page = parse_uploads(await self._ask(session, "GET", self._path, self._query(page)))
            for upload in page.uploads:
                if upload.key.startswith(self._prefix):  # not every server reads the prefix
                    yield upload

    def _query(self, former: UploadsPage | None) -> dict[str, str]:
        query = {"uploads": "", "prefix": self._prefix}
        if former is not None and former.next_key is not None:
            query |= {"key-marker": former.next_key, "upload-id-marker": former.next_id or ""}
        return query

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str, query: Mapping[str, str]) -> bytes:
        address = f"{self._access.address}{path}?{canonical_query(query)}"
        headers = signed_headers(self._access, method, address, now=datetime.now(UTC))
        try:
            async with session.request(method, URL(address, encoded=True), headers=headers) as answer:
                if answer.status >= 300 and answer.status != _GONE:
                    raise StoreUnavailable(f"the bucket does not tell of unfinished uploads ({answer.status})")
                return await _read_bounded(answer)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise StoreUnavailable("the bucket of the bodies cannot be reached") from None


async def _read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    """Read a body to its end: it arrives in pieces."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            raise StoreUnavailable("the bucket's answer about unfinished uploads is too long")
    return bytes(body)


def signed_headers(access: BucketAccess, method: str, address: str, *, now: datetime) -> dict[str, str]:
    """Return the headers that sign a request without a body.

    Args:
        access: the credentials.
        method: in capitals.
        address: its query as `canonical_query` writes it.
        now: aware time; the server accepts it within some minutes of its own.
    """
    parts = urlsplit(address)
    when = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": when}
    if access.session_token is not None:
        headers["x-amz-security-token"] = access.session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join((method, parts.path or "/", parts.query, lines, names, _EMPTY_SHA256))
    scope = f"{when[:8]}/{access.region}/s3/aws4_request"
    to_sign = "\n".join(("AWS4-HMAC-SHA256", when, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{access.secret_key}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"Credential={access.key_id}/{scope}"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential},SignedHeaders={names},Signature={signature}"}


def canonical_query(query: Mapping[str, str]) -> str:
    """Write a query in the order and spelling that is signed."""
    return "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))


def parse_uploads(answer: bytes) -> UploadsPage:
    """Read a ListMultipartUploads answer.

    Args:
        answer: XML; a document type is refused, so that nothing in it expands.
    Raises:
        StoreUnavailable: it is not such an answer.
    """
    reader = _UploadsReader()
    try:
        return reader.read(answer)
    except (expat.ExpatError, ValueError, KeyError):
        raise StoreUnavailable("the bucket's answer about unfinished uploads cannot be read") from None


class _UploadsReader:
    """Collects the texts of the elements that matter."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._text: list[str] = []
        self._upload: dict[str, str] = {}
        self._top: dict[str, str] = {}
        self._uploads: list[UnfinishedUpload] = []

    def read(self, answer: bytes) -> UploadsPage:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.Parse(answer, True)
        if self._top.get("IsTruncated") != "true":
            return UploadsPage(tuple(self._uploads))
        return UploadsPage(tuple(self._uploads), self._top["NextKeyMarker"], self._top["NextUploadIdMarker"])

    def _start(self, name: str, _attributes: object) -> None:
        self._path.append(name)
        self._text.clear()
        if self._path == ["ListMultipartUploadsResult", "Upload"]:
            self._upload = {}

    def _end(self, name: str) -> None:
        self._path.pop()
        if self._path == ["ListMultipartUploadsResult", "Upload"]:
            self._upload[name] = "".join(self._text)
        elif self._path == ["ListMultipartUploadsResult"]:
            self._top[name] = "".join(self._text)
            if name == "Upload":
                self._uploads.append(_unfinished(self._upload))
        elif not self._path and name != "ListMultipartUploadsResult":
            raise ValueError(name)


def _unfinished(upload: Mapping[str, str]) -> UnfinishedUpload:
    begun = datetime.fromisoformat(upload["Initiated"])
    if begun.tzinfo is None:
        raise ValueError("a time without a zone")
    return UnfinishedUpload(upload["Key"], upload["UploadId"], begun.timestamp())


def _refuse_doctype(*_: object) -> None:
    raise ValueError("a document type")
