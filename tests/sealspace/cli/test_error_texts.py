"""Tests of how the command line words the SDK's errors."""

import re

import pytest

from capabilities.abilities import KV_LIST, SPACE_LIST
from sealspace import errors
from sealspace.cli.terminal import what_happened
from sealspace.delegations import allow

OWNER = "did:pkh:eip155:1:0x9Db653d44Cd215604873F5aE3D25F595A8d6534C"
SPACE = f"tinycloud:{OWNER.removeprefix('did:')}:notes"
NETWORK = f"urn:tinycloud:encryption:{OWNER}:default"
ASKED = f"tinycloud.kv/get on {SPACE.removesuffix('notes')}secrets/kv/vault/secrets/A"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            errors.NotGranted(
                "", missing=(allow(f"{SPACE}/kv", KV_LIST), allow(f"{SPACE}/space", SPACE_LIST))
            ),
            (
                f"this session may not list everything in the space notes of {OWNER}; list spaces"
                f" of {OWNER}"
            ),
        ),
        (errors.NotGranted("a wallet grants what is its own"), "a wallet grants what is its own"),
        (
            errors.PreconditionFailed(
                412, "", asked=f"tinycloud.kv/del on {SPACE}/kv/a and 2 more"
            ),
            (
                f"cannot delete a in the space notes of {OWNER} and 2 more: the stored value is not"
                " the one that the condition names"
            ),
        ),
        (
            errors.NodeFailure(500, "", asked="POST /delegate"),
            "the node refuses it: the node failed",
        ),
        (
            errors.NodeRefused(418, "", asked="POST /x"),
            "the node refuses it: the node answers with status 418",
        ),
        (
            errors.NotFound(200, "it is gone", asked="deleting the secret A"),
            "deleting the secret A: it is gone",
        ),
        (
            errors.ActionNotAuthorized(
                401, "", resource=f"{NETWORK}", action="tinycloud.encryption/decrypt"
            ),
            (
                "the node does not allow this session to decrypt what is sealed to the network"
                f" default of {OWNER}"
            ),
        ),
        (
            errors.ActionNotAuthorized(401, "", resource="nonsense", action="x/y"),
            "the node does not allow this session to x/y nonsense",
        ),
        (
            errors.DecryptDenied(
                errors.ReleaseRefused(401, "", reason="no_policy", asked=f"POST /{NETWORK}/decrypt")
            ),
            (
                "the node refuses to open it: it belongs to another owner, and no code is approved"
                " to open it (no_policy)"
            ),
        ),
        (
            errors.ReleaseRefused(401, "", reason="measurement"),
            (
                "the node refuses to open it: the attested code does not meet the required policy"
                " (measurement)"
            ),
        ),
        (
            errors.DelegationRevoked(401, "delegation-revoked: bafy", cid="bafy"),
            "the grant or session used for this was revoked: bafy",
        ),
        (
            errors.TokenOutsideWindow(401, "invocation expired"),
            "the session or a grant is not valid at this time: invocation expired",
        ),
        (errors.NodeTimeout("POST /invoke: no answer in 30 s."), "no answer in 30 s"),
        (errors.MalformedAnswer(f"{ASKED} and 2 more: it is no answer"), "it is no answer"),
        (errors.InvalidInput("two\nlines."), "two lines"),
    ],
)
def test_what_happened(error: errors.SealspaceError, said: str) -> None:
    """The message of an error is one line without routes, ability names or resource ids."""
    assert said == what_happened(error)
    assert not re.search(r"tinycloud\.|POST /|urn:", said)


def test_the_cause_of_an_incomplete_batch() -> None:
    """The message counts the written values, and describes the cause in the usual words."""
    cause = errors.QuotaExceeded(402, "", asked=ASKED)
    error = errors.BatchIncomplete(cause, done=("a",), left=("b", "c"))
    error.__cause__ = cause
    assert (
        f"only 1 of 3 values were written: cannot read the secret A of {OWNER}: the space is full"
        == what_happened(error)
    )
