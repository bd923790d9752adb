"""Delegations that a token names by CID: the proofs that it cites, and what a revocation revokes
(E8, V1 to V5).

Example:
    parents = cited_parents(payload.prf)
    targets = targets_among(payload.att)
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from .cache import remembered
from .capability_errors import InvalidIdentifier, MalformedToken
from .cids import Cid, Digest, cid_text, parse_cid

MAX_PARENTS: Final = 256
"""Most proofs that are read; the chain rules allow fewer (D30) and say so in words."""

CID_URN: Final = "urn:cid:"
"""The prefix of a resource that is a delegation."""
CID_AUDIENCE: Final = "ucan:"
"""The prefix of `aud` in a wallet's revocation (V3)."""

MAX_TARGETS: Final = 32
"""Most delegations that one token revokes: a mark and an audit record for each fit one commit (V5,
ST6)."""

_MEMOISED_PROOF_CHARS: Final = 128


class CitedDelegation(Struct, frozen=True, gc=False):
    """A delegation that a token names by its CID: a proof, or what a revocation revokes.

    Attributes:
        text: The CID as given.
        digest: Its BLAKE3-256, the only part that is looked up (E8); None for another hash, which
            never matches.
        echo: The CID as texts print it, in base32: of a proof with codec raw, or as given where the
            hash is another; of a target with the codec given (E8, W27).
    """

    text: str
    digest: Digest | None
    echo: str


def cited_parents(texts: Sequence[str]) -> tuple[CitedDelegation, ...]:
    """Read the proofs of a token, untrusted, in signed order."""
    if len(texts) > MAX_PARENTS:
        raise MalformedToken("too many proofs")
    return tuple(map(_cited, texts))


def targets_among(resources: Iterable[str]) -> tuple[CitedDelegation, ...]:
    """Return the targets of the resources that name a CID, in the order given (V1, V5).

    Raises:
        MalformedToken: No resource names a CID. A target is never guessed from the proofs (V4, Q8).
    """
    found = []
    for resource in resources:
        if resource.startswith(CID_URN):
            with suppress(MalformedToken):
                found.append(target_of(resource.removeprefix(CID_URN)))
    if not found:
        raise MalformedToken("revocation names no target")  # V4, Q8: never a proof in its place
    return tuple(found)


def target_of(text: str) -> CitedDelegation:
    """Return the target that a CID names."""
    cid = _cid(text)
    return CitedDelegation(text, cid.digest32, cid.text())


# The tokens of a session cite the same proofs repeatedly.
@remembered(8192, longest=_MEMOISED_PROOF_CHARS)
def _cited(text: str) -> CitedDelegation:
    digest = _cid(text).digest32
    return CitedDelegation(text, digest, text if digest is None else cid_text(digest))


def _cid(text: str) -> Cid:
    try:
        return parse_cid(text)
    except InvalidIdentifier as exc:
        raise MalformedToken("proof or target is no CID") from exc
