"""A node's own requirements for releasing keys.

They are called the release record. It is in the store, not in each worker's configuration, so that
it is the same for all workers and machines. A node with looser settings than the record does not
start; only an explicit, audited command loosens the record.

Example:
    if configured.is_looser_than(stored):
        refuse_to_start()
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

from capabilities.cache import memoize
from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.strict_json import Sha256Hex, StrictStruct, parse_json, shaped

from .canonical_json import canonical_members
from .key_providers import (
    DEFAULT_KEY_PROVIDERS,
    MAX_ID_BYTES,
    MAX_KEY_PROVIDERS,
    are_accepted,
    parse_key_provider,
)
from .network_errors import PolicyError, RecordError
from .policy import MAX_POLICY_BYTES, Policy, parse_policy, policy_json

Mode = Literal["delegates", "everyone", "off"]
"""The callers from whom a node requires evidence of their code.

delegates: all but the owner in person. everyone: the owner too. off: none, for development.
"""

Ground = Literal["owner", "owner_session", "member", "machine", "attested", "off"]
"""The reason for a release: IP1, IP2, TM4, MT4, evidence, or a node that requires none."""

MAX_TRUST_ROOTS = 16
INTEL_ROOT_SHA256 = bytes.fromhex(
    "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
)
"""SHA-256 of Intel's root certificate (DER), which signs the quotes of genuine platforms."""
STRICTNESS = {"off": 0, "delegates": 1, "everyone": 2}
_MAX_BYTES = MAX_POLICY_BYTES + MAX_KEY_PROVIDERS * (2 * MAX_ID_BYTES + 16) + 4096


@frozen(kw_only=True)
class ReleaseRecord:
    """The node's own requirements for releasing a key."""

    mode: Mode = "delegates"
    trust_roots: tuple[bytes, ...] = ()
    node_policy: Policy | None = None
    node_policy_suffices: bool = False
    key_providers: tuple[str, ...] = DEFAULT_KEY_PROVIDERS

    def is_looser_than(self, other: "ReleaseRecord") -> bool:
        """Return whether these requirements are looser than `other`.

        Looser requirements could allow a release that the others refuse. The result is True in
        doubt.
        """
        if STRICTNESS[self.mode] < STRICTNESS[other.mode]:
            return True
        if not set(self.trust_roots) <= set(other.trust_roots):
            return True
        policy, stricter = self.node_policy, other.node_policy
        if stricter is not None and (policy is None or not policy.is_within(stricter)):
            return True
        if self.node_policy_suffices and not other.node_policy_suffices:
            return True
        if self.replaces_owner_list and not other.replaces_owner_list:
            return True
        return not are_accepted(self.key_providers, other.key_providers)

    @property
    def replaces_owner_list(self) -> bool:
        """Whether the node's policy replaces an owner's list of allowed code."""
        return (
            self.node_policy_suffices
            and self.node_policy is not None
            and self.node_policy.is_allow_list
        )


CollateralUse = Literal["usable", "unusable", "fetched", "missing"]
"""The state of a node's collateral for judging quotes.

usable: it judges quotes now. unusable: it is expired, stale or damaged. fetched: it is absent, but
the node fetches it. missing: it is absent.
"""


class ReleaseTerms(FrozenStruct, kw_only=True, rename="camel", omit_defaults=True):
    """A node's conditions for releasing keys to backends.

    They are not signed.
    """

    attestation: Mode
    trust_roots: tuple[str, ...]
    key_providers: tuple[str, ...]
    node_policy: bool
    node_policy_suffices: bool
    collateral: CollateralUse | None = None


class _Stored(StrictStruct, rename="camel"):
    v: Literal[1]
    mode: Mode
    trust_roots: Annotated[list[Sha256Hex], Meta(max_length=MAX_TRUST_ROOTS)]
    node_policy: dict[str, Any] | None  # as `parse_policy` takes it
    node_policy_suffices: bool
    # Records of earlier versions do not have it.
    key_providers: Annotated[tuple[str, ...], Meta(max_length=MAX_KEY_PROVIDERS)] = (
        DEFAULT_KEY_PROVIDERS
    )


def encode_release_record(record: ReleaseRecord) -> bytes:
    """Encode a node's requirements for key releases.

    The encoding is versioned canonical JSON, for the store.
    """
    stored = _Stored(
        v=1,
        mode=record.mode,
        trust_roots=[root.hex() for root in record.trust_roots],
        node_policy=None if record.node_policy is None else policy_json(record.node_policy),
        node_policy_suffices=record.node_policy_suffices,
        key_providers=record.key_providers,
    )
    return canonical_members(stored)


@memoize(16)
def decode_release_record(value: bytes) -> ReleaseRecord:
    """Decode a node's stored requirements for key releases."""
    try:
        stored = shaped(parse_json(value, max_bytes=_MAX_BYTES), _Stored)
        return ReleaseRecord(
            mode=stored.mode,
            trust_roots=tuple(map(bytes.fromhex, stored.trust_roots)),
            node_policy=None if stored.node_policy is None else parse_policy(stored.node_policy),
            node_policy_suffices=stored.node_policy_suffices,
            key_providers=tuple(map(parse_key_provider, stored.key_providers)),
        )
    except (InvalidJson, PolicyError) as exc:
        raise RecordError(
            "the stored release record is damaged or has an unsupported version"
        ) from exc
