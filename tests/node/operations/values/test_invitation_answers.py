"""Tests of the limits on answers to invitations, before a body is read (TM24)."""

import pytest

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from node.operations.values.invitation_answers import require_answers
from node.refusal import Refusal

TEAM = Principal("did:key:z6MkTeam")
SECRETS = SpaceId(TEAM, "secrets")
FOLDER = f"invitations/{'a' * 22}/"


def test_TM24_a_declared_size_is_refused_before_the_body() -> None:
    """A request that states a larger answer is refused without its body."""
    require_answers(SECRETS, [f"{FOLDER}nonce"], declared_bytes=1024)
    with pytest.raises(Refusal, match="1025 bytes") as refused:
        require_answers(SECRETS, [f"{FOLDER}nonce"], declared_bytes=1025)
    assert refused.value.code == "answer-refused"


@pytest.mark.parametrize("name", ["", "junk", "nonce/", "nonce\n", "Nonce", "nonce/x"])
def test_TM24_other_names_are_refused(name: str) -> None:
    """Below the folder of an invitation there are three names, in one spelling."""
    with pytest.raises(Refusal, match="no answer of this name"):
        require_answers(SECRETS, ["vault/secrets/API_KEY", FOLDER + name], declared_bytes=0)


@pytest.mark.parametrize(
    ("space", "path"),
    [
        ("default", f"{FOLDER}junk"),
        ("secrets", "invitations/short/junk"),
        ("secrets", f"vault/{FOLDER}junk"),
        ("secrets", FOLDER.removesuffix("/")),
    ],
)
def test_TM24_other_values_are_not_limited(space: str, path: str) -> None:
    """Values outside of the folder of an invitation have no such limits."""
    require_answers(SpaceId(TEAM, space), [path], declared_bytes=1 << 30)
