"""Delegations cited by CID in a token (E8, V1 to V5).

Example:
    parents = cited_parents(payload.prf)
    targets = targets_among(payload.att)
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from .cache import memoize
from .capability_errors import InvalidIdentifier, MalformedToken
from .cids import Cid, Digest, cid_text, parse_cid
from .frozen_struct import AcyclicStruct

MAX_PARENTS = 256
"""Most proofs that are parsed; the chain rules allow fewer and return a clear error (D30)."""

CID_URN = "urn:cid:"
"""Prefix of a resource that is a delegation."""
CID_AUDIENCE = "ucan:"
"""Prefix of `aud` in a wallet's revocation (V3)."""

MAX_TARGETS = 32
"""Most delegations that one token revokes; all their marks and audit records fit one commit (V5,
ST6)."""

_MEMOISED_PROOF_CHARS = 128


class CitedDelegation(AcyclicStruct):
    """A delegation that a token cites by CID.

    It is cited as a proof, or as the target of a revocation.

    Attributes:
        text: The CID as given.
        digest: Its BLAKE3-256, the only part that is looked up (E8). None for other hashes, which
            never match.
        echo: The CID as answers and errors quote it (E8, W27): in base32, with codec raw for a
            proof and the given codec for a target. A proof with another hash is quoted as given.
    """

    text: str
    digest: Digest | None
    echo: str


def cited_parents(texts: Sequence[str]) -> tuple[CitedDelegation, ...]:
    """Parse the CIDs of a token's proofs.

    The input is untrusted, and its order is kept.
    """
    if len(texts) > MAX_PARENTS:
        raise MalformedToken("too many proofs")
    return tuple(map(_cited, texts))


def targets_among(resources: Iterable[str]) -> tuple[CitedDelegation, ...]:
    """Parse the CIDs of the delegations to revoke (V1, V5).

    `resources` are those of the revocation, whose order is kept.

    Raises:
        MalformedToken: No resource names a CID. A target is never guessed from the proofs (V4, Q8).
    """
    targets = []
    for resource in resources:
        if resource.startswith(CID_URN):
            with suppress(MalformedToken):
                targets.append(target_of(resource.removeprefix(CID_URN)))
    if not targets:
        raise MalformedToken("revocation has no target")  # V4, Q8: never a proof in its place
    return tuple(targets)


def target_of(text: str) -> CitedDelegation:
    """Parse the CID of a delegation to revoke."""
    cid = _cid(text)
    return CitedDelegation(text=text, digest=cid.digest32, echo=cid.text())


# All tokens of a session cite the same proofs.
@memoize(8192, longest=_MEMOISED_PROOF_CHARS)
def _cited(text: str) -> CitedDelegation:
    digest = _cid(text).digest32
    echo = text if digest is None else cid_text(digest)
    return CitedDelegation(text=text, digest=digest, echo=echo)


def _cid(text: str) -> Cid:
    try:
        return parse_cid(text)
    except InvalidIdentifier as exc:
        raise MalformedToken("a proof, or the target of a revocation, is not a CID") from exc
