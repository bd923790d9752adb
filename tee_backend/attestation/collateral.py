"""The signed documents needed to verify a quote (collateral).

The JSON format is QuoteCollateralV3.

| member | form |
|---|---|
| tcb_info, qe_identity | the exact text that Intel signed, itself JSON |
| tcb_info_signature, qe_identity_signature | hex, 64 bytes, r then s |
| tcb_info_issuer_chain, qe_identity_issuer_chain, pck_crl_issuer_chain | PEM, signer then root |
| root_ca_crl, pck_crl | hex of DER |
| pck_certificate_chain | optional PEM; belongs to one quote, see `examine` |

Parsing yields untrusted facts. `collateral_trust` checks validity periods and roles; signatures are
checked there and by the verifier. The raw bytes are kept as imported, because the inner texts are
signed byte for byte.

Example:
    held = parse_collateral(path.read_bytes())
    store[held.fmspc, held.ca] = held.raw

Source: Intel PCS API v4, TCB info and enclave identity v2; the quote verification library's
collateral structure.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.strict_json import Shape, StrictStruct, parse_json, shaped

from .attestation_errors import CollateralCode, CollateralUnusable, MalformedCertificate
from .certificates import (
    READER_ERRORS,
    Certificate,
    PlatformCa,
    authority_kind,
    common_name_of,
    load_crl,
    parse_pem_chain,
)

_SIGNER_CHAIN_CERTIFICATES = 2

MAX_DOCUMENT_BYTES = 64 * 1024
"""Limit on each signed text."""

TimeText = Annotated[
    str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
]
"""A UTC time in whole seconds."""
HexText = Annotated[str, Meta(pattern=r"^(?:[0-9A-Fa-f]{2})*\Z")]
"""Plain hex of either case."""
SignatureHex = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{128}\Z")]
EvaluationNumber = Annotated[int, Meta(ge=0, lt=2**31)]


class Window(NamedTuple):
    """A validity period in epoch seconds.

    The end is not part of the period.
    """

    starts_at: float
    ends_at: float


class NamedWindow(NamedTuple):
    """The validity period of one part of a collateral, with the name of the part."""

    part: str
    window: Window


class CommonMembers(FrozenStruct, rename="camel"):
    """The JSON members common to all signed collateral documents.

    Other members are ignored.
    """

    id: str
    version: int
    issue_date: TimeText
    next_update: TimeText


AnyMembers = TypeVar("AnyMembers", bound=CommonMembers)


class IssuerChain(NamedTuple):
    """The certificate chain of a signed document.

    `pem` is the chain as received.
    """

    pem: str
    signer: Certificate
    root: Certificate


@frozen
class SignedDocument(Generic[AnyMembers]):
    """A signed JSON document that has not been verified."""

    text: str
    signature: bytes
    issuer_chain: IssuerChain
    members: AnyMembers
    window: Window


def read_members(data: bytes, shape: type[Shape], *, max_bytes: int, what: str) -> Shape:
    """Parse a JSON object as an instance of `shape`.

    Errors are raised as CollateralUnusable. The error's detail contains `what`.
    """
    with convert_parsing_errors(what):
        return shaped(parse_json(data, max_bytes=max_bytes), shape)


def signed_document(
    text: str,
    signature: SignatureHex,
    shape: type[AnyMembers],
    *,
    chain_pem: str,
    chain_name: str,
    document_id: str,
    versions: range,
) -> SignedDocument[AnyMembers]:
    """Parse a signed collateral document.

    Raises CollateralUnusable if it is malformed or of the wrong kind.

    Args:
        text: the text as it was signed.
        signature: r then s, hex.
        shape: class of the text's members.
        chain_pem: the issuer chain.
        chain_name: name of the member that contained the chain.
        document_id: the id that the document must have.
        versions: the supported versions of the document.
    """
    members = read_members(text.encode(), shape, max_bytes=MAX_DOCUMENT_BYTES, what=document_id)
    if members.id != document_id or members.version not in versions:
        raise CollateralUnusable(
            "collateral-mismatch",
            f"expected a supported version of document {document_id!r}, but found document"
            f" {members.id[:16]!r} version {members.version}",
        )
    window = window_of(time_of(members.issue_date), time_of(members.next_update))
    return SignedDocument(
        text=text,
        signature=bytes.fromhex(signature),
        issuer_chain=issuer_chain(chain_pem, chain_name),
        members=members,
        window=window,
    )


@contextmanager
def convert_parsing_errors(
    what: str, *, code: CollateralCode = "collateral-malformed"
) -> Iterator[None]:
    """Convert parsing errors to CollateralUnusable errors.

    The new error names the part that cannot be read.
    """
    try:
        yield
    except InvalidJson as exc:
        raise CollateralUnusable(code, f"{what}: {exc}") from exc
    except MalformedCertificate as exc:
        raise CollateralUnusable(code, f"{what}: {exc.detail}") from exc


def window_of(starts_at: float, ends_at: float) -> Window:
    """Create a validity period.

    Raises CollateralUnusable if the end is before the start.
    """
    if ends_at < starts_at:
        raise CollateralUnusable("collateral-malformed", "a validity period ends before it starts")
    return Window(starts_at, ends_at)


def time_of(text: TimeText) -> float:
    """Convert a time string to epoch seconds.

    Raises CollateralUnusable for an impossible date.
    """
    try:
        return datetime.fromisoformat(text).timestamp()  # not strptime: its first call imports
    except (ValueError, OverflowError) as exc:
        raise CollateralUnusable(
            "collateral-malformed", f"{text} is not a valid date and time"
        ) from exc


def issuer_chain(pem: str, name: str) -> IssuerChain:
    """Parse a PEM chain of a signer's certificate and a root certificate.

    Raises CollateralUnusable for any other chain.
    """
    with convert_parsing_errors(name):
        chain = parse_pem_chain(pem.encode(), most=_SIGNER_CHAIN_CERTIFICATES)
    if len(chain) != _SIGNER_CHAIN_CERTIFICATES:
        raise CollateralUnusable(
            "collateral-malformed",
            f"{name} must have {_SIGNER_CHAIN_CERTIFICATES} certificates (signer and root),"
            f" but has {len(chain)}",
        )
    signer, root = chain
    return IssuerChain(pem=pem, signer=signer, root=root)


class _Signed(Struct):
    signature: SignatureHex


def split_signed_body(body: bytes, *, member: str, max_bytes: int) -> tuple[str, SignatureHex]:
    """Split a service response into the signed text and the signature.

    Both are unverified.
    """
    signature = read_members(body, _Signed, max_bytes=max_bytes, what=member).signature
    # The strict parser above has refused repeated members, so both parsers see the same object.
    parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if parts.keys() != {member, "signature"} or not bytes(parts[member]).startswith(b"{"):
        raise CollateralUnusable(
            "collateral-malformed",
            f"the response must be a JSON object with exactly the members {member} and signature",
        )
    return bytes(parts[member]).decode(), signature


# --- collateral -----------------------------------------------------------------------------------


MAX_COLLATERAL_BYTES = 256 * 1024
"""Genuine documents are 14 to 25 KiB; the revocation list grows by a dozen entries a year."""

_REMEMBERED = 64
"""Parsed documents that are cached by their bytes, 35 KiB each. A quote is judged with the lists of
all stored documents, which are of a few dozen families. Validity is checked at each use anyway."""


class _Document(StrictStruct):
    pck_crl_issuer_chain: str
    root_ca_crl: HexText
    pck_crl: HexText
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: SignatureHex
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: SignatureHex
    pck_certificate_chain: str | UnsetType = UNSET


class QeIdentity(CommonMembers):
    """The signed document that identifies the quoting enclave (QE)."""

    evaluation_number: EvaluationNumber = field(name="tcbEvaluationDataNumber")


class TcbInfo(QeIdentity):
    """The signed list of TCB levels for a platform family.

    FMSPC and PCEID are in hex.
    """

    fmspc: Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{12}\Z")]
    pce_id: Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{4}\Z")]
    tdx_module: dict[str, Any] | UnsetType = UNSET  # collateral for SGX has none


class RevocationList(NamedTuple):
    """A certificate revocation list (CRL)."""

    der: bytes
    signed: bytes
    issuer: bytes
    issuer_name: str
    window: Window


@frozen
class Collateral:
    """A parsed collateral document.

    No part of the document has been verified.

    Attributes:
        raw: the document as imported.
        sha256: SHA-256 of `raw`.
        tcb_info: levels of the platform family.
        qe_identity: identity and levels of the quoting enclave.
        root_crl: revocations by the root.
        pck_crl: revocations by the PCK authority.
        pck_crl_issuer_chain: certificates of that list's claimed signer. Some mirrors fill this
            member with other certificates, so no check relies on it: the list is verified with the
            authority in the quote's own chain.
        ca: the one of the two PCK authorities that issued the list.
        pck_chain: certificates of one quote that the document may contain, DER; None without them.
        beside: all stored documents, of all families, this one among them; their revocation lists
            may be newer (AT19).
    """

    raw: bytes
    sha256: bytes
    tcb_info: SignedDocument[TcbInfo]
    qe_identity: SignedDocument[QeIdentity]
    root_crl: RevocationList
    pck_crl: RevocationList
    pck_crl_issuer_chain: IssuerChain
    ca: PlatformCa
    pck_chain: tuple[bytes, ...] | None
    beside: tuple["Collateral", ...] = ()

    @property
    def fmspc(self) -> bytes:
        """The 6-byte identifier of the platform family (FMSPC)."""
        return bytes.fromhex(self.tcb_info.members.fmspc)

    @property
    def carries_authority(self) -> bool:
        """Whether the document contains the certificate of the PCK CRL's issuer."""
        return self.pck_crl_issuer_chain.signer.subject == self.pck_crl.issuer

    @property
    def document_windows(self) -> tuple[NamedWindow, ...]:
        """The validity periods of the four documents. That of the PCK CRL is the last one."""
        return (
            NamedWindow("TCB info", self.tcb_info.window),
            NamedWindow("QE identity", self.qe_identity.window),
            NamedWindow("root CRL", self.root_crl.window),
            NamedWindow("PCK CRL", self.pck_crl.window),
        )

    @property
    def windows(self) -> tuple[NamedWindow, ...]:
        """The validity periods of the collateral's documents and certificates."""
        certificate_windows = []
        for chain in (
            self.tcb_info.issuer_chain,
            self.qe_identity.issuer_chain,
            self.pck_crl_issuer_chain,
        ):
            for certificate in (chain.signer, chain.root):
                window = Window(certificate.not_before, certificate.not_after)
                certificate_windows.append(NamedWindow(certificate.common_name, window))
        return (*self.document_windows, *certificate_windows)

    @property
    def ends_at(self) -> float:
        """The time when the collateral expires, in epoch seconds.

        Collateral expires with its first part.
        """
        return min(named.window.ends_at for named in self.windows)


