"""The body of a collateral service's answer: a signed object, and its signature, in one JSON object.

The signature is over the exact bytes of the inner object, so these are cut out of the body; written anew, they would
be another text as soon as a service indents its answers.

Example:
    cut = cut_signed_body(body, member="tcbInfo", max_bytes=65_536)

Source: Intel PCS API v4.
"""

from dataclasses import dataclass

import msgspec

from ._members import hex_member, read_object
from .errors import CollateralUnusable


@dataclass(frozen=True, slots=True)
class SignedText:
    """What was signed, and the signature; unverified.

    Attributes:
        text: the inner object, byte for byte.
        signature: 64 bytes, r then s.
    """

    text: str
    signature: bytes


def cut_signed_body(body: bytes, *, member: str, max_bytes: int) -> SignedText:
    """Cut a signed object out of an answer.

    Args:
        body: `{member: {…}, "signature": hex}`; untrusted.
        member: name of the signed object.
        max_bytes: longest body.
    Raises:
        CollateralUnusable: `collateral-malformed`, too long, not exactly these two members, the first no object, the
            second no signature.
    """
    answer = read_object(body, max_bytes=max_bytes, what=member)
    if answer.keys() != {member, "signature"} or not isinstance(answer[member], dict):
        raise CollateralUnusable("collateral-malformed", f"no answer with {member} and signature")
    # The body was read strictly: no member occurs twice, so both readings mean the same one.
    parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return SignedText(text=bytes(parts[member]).decode(), signature=hex_member(answer, "signature", size_bytes=64))
