"""Attestation evidence, and policies for the release of keys.

Evidence contains facts without a verdict and is judged at every release, so that a policy which was
narrowed after the attestation applies to the next release. A policy is a JSON object in the
network, in the node's release record, or in a fact of a delegation:
`{"sealspace.attestation/v1": {...}}`. All its members are optional:

    measurements          [{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"}], each 96 hex digits;
                          rtmr3 may be left out beside composeHashes
    composeHashes         [64 hex digits]
    appIds                [2 to 128 hex digits]
    keyProviders          ["kms" | "tpm" | "kms:<hex>" | ...], see `key_providers`
    tdAttributes          [16 hex digits, as in the quote]
    platformIds           [64 hex digits]
    tcbStatuses           ["UpToDate", ...]
    tcbGraceSeconds       whole number
    advisories            ["INTEL-SA-00615", ...]
    minEvaluationNumber   whole number
    maxAgeSeconds         whole number
    receiver              "attested" | "signed"
    paths                 ["tinycloud:…/kv/…"]
    inPerson              true | false

Hex is lower case. A policy with an unknown member is rejected, and so is a delegation that contains
one. `judgement.judge` compares evidence with a policy.

Example:
    policies = policies_of(delegation.facts)
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from operator import eq
from typing import Annotated, Any, Literal, TypeVar, cast

from msgspec import UNSET, Meta, UnsetType, msgpack

from capabilities.cache import memoize, memoize_by_identity
from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.facts import (
    ATTESTATION_FACT,
    GATE_FACTS,
    contains_statement,
    is_statement_name,
)
from capabilities.frozen import frozen
from capabilities.principals import Principal
from capabilities.resources import SpaceResource, parse_resource
from capabilities.strict_json import Json, JsonObject, StrictRecord, StrictStruct, shaped

from .canonical_json import canonical_bytes
from .key_providers import MAX_KEY_PROVIDERS, is_accepted, parse_key_provider
from .network_errors import InvalidCanonicalJson, PolicyError, RecordError

MAX_POLICY_BYTES = 32_768
"""Longest policy as canonical JSON; 61 measurements of five registers fit."""
MAX_POLICIES = 4
"""Most policies in one delegation."""
MAX_SECONDS = 10 * 365 * 86_400
"""Longest age and grace period: ten years, longer than any platform is supported."""
DEFAULT_TD_ATTRIBUTES = bytes.fromhex("0000001000000000")
"""SEPT_VE_DISABLE alone, as in every genuine production quote."""
REGISTERS = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
"""Measurement registers, in the order of `Measurements`."""
GRACE_STATUSES = frozenset(
    {
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)
"""TCB statuses that are accepted only for a grace period after the date of the TCB level."""
ACCEPTABLE_STATUSES = GRACE_STATUSES | {
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
}
"""TCB statuses that a policy may accept; "Revoked" is never acceptable."""
ReceiverMode = Literal["attested", "signed"]
Entry = TypeVar("Entry")


Bytes8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Register = Annotated[bytes, Meta(min_length=48, max_length=48)]


@frozen(kw_only=True)
class Evidence:
    """Facts about running code, taken from a verified quote."""

    invoker: Principal
    receiver_public_key: Bytes32
    receiver_mode: ReceiverMode
    mrtd: Register
    rtmr0: Register
    rtmr1: Register
    rtmr2: Register
    rtmr3: Register
    mr_config_id: Register
    mr_owner: Register
    mr_owner_config: Register
    td_attributes: Bytes8
    xfam: Bytes8
    tee_tcb_svn: Annotated[bytes, Meta(min_length=16, max_length=16)]
    mr_seam: Register
    tcb_status: str
    qe_status: str
    advisories: tuple[str, ...]
    evaluation_number: int
    tcb_date: float
    fmspc: Annotated[bytes, Meta(min_length=6, max_length=6)]
    platform_id_hash: Bytes32 | None
    root_ca_sha256: Bytes32
    quote_sha256: Bytes32
    collateral_sha256: Bytes32
    attested_at: float
    expires_at: float
    compose_hash: Bytes32 | None
    app_id: bytes | None
    key_provider: str | None = None

    @property
    def measurements(self) -> "Measurements":
        """The five measurement registers that identify the code."""
        return Measurements(
            mrtd=self.mrtd, rtmr0=self.rtmr0, rtmr1=self.rtmr1, rtmr2=self.rtmr2, rtmr3=self.rtmr3
        )


@frozen(kw_only=True)
class Measurements:
    """Measurement registers that identify approved code (RL10)."""

    mrtd: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes | None = None

    def covers(self, other: "Measurements | Evidence") -> bool:
        """Return whether attestation evidence matches these measurements.

        The evidence may also be given as `Measurements`. Measurements without RTMR3 match any
        RTMR3.
        """
        return (
            self.mrtd == other.mrtd
            and self.rtmr0 == other.rtmr0
            and self.rtmr1 == other.rtmr1
            and self.rtmr2 == other.rtmr2
            and self.rtmr3 in (None, other.rtmr3)
        )


@frozen(kw_only=True)
class Policy:
    """The requirements for code that receives a key.

    Defaults are strict. A caller has to satisfy every policy in force, so a further policy can only
    narrow. A policy that widens a default has to say so itself.
    """

    measurements: tuple[Measurements, ...] = ()
    compose_hashes: tuple[bytes, ...] = ()
    app_ids: tuple[bytes, ...] = ()
    key_providers: tuple[str, ...] = ()
    td_attributes: tuple[bytes, ...] = (DEFAULT_TD_ATTRIBUTES,)
    platform_ids: tuple[bytes, ...] = ()
    tcb_statuses: tuple[str, ...] = ("UpToDate",)
    tcb_grace_s: int | None = None
    advisories: tuple[str, ...] = ()
    min_evaluation_number: int = 0
    max_age_s: int | None = None
    receiver: ReceiverMode = "attested"
    paths: tuple[str, ...] = ()
    in_person: bool = True

    def __post_init__(self) -> None:
        """Reject invalid and insecure policies.

        Raises PolicyError if a member is invalid, or if the combination of members is not secure.
        """
        for member, limit in _LIST_LIMITS.items():
            if len(getattr(self, member)) > limit:
                raise PolicyError(_JSON_NAMES[member], f"the list may have at most {limit} entries")
        if not self.td_attributes or not self.tcb_statuses:
            raise PolicyError("", "tdAttributes and tcbStatuses must not be empty")
        if not set(self.tcb_statuses) <= ACCEPTABLE_STATUSES:
            raise PolicyError(
                "tcbStatuses", "the list contains a TCB status that is unknown or never acceptable"
            )
        if self.tcb_grace_s is None and GRACE_STATUSES.intersection(self.tcb_statuses):
            raise PolicyError(
                "tcbGraceSeconds",
                "a grace period is required if tcbStatuses contains a status of an outdated TCB",
            )
        # Without RTMR3 the compose hash has to identify the code. The other registers are compared
        # too, because a hostile base image can write any compose hash into its event log.
        if not self.compose_hashes and any(entry.rtmr3 is None for entry in self.measurements):
            raise PolicyError("measurements", "rtmr3 is required if composeHashes is empty")

    @property
    def is_allow_list(self) -> bool:
        """Whether the policy has a list of code that may receive keys."""
        return bool(self.measurements)

    def is_within(self, other: "Policy") -> bool:
        """Return whether this policy is at least as strict as `other`."""
        return (
            _is_within(self.measurements, other.measurements, Measurements.covers)
            and _is_within(self.compose_hashes, other.compose_hashes)
            and _is_within(self.app_ids, other.app_ids)
            and _is_within(
                self.key_providers,
                other.key_providers,
                # a kind alone accepts every id
                lambda allowed, provider: is_accepted(provider, (allowed,)),
            )
            and _is_within(self.platform_ids, other.platform_ids)
            and _is_within(self.paths, other.paths)
            and set(self.td_attributes) <= set(other.td_attributes)
            and set(self.tcb_statuses) <= set(other.tcb_statuses)
            and set(self.advisories) <= set(other.advisories)
            and _is_age_within(self.max_age_s, other.max_age_s)
            # no grace period is as strict as one of zero seconds
            and (self.tcb_grace_s or 0) <= (other.tcb_grace_s or 0)
            and self.min_evaluation_number >= other.min_evaluation_number
            # "attested" is the stricter receiver mode
            and (self.receiver == "attested" or other.receiver == "signed")
            # a policy with `in_person` admits the owner without evidence
            and (not self.in_person or other.in_person)
        )


# --- stored evidence ------------------------------------------------------------------------------

MAX_EVIDENCE_BYTES = 16_384
"""Longest stored evidence; it has some 1,200 bytes, and the advisories grow slowly."""


class _EvidenceRow(StrictStruct, array_like=True):
    version: Literal[1]
    evidence: Evidence


_DECODER = msgpack.Decoder(_EvidenceRow)


def encode_evidence(evidence: Evidence) -> bytes:
    """Encode attestation evidence for the store.

    The result includes a format version.
    """
    return msgpack.encode(_EvidenceRow(version=1, evidence=evidence))


@memoize(1024)
def decode_evidence(value: bytes) -> Evidence:
    """Decode stored attestation evidence.

    Raises:
        RecordError: not evidence, of another version, or with a field of the wrong length.
    Does not check:
        That it satisfies any policy; `judgement.judge` does.
    """
    if len(value) > MAX_EVIDENCE_BYTES:
        raise RecordError("the stored evidence is too long")
    try:
        return _DECODER.decode(value).evidence
    except (ValueError, RecursionError) as exc:
        raise RecordError("the stored evidence cannot be parsed") from exc


# --- reading and writing policies -----------------------------------------------------------------


def parse_policy(value: Json) -> Policy:
    """Parse a release policy from JSON."""
    try:
        size_bytes = len(canonical_bytes(value))
        stated = shaped(value, _PolicyJson)
    except InvalidCanonicalJson as exc:
        raise PolicyError("", "the policy cannot be written as canonical JSON") from exc
    except InvalidJson as exc:
        raise PolicyError("", exc.text) from exc
    if size_bytes > MAX_POLICY_BYTES:
        raise PolicyError("", f"the policy is longer than {MAX_POLICY_BYTES} bytes")
    return Policy(
        measurements=tuple([_measurements_of(entry) for entry in stated.measurements]),
        compose_hashes=_hexes(stated.compose_hashes),
        app_ids=_hexes(stated.app_ids),
        key_providers=tuple(sorted({parse_key_provider(entry) for entry in stated.key_providers})),
        td_attributes=_hexes(stated.td_attributes) or (DEFAULT_TD_ATTRIBUTES,),
        platform_ids=_hexes(stated.platform_ids),
        tcb_statuses=tuple(sorted(set(stated.tcb_statuses))),
        tcb_grace_s=None if stated.tcb_grace_seconds is UNSET else stated.tcb_grace_seconds,
        advisories=tuple(sorted(set(stated.advisories))),
        min_evaluation_number=stated.min_evaluation_number,
        max_age_s=None if stated.max_age_seconds is UNSET else stated.max_age_seconds,
        receiver=stated.receiver,
        paths=tuple(sorted({_kv_path(entry) for entry in stated.paths})),
        in_person=stated.in_person,
    )


def policy_json(policy: Policy) -> JsonObject:
    """Convert a release policy to a JSON object.

    Empty fields are left out. `parse_policy` parses the object.
    """
    members = {_JSON_NAMES[name]: _json_of(value) for name, value in asdict(policy).items()}
    return {name: member for name, member in members.items() if member not in ([], None)}


def _json_of(value: Any) -> Json:
    """Convert the value of a policy field to JSON.

    Bytes become hex strings, tuples become lists, and absent registers are left out.
    """
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [_json_of(entry) for entry in value]
        case dict():
            return {
                name: _json_of(register) for name, register in value.items() if register is not None
            }
    return cast(Json, value)


def encode_policy(policy: Policy) -> bytes:
    """Encode a release policy as canonical JSON.

    Equal policies give equal bytes.
    """
    return canonical_bytes(policy_json(policy))


@memoize_by_identity(most=256)
def policy_digest(policy: Policy) -> str:
    """Return the hex SHA-256 of a policy's canonical JSON.

    Audit records and receipts cite it.
    """
    return hashlib.sha256(encode_policy(policy)).hexdigest()


_STATEMENTS = " or ".join((ATTESTATION_FACT, *GATE_FACTS))


def policies_of(facts: Sequence[Json]) -> tuple[Policy, ...]:
    """Parse every release policy in a delegation's facts."""
    policies = []
    for fact in facts:
        # A fact that is not an object is searched for nested statements like a member's value.
        members = fact if isinstance(fact, dict) else {"": fact}
        for name, value in members.items():
            if name == ATTESTATION_FACT:
                policies.append(parse_policy(value))
            elif is_statement_name(name) and name not in GATE_FACTS:
                # A policy that this version does not read is rejected: ignoring it would drop the
                # owner's condition and release the key to more code than intended.
                raise PolicyError(
                    "",
                    f"the name of the fact must be exactly {_STATEMENTS}, in lower case",
                )
            elif contains_statement((value,)):
                raise PolicyError(
                    "",
                    f"{_STATEMENTS} must be a direct member of a fact, not nested deeper",
                )
    if len(policies) > MAX_POLICIES:
        raise PolicyError("", f"a delegation may have at most {MAX_POLICIES} policies")
    return tuple(policies)


