"""What a text gives away that a wallet is asked to sign, read out of the text itself, so that the two cannot differ.

Example:
    signing_words(text)["title"]  # "Let this command line act as you"
"""

import re
from typing import Final

from capabilities.abilities import HOST
from capabilities.errors import CapabilityError
from capabilities.recap import PREFIX, parse_recap
from capabilities.references import CID_AUDIENCE
from capabilities.strict_json import Json

from ..apps.descriptions import granted_resource, rights_words

_TEXT: Final = re.compile(
    r"[^\n]* wants you to sign in with your Ethereum account:\n(?P<address>0x[0-9a-fA-F]{40})\n\n(?:[^\n]+\n)?\n"
    r"URI: (?P<uri>[^\n]*)\nVersion: 1\nChain ID: (?P<chain>[0-9]+)\nNonce: [^\n]*\nIssued At: [^\n]*"
    r"(?:\nExpiration Time: (?P<end>[^\n]*))?(?P<resources>(?:\nResources:(?:\n- [^\n]*)+)?)"
)
"""Texts as `sealspace` makes them; anything else is shown as it is."""

_SUB_SECONDS: Final = re.compile(r"\.[0-9]+(?=Z$)")
_STATEMENT: Final = re.compile(r"sealspace statement ([a-z0-9./-]+)\n")


def signing_words(text: str) -> dict[str, Json]:
    """Say in plain words what signing a text means.

    Returns:
        `title`; `facts`, pairs of a name and a value; `rights`, a line for each resource.
    """
    stated = _STATEMENT.match(text)
    if stated is not None:
        return _said("Sign a statement of yours", [("kind", stated[1])])
    read = _TEXT.fullmatch(text)
    if read is None:
        return _said("Sign a text", [])
    owner, uri = f"did:pkh:eip155:{read['chain']}:{read['address']}", read["uri"]
    end = [("until", _SUB_SECONDS.sub("", read["end"] or "without an end"))]
    *terms, recap = read["resources"].removeprefix("\nResources:").split("\n- ")
    try:
        granted = parse_recap(recap).att if recap.startswith(PREFIX) else {}
    except CapabilityError:
        return _said("Sign a text", [])
    rights = rights_words([granted_resource(one, tuple(held)) for one, held in granted.items()], by=owner)
    if len(terms) > 1:
        end.append(("terms", "further terms bind whoever uses it; the text has them"))
    if uri.startswith(CID_AUDIENCE):
        return _said("Revoke a grant for good", [("grant", uri.removeprefix(CID_AUDIENCE))])
    if {ability for held in granted.values() for ability in held} == {HOST}:
        spaces = [one.rpartition(":")[2].partition("/")[0] for one in granted]
        return _said("Have the node host your spaces", [("node key", uri), ("spaces", ", ".join(spaces)), *end])
    did, _, fragment = uri.partition("#")
    if fragment:  # J4: the DID URL of the key itself
        return _said("Let this command line act as you", [("session key", did), *end], rights)
    return _said("Grant something of yours", [("to", did), *end], rights)


def _said(title: str, facts: list[tuple[str, str]], rights: tuple[str, ...] = ()) -> dict[str, Json]:
    return {"title": title, "facts": [[name, value] for name, value in facts], "rights": list(rights)}
