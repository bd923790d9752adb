"""The records of a request for release: what the gate decides on.

The caller reads everything at one moment. Rows come with their stamps: the commit of the release requires them
unchanged.

Example:
    request = ReleaseRequest(decrypt=checked, authority=authority, ...)
    admission = admit(request)
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from capabilities.chain import Authority
from capabilities.principals import Principal
from capabilities.sign_ins import OwnerAuthority

from .policy import Evidence
from .release_record import ReleaseRecord
from .requests import CheckedDecrypt
from .withdrawals import Withdrawals

Ground = Literal["owner", "owner_session", "attested", "off"]
"""Why a release was admitted: IP1, IP2, evidence, or a node that requires nothing."""


class RowStamp(Struct, frozen=True, gc=False):
    """A row of the store that a decision rests on; opaque here, the commit checks that it is unchanged."""

    key: bytes
    stamp: bytes


class ReleaseRequest(Struct, frozen=True, kw_only=True, gc=False):
    """Everything a release is decided on."""

    decrypt: CheckedDecrypt
    authority: Authority
    owner: OwnerAuthority
    release_record: ReleaseRecord
    network_row: RowStamp
    record_row: RowStamp
    withdrawals: Withdrawals
    withdrawals_row: RowStamp
    evidence: Evidence | None = None
    evidence_row: RowStamp | None = None
    key_paths: Mapping[str, RowStamp] = field(default_factory=dict)

    @property
    def invoker(self) -> Principal:
        """I."""
        return self.decrypt.bound.invocation.invoker