class CollateralProvider(Protocol):
    """A source of collateral for verifiers.

    It is never the prover, who would choose the more lenient document.
    """

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the collateral for a platform family and certificate authority.

        Raises CollateralUnusable if there is none.
        """


def check_not_older(offered: Collateral, stored: Collateral, *, with_pck_crl: bool = True) -> None:
    """Refuse collateral that is older than the stored collateral.

    Both documents are for the same platform family. For about a month, two documents with different
    verdicts are both validly signed. The older, more lenient one must not replace the newer one.
    """
    # Evaluation numbers are compared, and not dates: Intel reissues TCB levels with old numbers for
    # a year.
    for number, stored_number in zip(
        _evaluation_numbers(offered), _evaluation_numbers(stored), strict=True
    ):
        if number < stored_number:
            raise CollateralUnusable(
                "collateral-rollback",
                f"evaluation number {number} is lower than the stored number, {stored_number}",
            )
    offered_windows = offered.document_windows
    stored_windows = stored.document_windows
    if not with_pck_crl:
        offered_windows = offered_windows[:-1]
        stored_windows = stored_windows[:-1]
    for (part, window), (_, stored_window) in zip(offered_windows, stored_windows, strict=True):
        if window.starts_at < stored_window.starts_at:
            raise CollateralUnusable("collateral-rollback", f"{part} is older than the stored one")


@lru_cache(_REMEMBERED)
def parse_collateral(data: bytes) -> Collateral:
    """Parse a TDX collateral document in JSON.

    The format is QuoteCollateralV3.

    Args:
        data: UTF-8, at most MAX_COLLATERAL_BYTES; untrusted.
    Returns:
        The document's facts; id, version and member types are those of TDX collateral.
    Raises:
        CollateralUnusable: `collateral-malformed`, another shape; members missing, unknown or
            repeated; a part that cannot be read.
        CollateralUnusable: `collateral-mismatch`, well-formed collateral of another technology.
    Does not check:
        Signatures, validity, roles: see `collateral_trust.verify_collateral`.
        Age compared with the stored document: see `collateral_trust.check_replaces`.
        Whether it belongs to a quote.
    """
    document = read_members(data, _Document, max_bytes=MAX_COLLATERAL_BYTES, what="collateral")
    pck_crl = _parse_revocation_list(document.pck_crl, "pck_crl")
    with convert_parsing_errors("pck_crl", code="collateral-mismatch"):
        ca = authority_kind(pck_crl.issuer_name)
    tcb_info = signed_document(
        document.tcb_info,
        document.tcb_info_signature,
        TcbInfo,
        chain_pem=document.tcb_info_issuer_chain,
        chain_name="tcb_info_issuer_chain",
        document_id="TDX",
        versions=range(3, 10),
    )
    if tcb_info.members.tdx_module is UNSET:
        raise CollateralUnusable("collateral-malformed", "tcb_info has no tdxModule")
    qe_identity = signed_document(
        document.qe_identity,
        document.qe_identity_signature,
        QeIdentity,
        chain_pem=document.qe_identity_issuer_chain,
        chain_name="qe_identity_issuer_chain",
        document_id="TD_QE",
        versions=range(2, 4),
    )
    pck_chain = None
    if document.pck_certificate_chain is not UNSET:
        # In a quote the same text may end in a NUL.
        pem = document.pck_certificate_chain.removesuffix("\x00").encode()
        with convert_parsing_errors("pck_certificate_chain"):
            pck_chain = tuple(certificate.der for certificate in parse_pem_chain(pem, most=3))
    return Collateral(
        raw=data,
        sha256=hashlib.sha256(data).digest(),
        tcb_info=tcb_info,
        qe_identity=qe_identity,
        root_crl=_parse_revocation_list(document.root_ca_crl, "root_ca_crl"),
        pck_crl=pck_crl,
        pck_crl_issuer_chain=issuer_chain(document.pck_crl_issuer_chain, "pck_crl_issuer_chain"),
        ca=ca,
        pck_chain=pck_chain,
    )


def _parse_revocation_list(text: str, name: str) -> RevocationList:
    """Parse a revocation list in hex; `name` is that of the member that contains it."""
    der = bytes.fromhex(text)
    try:
        with convert_parsing_errors(name):
            loaded = load_crl(der)
            ends_at = loaded.next_update_utc
            if ends_at is None:
                raise CollateralUnusable("collateral-malformed", f"{name} has no nextUpdate")
            issuer = loaded.issuer
            return RevocationList(
                der=der,
                signed=loaded.tbs_certlist_bytes,
                issuer=issuer.public_bytes(),
                issuer_name=common_name_of(issuer),
                window=window_of(loaded.last_update_utc.timestamp(), ends_at.timestamp()),
            )
    except READER_ERRORS as exc:
        raise CollateralUnusable("collateral-malformed", f"{name} cannot be read") from exc


class HeldCollateral:
    """A collection of stored collateral documents.

    Documents are looked up by platform family and certificate authority. If several documents
    match, the newest document is used.

    Args:
        documents: documents as `parse_collateral` reads them, in any order.
    Raises:
        CollateralUnusable: a document cannot be parsed.
    Does not check:
        Signatures and validity: they are checked when a quote is judged with a document.
    """

    def __init__(self, documents: Sequence[bytes]) -> None:
        self._held = tuple(map(parse_collateral, documents))

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the newest collateral for a platform family and certificate authority.

        Its `beside` contains all stored documents.

        Raises:
            CollateralUnusable: `platform-unknown`, no document of the family is stored.
        """
        candidates = [stored for stored in self._held if (stored.fmspc, stored.ca) == (fmspc, ca)]
        if not candidates:
            raise CollateralUnusable(
                "platform-unknown",
                f"there is no collateral for platform family {fmspc.hex()} ({ca})",
            )
        # AT19: a document other than the newest of its family may have the newest list.
        # Evaluation numbers are compared before issue dates, because Intel reissues collateral with
        # old numbers.
        newest = max(
            candidates,
            key=lambda stored: (
                *_evaluation_numbers(stored),
                stored.tcb_info.window.starts_at,
                stored.qe_identity.window.starts_at,
            ),
        )
        return replace(newest, beside=self._held)


def _evaluation_numbers(document: Collateral) -> tuple[int, int]:
    """Return the evaluation numbers of the TCB info and of the QE identity."""
    return (
        document.tcb_info.members.evaluation_number,
        document.qe_identity.members.evaluation_number,
    )
