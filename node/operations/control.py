"""Who has a say over a delegation, for abilities other than revoking (the rules W21 and W22 of wire 5.5).

Example:
    acting = asker if proof is None else acting_principal(question, target, proof, marks)
    if acting is not None and has_say(acting, target): ...
"""

from dataclasses import dataclass

from capabilities.chain import Mark, Marks, Registered, mentioned_spaces
from capabilities.cids import Digest, cid_text
from capabilities.principals import Principal
from capabilities.resources import OpaqueResource
from capabilities.tokens import Capability, Delegation
from spaces.delegations import is_account

from .standing import Standing, joint_window


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to do with a delegation, on the word of a proof.

    Attributes:
        signer: who asks.
        ability: the ability that the proof has to hold, in this very spelling.
        target: digest by which the delegation was named; it may be of another spelling than the registered one.
        now: epoch seconds.
    """

    signer: Principal
    ability: str
    target: Digest
    now: float


def acting_principal(question: Question, target: Delegation, proof: Registered, marks: Marks) -> Principal | None:
    """Return for whom a proof lets the signer act: its delegator; None: for nobody (W21).

    The proof is for the signer, every window of its closure holds, nothing in the closure is revoked, and it holds the
    ability on the very delegation, or on what was delegated in a space of its own delegator.

    Args:
        question: who asks for what.
        target: the delegation.
        proof: the one delegation cited.
        marks: of the proof's closure; a member without one supports nothing.
    """
    if proof.missing_ancestor or proof.delegation.delegate != question.signer:
        return None
    if joint_window(proof).standing(question.now) is not Standing.ACTIVE:
        return None
    if any(marks.get(member.content_key) is not Mark.LIVE for member in proof.closure):
        return None
    names = {f"urn:cid:{cid_text(digest)}" for digest in (target.cid, question.target)}
    held = proof.delegation
    if any(_gives_control(row, held, question.ability, names) for row in held.capabilities):
        return held.delegator
    return None


def _gives_control(row: Capability, proof: Delegation, ability: str, names: set[str]) -> bool:
    """Whether a row of a proof gives the ability over a delegation that goes by these names.

    A row under caveats gives none: no caveat is defined here, and one that is not understood must narrow.
    """
    if row.ability != ability or row.caveats:
        return False
    resource = row.resource
    if isinstance(resource, OpaqueResource):
        return resource.text in names
    return is_account(resource) and resource.space.owner == proof.delegator


def has_say(principal: Principal, target: Delegation) -> bool:
    """Whether a principal gave a delegation, received it, or owns a space in it (W22)."""
    if principal in (target.delegator, target.delegate):
        return True
    return any(principal == space.owner for space in mentioned_spaces(target.capabilities))
