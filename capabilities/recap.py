"""ReCap, a format for capabilities in sign-in messages (section 2.4, rules S1 to S8).

The last resource of the text may be `urn:recap:` and the base64url of `{"att": {resource:
{ability: [{}]}}, "prf": [cid]}`. The statement then ends with a sentence that lists the same
capabilities for human readers.

Example:
    recap = Recap({"tinycloud:key:z6Mk...:default/kv": {"tinycloud.kv/get": [{}]}}, ())
    message_with_recap = attach(message, recap)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import libipld
import msgspec

from .abilities import parse_ability
from .capability_errors import InvalidIdentifier, InvalidJson, MalformedToken
from .cids import parse_cid
from .frozen_struct import FrozenStruct
from .resources import is_uri
from .siwe import SiweMessage
from .strict_base64 import encode_url
from .strict_json import bounded_decoder, check_text, repeats_member

PREFIX = "urn:recap:"
MAX_RECAP_BYTES = 393_216
_KNOWN = frozenset({"att", "prf"})
_INTRODUCTION = "I further authorize the stated URI to perform the following actions on my behalf:"

Attenuations = Mapping[str, Mapping[str, Sequence[Mapping[str, None]]]]
"""Resource to ability to caveat list; the caveats of a wallet contain only null (S5)."""


class Recap(FrozenStruct):
    """The capabilities granted in a sign-in message.

    Attributes:
        att: Resource as written to ability to caveat list; a resource without ability grants
            nothing (S4).
        prf: CIDs of parents in base58btc (S6).
    """

    att: Attenuations
    prf: tuple[str, ...]


_DECODER = bounded_decoder(Recap)


def parse_recap(uri: str) -> Recap:
    """Parse the capabilities in a ReCap URI.

    Args:
        uri: Untrusted; begins with PREFIX.

    Raises:
        MalformedToken: Not base64url of a JSON object of that shape; an empty caveat list, a caveat
            that is not empty or null (S5), a resource that is not a URI, an invalid ability, or a
            proof that is not in base58btc (S6).
    """
    try:
        # "u" is multibase for base64url without padding (S2)
        data = libipld.decode_multibase("u" + uri.removeprefix(PREFIX))[1]
        check_text(data, max_bytes=MAX_RECAP_BYTES)
        recap = _DECODER.decode(data)
        if repeats_member(data, _KNOWN):  # parsers differ in which one counts (S4)
            raise MalformedToken("the ReCap repeats a member")
        for resource, abilities in recap.att.items():
            if not is_uri(resource):
                raise MalformedToken("a resource in the ReCap is not a URI")
            for ability, caveats in abilities.items():
                parse_ability(ability)  # an invalid one refuses the ReCap (A1)
                if not caveats:  # unlike [{}], it is unclear whether it allows anything (S4)
                    raise MalformedToken("a caveat list in the ReCap is empty")
        for proof in recap.prf:
            if not proof.startswith("z"):  # base58btc alone (S6)
                raise MalformedToken("a proof in the ReCap is not base58btc")
            parse_cid(proof)
    except (ValueError, RecursionError, InvalidIdentifier, InvalidJson) as exc:
        raise MalformedToken("invalid ReCap") from exc
    return recap


def encode_recap(recap: Recap) -> str:
    """Encode capabilities as a ReCap URI (S2, S3).

    The encoding is canonical JSON (RFC 8785) in unpadded base64url.
    """
    att = {
        resource: {
            ability: [dict(sorted(caveat.items(), key=_utf16)) for caveat in caveats]
            for ability, caveats in sorted(abilities.items(), key=_utf16)
        }
        for resource, abilities in sorted(recap.att.items(), key=_utf16)
    }
    return PREFIX + encode_url(msgspec.json.encode({"att": att, "prf": list(recap.prf)}))


def _utf16(member: tuple[str, object]) -> bytes:
    """Return the sort key of a member: RFC 8785 sorts names by their UTF-16 code units (S3)."""
    return member[0].encode("utf-16-be")


def recap_sentence(recap: Recap) -> str:
    """Describe the granted capabilities in an English sentence (S8).

    The sentence is part of the statement of the sign-in message.
    """
    sentence = _INTRODUCTION
    number = 0
    for resource, abilities in sorted(recap.att.items()):
        # Sorted, so that abilities in the same namespace are neighbours and form one group.
        parts = sorted(ability.partition("/") for ability in abilities)
        for namespace, grouped in groupby(parts, key=itemgetter(0)):
            number += 1
            listed = ", ".join(f"'{name}'" for _, _, name in grouped)
            sentence += f" ({number}) '{namespace}': {listed} for '{resource}'."
    return sentence


def attach(message: SiweMessage, recap: Recap) -> SiweMessage:
    """Add capabilities to a sign-in message (S7).

    They become the last resource, and the last sentence of the statement.
    """
    sentence = recap_sentence(recap)
    statement = sentence if message.statement is None else f"{message.statement} {sentence}"
    return replace(
        message, statement=statement, resources=(*message.resources, encode_recap(recap))
    )


def recap_of(message: SiweMessage) -> Recap | None:
    """Return the capabilities in a sign-in message, or None (S1).

    Raises:
        MalformedToken: The ReCap is malformed, or the statement does not end with its sentence
            (S7).
    """
    # An entry that is not the last one grants nothing (S1).
    if not message.resources or not message.resources[-1].startswith(PREFIX):
        return None
    recap = parse_recap(message.resources[-1])
    # The sentence is what the wallet showed, so it has to say what is granted (S7).
    if message.statement is None or not message.statement.endswith(recap_sentence(recap)):
        raise MalformedToken("the statement does not end with the ReCap sentence")
    return recap
