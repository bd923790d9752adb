"""A client for the receipts of key releases, and for the fetches of shared secrets.

The node signs a receipt for each release. `Receipts` fetches the receipts of a network and the
documents that they name, and checks the signatures and digests. A person opens the copy of a shared
secret with a key of the person's own network, so its owner has no receipt of it. The node records
instead that the copy was fetched (`Receipts.fetches`). `sealspace verify` judges a release
anew, with quote and collateral. The operator can export the node's audit chain; `named_receipt`
says which receipt an entry of the chain is about.

Reading receipts needs `sealspace.encryption/receipts` on the network, from a sign-in or a grant.

Example:
    async for receipt in client.receipts.all():
        print(receipt.at, receipt.invoker, receipt.ground)
    async for fetch in client.receipts.fetches():
        print(fetch.at, fetch.reader, fetch.label)
"""

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Annotated

import msgspec

from capabilities.abilities import READ_RECEIPTS
from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.resources import NetworkId
from capabilities.strict_json import Json, parse_json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson, ReceiptError
from encryption_network.receipt import Receipt, encode_receipt, parse_receipt, verify_receipt

from .documents.secret_names import secret_at, shared_folder_at
from .errors import MalformedAnswer, NotFound, ReceiptInvalid
from .session import capability, network_of_owner
from .wire.caller import Caller
from .wire.node_answers import decoded, json_object, read_pages
from .wire.transport import MAX_ANSWER_BYTES, Answer, Request, path_segment

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200_000)]
_Whole = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_PAGE_RECEIPTS = 100
MAX_ENTRY_BYTES = 256 * 1024
_MAX_DETAIL_BYTES = 64 * 1024
_AUTHORISED = "release.authorised"
_HOUR_S = 3_600
_SHA256 = re.compile(r"[0-9a-f]{64}")


@frozen
class ReceiptPage:
    """A page of key-release receipts, oldest first.

    Attributes:
        receipts: signed by the node, for the requested network.
        after: argument for the next page; None if there are no more receipts now.
        keys: the digest for each receipt: the SHA-256 of the wrapped key that was released, 32
            bytes. It is None if the node does not state it. The node's signature does not cover it.
    """

    receipts: tuple[Receipt, ...]
    after: str | None
    keys: tuple[bytes | None, ...] = ()

    def releases(self, *, since: float = 0.0) -> "list[KeyRelease]":
        """Return the receipts since a time in epoch seconds, with the digests of the keys."""
        paired = zip(self.receipts, self.keys, strict=True)
        return [KeyRelease(receipt, key) for receipt, key in paired if receipt.at >= since]


@frozen
class KeyRelease:
    """A receipt, with the digest of the key that was released.

    Attributes:
        receipt: signed by the node.
        key_sha256: SHA-256 of the wrapped key, 32 bytes, as in an envelope; None if the node does
            not state it. The signature does not cover it.
    """

    receipt: Receipt
    key_sha256: bytes | None


