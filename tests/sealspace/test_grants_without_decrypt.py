"""Tests of grants to generate secrets, read programs or keep storage, each with one fault (RN143,
RN152, RN201)."""

from collections.abc import Mapping
from typing import Any

import pytest
from capability_cases import BOB, SESSION, ucan

from capabilities.signatures import Ed25519Signer
from sealspace.documents.generation_grants import read_generation_grant
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import read_program_grant
from sealspace.errors import InvalidPortableDelegation

KEY = SESSION
RUNNER = Ed25519Signer(bytes(range(100, 132)))
GET, PUT = "tinycloud.kv/get", "tinycloud.kv/put"
ALL = [GET, PUT, "tinycloud.kv/del", "tinycloud.kv/list"]
NETWORK = f"urn:tinycloud:encryption:{KEY.did}:protected"
UNMET = [{"unknown.condition": 1}]


def secret(
    name: str, *, of: Any = KEY, folder: str = "vault/secrets/", space: str = "secrets"
) -> str:
    return f"tinycloud:{of.did[4:]}:{space}/kv/{folder}{name}"


def project(name: str, *, of: Any = KEY, space: str = "projects", folder: str = "projects") -> str:
    return f"tinycloud:{of.did[4:]}:{space}/kv/{folder}/{name}"


def storage(name: str, **about: Any) -> str:
    return project(name, folder="storage", **about)


def read_storage_grant(header: str, *, runner: str) -> frozenset[ProjectId]:
    return read_program_grant(header, runner=runner, folder="storage")


def test_what_each_is_about() -> None:
    """Each grant names its secrets with scopes, or its projects with their developer. Both kinds
    end, and are for one runner."""
    paths = {
        secret("PROTECTED_A"): [PUT],
        secret("PROTECTED_B", folder="vault/secrets/scoped/prod/"): [PUT],
    }
    written = read_generation_grant(ucan(KEY, RUNNER.did, paths), runner=RUNNER.did)
    assert sorted(one.label for one in written.secrets) == ["PROTECTED_A", "prod/PROTECTED_B"]
    assert written.owner == KEY.did
    read = read_program_grant(
        ucan(KEY, RUNNER.did, {project("a"): [GET], project("b"): [GET]}), runner=RUNNER.did
    )
    kept = read_storage_grant(
        ucan(KEY, RUNNER.did, {storage("a"): ALL, storage("b"): ALL}), runner=RUNNER.did
    )
    assert sorted(one.text for one in read) == [f"{KEY.did}/a", f"{KEY.did}/b"]
    assert kept == read


@pytest.mark.parametrize(
    "att",
    [
        {secret("PROTECTED_A"): [GET]},
        {secret("PROTECTED_A"): [PUT, GET]},
        {secret("PROTECTED_A"): ["tinycloud.kv/*"]},
        {secret("PROTECTED_A"): {PUT: UNMET}},
        {secret("PROTECTED_A", of=BOB): [PUT]},
        {secret("PROTECTED_A", space="default"): [PUT]},
        {secret("PROTECTED_A", folder="vault/secrets/scoped/Prod/"): [PUT]},
        {secret("PROTECTED_A", folder="secrets/"): [PUT]},
        {secret("PROTECTED_A") + "?x": [PUT]},
        {secret("API_KEY"): [PUT]},
        {secret("PROTECTED_A"): [PUT], secret("API_KEY"): [PUT]},
        {secret(""): [PUT]},
        {
            secret("PROTECTED_A"): [PUT],
            f"urn:tinycloud:encryption:{KEY.did}:protected": ["tinycloud.encryption/decrypt"],
        },
        {secret(f"PROTECTED_{number}"): [PUT] for number in range(17)},
    ],
)
def test_what_a_grant_to_generate_may_not_hold(att: Mapping[str, Any]) -> None:
    """RN143: another ability, a condition, a folder, another name, space or owner, or too many of
    them, refuses the grant."""
    with pytest.raises(InvalidPortableDelegation):
        read_generation_grant(ucan(KEY, RUNNER.did, att), runner=RUNNER.did)


@pytest.mark.parametrize(
    "att",
    [
        {project("a"): {GET: UNMET}},
        {project("a", of=BOB): [GET]},
        {project("a", space="public"): [GET]},
        {project("a"): [GET], secret("API_KEY"): [GET]},
        {project(f"p{number}"): [GET] for number in range(33)},
    ],
)
def test_what_a_grant_of_programs_may_not_hold(att: Mapping[str, Any]) -> None:
    """RN152: a condition, another owner or space, an additional right, or too many of them, refuses
    the grant."""
    with pytest.raises(InvalidPortableDelegation):
        read_program_grant(ucan(KEY, RUNNER.did, att), runner=RUNNER.did)


@pytest.mark.parametrize(
    "att",
    [
        {storage("a"): [GET]},
        {storage("a"): ALL[:3]},
        {storage("a"): [*ALL, "tinycloud.kv/metadata"]},
        {storage("a"): ["tinycloud.kv/*"]},
        {storage("a"): ALL, storage("b"): ALL[1:]},
        {storage("a"): dict.fromkeys(ALL, UNMET)},
        {storage("a", of=BOB): ALL},
        {storage("a", space="public"): ALL},
        {storage(""): ALL},
        {storage("A"): ALL},
        {storage("a/b"): ALL},
        {storage("a") + "?x": ALL},
        {project("a"): ALL},
        {storage("a"): ALL, project("a"): [GET]},
        {storage(f"p{number}"): ALL for number in range(33)},
    ],
)
def test_what_a_grant_of_storage_may_not_hold(att: Mapping[str, Any]) -> None:
    """RN201: fewer or more abilities, a condition, another owner, space or folder, or too many of
    them, refuses the grant."""
    with pytest.raises(InvalidPortableDelegation):
        read_storage_grant(ucan(KEY, RUNNER.did, att), runner=RUNNER.did)


def test_by_whom_and_for_whom() -> None:
    """RN41: a grant for another runner, or one with a parent, is refused."""
    for read, att in (
        (read_generation_grant, {secret("PROTECTED_A"): [PUT]}),
        (read_program_grant, {project("a"): [GET]}),
        (read_storage_grant, {storage("a"): ALL}),
    ):
        for header in (
            ucan(KEY, BOB.did, att),
            ucan(
                KEY,
                RUNNER.did,
                att,
                prf=["bafyreib4pff766vhpbxbhjbqqnsh5emeznvujayjj4z2iu533cprgbz23m"],
            ),
            "no token",
        ):
            with pytest.raises(InvalidPortableDelegation):
                read(header, runner=RUNNER.did)