# Most entries of each list. They are judged at every release, and each path is a row to read.
_LIST_LIMITS = {
    "measurements": 64,
    "compose_hashes": 64,
    "app_ids": 64,
    "key_providers": MAX_KEY_PROVIDERS,
    "td_attributes": 16,
    "platform_ids": 256,
    "tcb_statuses": 8,
    "advisories": 64,
    "paths": 32,
}

# Lower-case hex only: the same policy in another case would have another digest.
_Register = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){48}\Z")]
_Hex32 = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){32}\Z")]
_Hex8 = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){8}\Z")]
_AppId = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){1,64}\Z")]
_Short = Annotated[str, Meta(pattern=r"\A[\x00-\x7f]{1,64}\Z")]
_Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)]
# An empty list would accept nothing; a reader could take it for "no list" and accept everything.
_NOT_EMPTY = Meta(min_length=1)


class _MeasurementsJson(StrictRecord):
    mrtd: _Register
    rtmr0: _Register
    rtmr1: _Register
    rtmr2: _Register
    rtmr3: _Register | UnsetType = UNSET


class _PolicyJson(StrictRecord, rename="camel"):
    """The JSON members of a release policy.

    Null and unknown members are rejected (RL8).
    """

    measurements: Annotated[tuple[_MeasurementsJson, ...], _NOT_EMPTY] = ()
    compose_hashes: Annotated[tuple[_Hex32, ...], _NOT_EMPTY] = ()
    app_ids: Annotated[tuple[_AppId, ...], _NOT_EMPTY] = ()
    key_providers: Annotated[tuple[str, ...], _NOT_EMPTY] = ()
    td_attributes: Annotated[tuple[_Hex8, ...], _NOT_EMPTY] = ()
    platform_ids: Annotated[tuple[_Hex32, ...], _NOT_EMPTY] = ()
    tcb_statuses: Annotated[tuple[_Short, ...], _NOT_EMPTY] = ("UpToDate",)
    tcb_grace_seconds: _Seconds | UnsetType = UNSET
    advisories: tuple[_Short, ...] = ()
    min_evaluation_number: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    max_age_seconds: _Seconds | UnsetType = UNSET
    receiver: ReceiverMode = "attested"
    paths: Annotated[tuple[str, ...], _NOT_EMPTY] = ()
    in_person: bool = True