class CopyFetch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A fetch of a shared secret's copy by somebody other than its owner.

    There is one for each reader, version of the copy and hour.

    Attributes:
        reader: DID of the recipient of the owner's grant.
        space: id of the owner's space that contains the copy.
        path: path of the copy.
        version: number of the copy's version; 0 if the node does not know it.
        etag: BLAKE3 of the copy, in hex.
        hour: start of the hour, epoch seconds.
        at_micros: time of the first fetch in this hour, microseconds since the epoch.
    """

    reader: _Text
    space: _Text
    path: _Text
    version: _Whole
    etag: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    hour: _Whole
    at_micros: _Whole

    @property
    def at(self) -> float:
        """The time of the first fetch in this hour, in epoch seconds."""
        return self.at_micros / 1_000_000

    @property
    def label(self) -> str:
        """The secret's name for display, such as `NAME` or `scope/NAME`.

        For a path that is not that of a copy, it is the path itself.
        """
        folder = shared_folder_at(self.path)
        secret = None if folder is None else secret_at(self.path, folder.path)
        return self.path if secret is None else secret.label


class _FetchPage(msgspec.Struct):
    """A page of fetches, the oldest hour first."""

    fetches: Annotated[list[CopyFetch], msgspec.Meta(max_length=MAX_PAGE_RECEIPTS)]
    after: str | None

    def check_order(self, hour: int) -> int:
        """Check that the page follows a fetch of this hour, and return its own last hour.

        Raises:
            MalformedAnswer: an hour is earlier than the one before, or a page before the last one
                is empty.
        """
        hours = [hour, *[fetch.hour for fetch in self.fetches]]
        if self.after is not None and not self.fetches:
            raise MalformedAnswer("the node sent an empty page of fetches")
        if hours != sorted(hours):
            raise MalformedAnswer("the node's fetches are not in chronological order")
        return hours[-1]


_FETCH_PAGE = msgspec.json.Decoder(_FetchPage)


class Receipts:
    """A client that fetches the receipts of key releases.

    Use `Client.receipts` to get an instance.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def page(
        self, network: NetworkId | None = None, *, after: str | None = None
    ) -> ReceiptPage:
        """Return a page of verified receipts.

        A page has at most 100 receipts.

        Args:
            network: None: the default network of the owner for whom this session acts.
            after: `after` of the page before; None: the first page.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/receipts` on the network.
            ReceiptInvalid: a signature is not valid, or a receipt belongs to another node or
                network.
            MalformedAnswer: the answer is not a page, is too long, or is not in order of time.
            Unauthorized, NotFound, NodeRefused, TransportError: the request failed.
        """
        chosen = network or network_of_owner(self._caller.session.owner)
        query = "" if after is None else f"?after={path_segment(after)}"
        value = json_object(await self._get(chosen, f"receipts{query}"))
        listed = value.get("receipts")
        following = value.get("after")
        if not isinstance(listed, list) or not isinstance(following, str | None):
            raise MalformedAnswer("the node's response is not a page of receipts")
        if len(listed) > MAX_PAGE_RECEIPTS:
            raise MalformedAnswer(
                f"the node sent more than {MAX_PAGE_RECEIPTS} receipts in one page"
            )
        node_id = await self._caller.node_id()
        receipts = tuple(
            check_receipt(document, node=node_id, network=chosen.text) for document in listed
        )
        _require_in_order(receipts)
        return ReceiptPage(
            receipts=receipts,
            after=following,
            keys=_parse_keys(value.get("keys"), len(receipts)),
        )

    async def all(self, network: NetworkId | None = None) -> AsyncIterator[Receipt]:
        """Yield all receipts of an encryption network.

        The oldest receipt comes first. The receipts are verified, and are fetched page by page.

        Raises:
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `page`.
        """
        async for release in self.releases(network):
            yield release.receipt

    async def releases(
        self, network: NetworkId | None = None, *, since: float = 0.0
    ) -> AsyncIterator[KeyRelease]:
        """Yield all receipts of an encryption network, with the digests of the released keys.

        The oldest receipt comes first. The receipts are verified, and are fetched page by page.

        Args:
            network: the same as for `page`.
            since: epoch seconds; earlier receipts are left out.
        Raises:
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `page`.
        """
        first = _place_at(since)
        last: Receipt | None = None  # the last receipt of the pages before
        async for page in read_pages(
            lambda after: self.page(network, after=after or first), attrgetter("after")
        ):
            receipts = page.receipts
            # `self.page` has checked the order within this page.
            if last is not None:
                _require_in_order((last, *receipts[:1]))
            if page.after is not None and (not receipts or receipts[-1] == last):
                raise MalformedAnswer("the node sent an empty or a repeated page of receipts")
            for release in page.releases(since=since):
                yield release
            if receipts:
                last = receipts[-1]

    async def fetches(
        self, network: NetworkId | None = None, *, since: float = 0.0
    ) -> AsyncIterator[CopyFetch]:
        """Yield the fetches of the copies that the network's owner shares with others.

        The oldest hour comes first; within an hour there is no order. The network `default` has the
        fetches of all copies, and no other network has any. Unlike receipts, fetches are not
        signed: the audit chain of the node contains them.

        Args:
            network: the same as for `page`.
            since: epoch seconds; earlier fetches are left out.
        Raises:
            NotFound: the node has no such network, or does not record fetches.
            MalformedAnswer: the list does not advance, or is not in order.
            NotGranted, Unauthorized, NodeRefused, TransportError: a request failed.
        """
        chosen = network or network_of_owner(self._caller.session.owner)
        # An hour is listed under its start, so the list has to begin there.
        first = _place_at(since // _HOUR_S * _HOUR_S)

        async def ask(after: str | None) -> _FetchPage:
            place = after or first
            query = "" if place is None else f"?after={path_segment(place)}"
            answer = await self._get(chosen, f"fetches{query}")
            return decoded(_FETCH_PAGE, answer, "a page of fetches")

        hour = 0  # of the last fetch before
        async for page in read_pages(ask, attrgetter("after")):
            hour = page.check_order(hour)
            for fetch in page.fetches:
                if fetch.at >= since:
                    yield fetch

    async def document(self, sha256: bytes, network: NetworkId | None = None) -> bytes:
        """Fetch a document that a receipt cites.

        A policy is such a document. The digest of the document is verified.

        Args:
            sha256: digest from a receipt, 32 bytes; see `documents_of`.
            network: the same as for `page`.
        Raises:
            NotFound: the node does not have the document, or has deleted it.
            ReceiptInvalid: the document has another digest.
            NotGranted, Unauthorized, NodeRefused, TransportError: the request failed.
        """
        answer = await self._get(
            network or network_of_owner(self._caller.session.owner),
            f"receipts/{sha256.hex()}",
            most=MAX_DOCUMENT_BYTES,
        )
        if hashlib.sha256(answer.body).digest() != sha256:
            raise ReceiptInvalid(
                f"the document that the node sent for {sha256.hex()} has a different digest"
            )
        return answer.body

    async def documents(
        self, receipt: Receipt, network: NetworkId | None = None
    ) -> dict[bytes, bytes]:
        """Fetch the documents that a receipt cites.

        Returns the documents by digest. Missing documents are left out.

        Raises:
            SealspaceError: the same errors as `document`, except NotFound.
        """
        document_by_digest = {}
        for digest in documents_of(receipt):
            try:
                document_by_digest[digest] = await self.document(digest, network)
            except NotFound:
                continue
        return document_by_digest

    async def _get(self, network: NetworkId, leaf: str, *, most: int = MAX_ANSWER_BYTES) -> Answer:
        request = Request(
            "GET",
            f"/encryption/networks/{path_segment(network.text)}/{leaf}",
            repeatable=True,
            max_answer_bytes=most,
        )
        wanted = [capability(network.text, READ_RECEIPTS)]
        return await self._caller.transport.require(await self._caller.authorized(request, wanted))


def _place_at(since: float) -> str | None:
    """Return the `after` of a list that begins at a time in epoch seconds (RC14)."""
    return f"{int(since * 1_000_000):016x}{0:032x}" if since > 0 else None


def _parse_keys(value: Json, count: int) -> tuple[bytes | None, ...]:
    """Parse the digests of the released keys in a page of receipts (RC37).

    Earlier nodes do not state them.

    Raises:
        MalformedAnswer: there is not one for each receipt, or one is not a SHA-256 in hex.
    """
    if value is None:
        return (None,) * count
    keys: list[bytes | None] = []
    for digest in value if isinstance(value, list) else ():
        if digest is None:
            keys.append(None)
        elif isinstance(digest, str) and _SHA256.fullmatch(digest):
            keys.append(bytes.fromhex(digest))
    if len(keys) != count:
        raise MalformedAnswer("the digests of keys in the node's response do not fit its receipts")
    return tuple(keys)


def _require_in_order(receipts: Sequence[Receipt]) -> None:
    if any(earlier.at_micros > later.at_micros for earlier, later in pairwise(receipts)):
        raise MalformedAnswer("the node's receipts are not in chronological order")


def check_receipt(value: Json, *, node: str, network: str) -> Receipt:
    """Parse and verify the receipt of a key release.

    The signature, the node and the network are checked.

    Args:
        value: the receipt's JSON object, untrusted.
        node: DID of the node that must have signed it.
        network: id of the network that it must be about.
    Raises:
        ReceiptInvalid: the value is not a receipt, its signature is not valid, or it belongs to
            another node or network.
    Does not check:
        The documents that it names, and whether it is recorded in the node's audit chain.
    """
    try:
        receipt = verify_receipt(parse_receipt(canonical_bytes(value)))
    except (ReceiptError, InvalidCanonicalJson) as exc:
        raise ReceiptInvalid(f"a receipt is not valid: {exc}") from exc
    if receipt.node != node:
        raise ReceiptInvalid(f"a receipt is signed by {receipt.node}, but this node is {node}")
    if receipt.network != network:
        raise ReceiptInvalid("a receipt is for a different network than the requested one")
    return receipt


def documents_of(receipt: Receipt) -> tuple[bytes, ...]:
    """Return the digests of all documents that a receipt cites.

    They are SHA-256 digests of 32 bytes.
    """
    digests = dict.fromkeys(receipt.policies)  # without duplicates
    used = receipt.evidence
    if used is not None:
        for digest in (used.record, used.quote, used.event_log, used.collateral):
            if digest is not None:
                digests[digest] = None
    return tuple(digests)


def digest_of(receipt: Receipt) -> bytes:
    """Return the SHA-256 digest of a receipt.

    The audit chain identifies the receipt by this digest.
    """
    return hashlib.sha256(encode_receipt(receipt)).digest()


def named_receipt(entry: bytes) -> bytes | None:
    """Return the receipt digest from an audit entry (RC8).

    Returns None if the entry records no receipt.

    Args:
        entry: a line of an export, untrusted.
    Does not check:
        The chain: an entry counts only in an export that was verified as a whole.
    """
    try:
        members = parse_json(entry.removesuffix(b"\n"), max_bytes=MAX_ENTRY_BYTES)
        if members.get("action") != _AUTHORISED:
            return None
        detail = parse_json(bytes.fromhex(str(members.get("detail"))), max_bytes=_MAX_DETAIL_BYTES)
        digest = bytes.fromhex(str(detail.get("receipt")))
    except (CapabilityError, ValueError):
        return None
    return digest if len(digest) == 32 else None
