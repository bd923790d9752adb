"""Tests of every vector in spec/vectors/manifests."""

import json
from typing import Any

import pytest
from tests_support import REPOSITORY

from sealspace.documents.manifests import (
    Manifest,
    ResourceRequest,
    check_manifest,
    compose_manifests,
    parse_manifest,
    resolve_manifest,
)
from sealspace.errors import InvalidPortableDelegation, ManifestInvalid
from sealspace.wire.portable import PortableDelegation, decode_bundle, encode_bundle, grant_of

VECTORS = REPOSITORY / "spec" / "vectors" / "manifests"


def document(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def cases(name: str, *, failing: bool | None = None) -> list[Any]:
    found = [
        pytest.param(case, id=f"{case['name']}-{'-'.join(case['rules'])}")
        for case in document(name)["cases"]
        if failing is None or case["name"].endswith("_fail") is failing
    ]
    assert found
    return found


def rows(resources: tuple[ResourceRequest, ...]) -> list[list[Any]]:
    """Return resources as short rows of service, space, path, action names and lifetime."""
    return [
        [
            one.service.removeprefix("tinycloud."),
            one.space,
            one.path,
            " ".join(action.removeprefix(f"{one.service}/") for action in one.actions),
            one.expiry_ms,
        ]
        for one in resources
    ]


@pytest.mark.parametrize("case", cases("manifest", failing=False))
def test_manifests_resolve(case: Any) -> None:
    """A valid manifest resolves into the vector's resources."""
    assert check_manifest(case["manifest"]) == ()
    manifest = parse_manifest(case["manifest"])
    resources = resolve_manifest(manifest)
    assert case["expect"] == {"resources": rows(resources), "expiry_ms": manifest.expiry_ms}
    targets = [case["manifest"]["did"]] if "did" in case["manifest"] else []
    assert [(did, resources) for did in targets] == [
        (one.did, one.resources) for one in compose_manifests([manifest]).delegation_targets
    ]


@pytest.mark.parametrize("case", cases("manifest", failing=True))
def test_manifests_are_refused(case: Any) -> None:
    """An invalid manifest is refused with its first fault and the path of the member."""
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(case["manifest"])
    first, *_ = check_manifest(case["manifest"])
    expect = case["expect"]
    assert expect["code"] == refusal.value.code
    assert expect["path"] == first.path
    assert first.detail.startswith(expect["text"])
    assert expect["path"] in str(refusal.value)
    assert check_manifest(case["manifest"]) == refusal.value.faults


@pytest.mark.parametrize("case", cases("composition"))
def test_manifests_compose(case: Any) -> None:
    """Composed manifests list resources in order, with the account's resources last."""
    manifests: list[Manifest] = [parse_manifest(value) for value in case["manifests"]]
    request = compose_manifests(manifests, include_account_registry_permissions=case["account"])
    expect = dict(case["expect"])
    theirs = expect.pop("target_resources", None)
    assert theirs is None or theirs == rows(request.delegation_targets[0].resources)
    assert expect == {
        "resources": rows(request.resources),
        "expiry_ms": request.expiry_ms,
        "targets": [one.did for one in request.delegation_targets],
    }


def said(portable: PortableDelegation) -> dict[str, Any]:
    return {
        "cid": portable.cid,
        "delegate": portable.delegate_did,
        "owner": portable.owner,
        "resources": [
            [one.service, one.space, one.path, list(one.actions)] for one in portable.resources
        ],
        "expires_at": portable.expires_at,
        "host": portable.host,
        "sub_delegation": portable.sub_delegation,
        "parent": portable.parent_cid,
    }


@pytest.mark.parametrize("case", cases("portable", failing=False))
def test_delegations_as_json(case: Any) -> None:
    """A delegation as JSON is parsed, and a canonical form is written back in the same bytes."""
    found = decode_bundle(case["text"].encode())
    assert case["expect"]["delegations"] == [said(one) for one in found]
    for one in found:
        grant_of(one, now=document("portable")["now"])
    written = encode_bundle(found)
    assert found == decode_bundle(written)
    if case["canonical"]:
        assert case["text"].encode() == written


@pytest.mark.parametrize("case", cases("portable", failing=True))
def test_delegations_as_json_are_refused(case: Any) -> None:
    """An invalid member is reported by its path."""
    with pytest.raises(InvalidPortableDelegation) as refusal:
        for one in decode_bundle(case["text"].encode()):
            grant_of(one, now=document("portable")["now"])
    assert refusal.value.code == case["expect"]["code"]
    assert case["expect"]["path"] in str(refusal.value)
    assert refusal.value.hint