# Both classes have their members in the same order.
_JSON_NAMES = dict(
    zip(Policy.__dataclass_fields__, _PolicyJson.__struct_encode_fields__, strict=True)
)


def _measurements_of(stated: _MeasurementsJson) -> Measurements:
    return Measurements(
        mrtd=bytes.fromhex(stated.mrtd),
        rtmr0=bytes.fromhex(stated.rtmr0),
        rtmr1=bytes.fromhex(stated.rtmr1),
        rtmr2=bytes.fromhex(stated.rtmr2),
        rtmr3=None if stated.rtmr3 is UNSET else bytes.fromhex(stated.rtmr3),
    )


def _hexes(entries: Iterable[str]) -> tuple[bytes, ...]:
    """Decode hex texts; the result is sorted and has no repetitions."""
    return tuple(sorted(set(map(bytes.fromhex, entries))))


def _kv_path(text: str) -> str:
    """Return the URI of a stored value in canonical form."""
    try:
        resource = parse_resource(text)
    except InvalidIdentifier as exc:
        raise PolicyError("paths", "an entry is not a valid resource URI") from exc
    if not isinstance(resource, SpaceResource) or resource.service != "kv" or not resource.path:
        raise PolicyError("paths", "an entry must be the URI of a kv resource with a path")
    if resource.query is not None or resource.fragment is not None:
        raise PolicyError("paths", "an entry must not have a query or a fragment")
    return resource.text


def _is_age_within(inner: int | None, outer: int | None) -> bool:
    """Return whether one maximal age is at most the other; None means any age."""
    if outer is None:
        return True
    return inner is not None and inner <= outer


def _is_within(
    inner: Sequence[Entry], outer: Sequence[Entry], covers: Callable[[Entry, Entry], bool] = eq
) -> bool:
    """Return whether the first allow-list is contained in the second.

    The list `outer` must allow all entries of the list `inner`. An empty list allows everything.
    """
    if not outer:
        return True
    if not inner:
        return False

    def is_allowed(entry: Entry) -> bool:
        return any(covers(allowed, entry) for allowed in outer)

    return all(map(is_allowed, inner))
