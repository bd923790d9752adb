"""Receipts of the releases from a network: fetch them, and check what can be checked from here.

Each release leaves a receipt that the node signed. `Receipts` fetches the receipts of a network and
the documents that they name, and checks the node's signature on the one and the digests of the
other. Judging a release anew, quote and collateral included, is `sealspace verify`; that a receipt
is recorded in the node's audit chain is checked with an export of the chain, which the operator
makes: `named_receipt` says which receipt an entry of it is about.

Reading needs `sealspace.encryption/receipts` on the network: ask for it at sign-in, or grant it.

Example:
    async for receipt in client.receipts.all():
        print(receipt.at, receipt.invoker, receipt.ground)
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Final

from capabilities.abilities import READ_RECEIPTS
from capabilities.capability_errors import CapabilityError
from capabilities.resources import NetworkId
from capabilities.strict_json import Json, parse_json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson, ReceiptError
from encryption_network.receipt import Receipt, encode_receipt, parse_receipt, verify_receipt

from .errors import MalformedAnswer, NotFound, ReceiptInvalid
from .session import capability, network_of_owner
from .wire.caller import Caller
from .wire.node_answers import json_object, read_pages
from .wire.transport import MAX_ANSWER_BYTES, Answer, Request, path_segment

MAX_DOCUMENT_BYTES: Final = 512 * 1024
MAX_PAGE_RECEIPTS: Final = 100
MAX_ENTRY_BYTES: Final = 256 * 1024
_MAX_DETAIL_BYTES: Final = 64 * 1024
_AUTHORISED: Final = "release.authorised"


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """Some receipts, oldest first.

    Attributes:
        receipts: signed by the node, about the network that was asked for.
        after: what to ask with for the next page; None when nothing follows now.
    """

    receipts: tuple[Receipt, ...]
    after: str | None


class Receipts:
    """The receipts of a node, with the session's authority; made by `Client.receipts`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def page(
        self, network: NetworkId | None = None, *, after: str | None = None
    ) -> ReceiptPage:
        """Return a page of at most 100 receipts, each checked.

        Args:
            network: None: the default network of the owner for whom this session acts.
            after: `after` of the page before; None: from the first on.
        Raises:
            NotGranted: the session does not hold `sealspace.encryption/receipts` on the network.
            ReceiptInvalid: the node's signature does not hold, or a receipt is of another node or
                network.
            MalformedAnswer: no page, too long a one, or receipts out of order.
            Unauthorized, NotFound, NodeRefused, TransportError.
        """
        wanted = network or network_of_owner(self._caller.session.owner)
        query = "" if after is None else f"?after={path_segment(after)}"
        value = json_object(await self._get(wanted, f"receipts{query}"))
        listed, following = value.get("receipts"), value.get("after")
        if not isinstance(listed, list) or not isinstance(following, str | None):
            raise MalformedAnswer("the node's answer is no page of receipts")
        if len(listed) > MAX_PAGE_RECEIPTS:
            raise MalformedAnswer("a page of the node's receipts is too long")
        node_id = await self._caller.node_id()
        receipts = tuple(check_receipt(one, node=node_id, network=wanted.text) for one in listed)
        _require_in_order(receipts)
        return ReceiptPage(receipts, following)

    async def all(self, network: NetworkId | None = None) -> AsyncIterator[Receipt]:
        """Yield every receipt of a network, oldest first, each checked; read page by page.

        Raises:
            SealspaceError: as `page`; MalformedAnswer where the list does not advance, or has no
                end.
        """

        last: tuple[Receipt, ...] = ()
        async for page in read_pages(
            lambda after: self.page(network, after=after), attrgetter("after")
        ):
            _require_in_order((*last, *page.receipts))
            if page.after is not None and page.receipts[-1:] in ((), last):
                raise MalformedAnswer("the node's list of receipts does not advance")
            for receipt in page.receipts:
                yield receipt
            last = page.receipts[-1:]

    async def document(self, sha256: bytes, network: NetworkId | None = None) -> bytes:
        """Return a document that receipts name, compared with its digest.

        Args:
            sha256: 32 bytes, out of a receipt; see `documents_of`.
            network: as for `page`.
        Raises:
            NotFound: the node does not keep it, or no longer.
            ReceiptInvalid: what it gives has another digest.
            NotGranted, Unauthorized, NodeRefused, TransportError.
        """
        answer = await self._get(
            network or network_of_owner(self._caller.session.owner),
            f"receipts/{sha256.hex()}",
            most=MAX_DOCUMENT_BYTES,
        )
        if hashlib.sha256(answer.body).digest() != sha256:
            raise ReceiptInvalid(
                f"the document that the node gives as {sha256.hex()} is another one"
            )
        return answer.body

    async def documents(
        self, receipt: Receipt, network: NetworkId | None = None
    ) -> dict[bytes, bytes]:
        """Return every document that a receipt names and the node still keeps, by digest.

        Raises:
            SealspaceError: as `document`, but for NotFound.
        """
        found = {}
        for digest in documents_of(receipt):
            try:
                found[digest] = await self.document(digest, network)
            except NotFound:
                continue
        return found

    async def _get(self, network: NetworkId, leaf: str, *, most: int = MAX_ANSWER_BYTES) -> Answer:
        path = f"/encryption/networks/{path_segment(network.text)}/{leaf}"
        request = Request("GET", path, repeatable=True, max_answer_bytes=most)
        wanted = [capability(network.text, READ_RECEIPTS)]
        return await self._caller.transport.require(await self._caller.authorized(request, wanted))


def _require_in_order(receipts: Sequence[Receipt]) -> None:
    if any(one.at_micros > following.at_micros for one, following in pairwise(receipts)):
        raise MalformedAnswer("the node's receipts are not in the order of their times")


def check_receipt(value: Json, *, node: str, network: str) -> Receipt:
    """Read a receipt out of an answer and check who signed it, and what it is about.

    Args:
        value: its JSON object, untrusted.
        node: DID of the node that has to have signed.
        network: id of the network that it has to be about.
    Raises:
        ReceiptInvalid: no receipt, a signature that does not hold, another node or network.
    Does not check:
        The documents that it names, and that it is recorded in the node's audit chain.
    """
    try:
        receipt = verify_receipt(parse_receipt(canonical_bytes(value)))
    except (ReceiptError, InvalidCanonicalJson) as exc:
        raise ReceiptInvalid(f"a receipt does not hold: {exc}") from exc
    if receipt.node != node:
        raise ReceiptInvalid(f"a receipt is signed by {receipt.node}, the node is {node}")
    if receipt.network != network:
        raise ReceiptInvalid("a receipt is about another network than was asked for")
    return receipt


def documents_of(receipt: Receipt) -> tuple[bytes, ...]:
    """Return the digests of all documents that a receipt names, 32 bytes each."""
    judged = receipt.evidence
    named = (
        () if judged is None else (judged.record, judged.quote, judged.event_log, judged.collateral)
    )
    return tuple(dict.fromkeys((*receipt.policies, *(one for one in named if one is not None))))


def digest_of(receipt: Receipt) -> bytes:
    """Return the SHA-256 by which the audit chain names a receipt, 32 bytes."""
    return hashlib.sha256(encode_receipt(receipt)).digest()


def named_receipt(entry: bytes) -> bytes | None:
    """Return the digest of the receipt that an entry of an audit chain was written with; None for
    other entries (RC8).

    Args:
        entry: a line of an export; untrusted.
    Does not check:
        The chain around the entry: an entry counts only in an export that verifies.
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
