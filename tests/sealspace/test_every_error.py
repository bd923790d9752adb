"""Tests that each error class has a real cause and names the next step."""

import traceback
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from error_causes import BASES, CAUSES, World, cause
from relay import Answer
from trust_settings import trusting_config

from sealspace import errors
from sealspace.apps.provenance import parse_trusted_root
from sealspace.apps.replica import Replica
from sealspace.apps.run_calls import read_call
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.dataset_format import parse_dataset_key
from sealspace.documents.signed_statements import read_statement
from sealspace.errors import SealspaceError
from sealspace.giving.teams.invitations import Joining
from sealspace.session import key_session
from sealspace.wallets import new_wallet


@cause(errors.NotShared)
async def _nothing_shared(world: World) -> None:
    owner, other = await world.owner(), await world.owner()
    await other.sharing.received(owner.session.owner)


@cause(errors.NotAMember)
async def _not_a_member(world: World) -> None:
    await (await world.owner()).teams.membership(new_wallet().did)


@cause(errors.InvitationInvalid)
async def _no_invitation(world: World) -> None:
    await Joining.prepare((await world.owner()).teams, "sinv_")


@cause(errors.NoSuchContact)
async def _no_contact(world: World) -> None:
    await (await world.owner()).contacts.did("bob")


@cause(errors.ContactsInvalid)
async def _no_list_of_contacts(world: World) -> None:
    owner = await world.owner()
    await owner.kv("default").put("vault/contacts", "bob")
    await owner.contacts.read()


@cause(errors.StatementInvalid)
async def _no_statement(_: World) -> None:
    read_statement(b"{}", "sealspace.example/v1", signer=new_wallet().did)


@cause(errors.ProvenanceInvalid)
async def _no_trusted_root(_: World) -> None:
    parse_trusted_root(b"{}")


@cause(errors.DatasetInvalid)
async def _no_key(_: World) -> None:
    parse_dataset_key("")


@cause(errors.CallRefused)
async def _no_call(_: World) -> None:
    read_call("", None, runner=new_wallet().did, now=0)


@cause(errors.SqlRefused)
async def _no_such_table(world: World) -> None:
    await (await world.owner()).sql().query("SELECT * FROM nowhere")


def _copy(client: Client, world: World, **more: Any) -> Replica:
    """Open the copy of a key that owns its space."""
    return client.replica(world.folder / "copy", "notes", space="feed", **more)


async def _copied(world: World, **more: Any) -> Replica:
    """Open the copy of a value, which stays open until the test ends."""
    client = await world.agent()
    await client.kv("feed").put("notes/a", b"1")
    return await world.stack.enter_async_context(_copy(client, world, **more))


async def _device(world: World) -> tuple[Client, Replica, str]:
    """Return an owner, the copy of a device, and the cid of the device's delegation."""
    owner = await world.agent()
    await owner.kv("feed").put("notes/a", b"1")
    space = owner.kv("feed").space.text
    device = await world.elsewhere(world.bench.node.url, key_session(bytes(32)))
    rights = [allow(f"{space}/kv/notes", f"tinycloud.kv/{one}") for one in ("get", "sync")]
    granted = await owner.delegations.delegate(device.session.did, rights, ttl_s=1000)
    await device.delegations.accept(granted)
    copy = device.replica(world.folder / "copy", "notes", space=space)
    await world.stack.enter_async_context(copy)
    await copy.sync()
    return owner, copy, granted.cid


@cause(errors.SourceChanged)
async def _copy_of_another_prefix(world: World) -> None:
    await (await _copied(world)).close()
    (await world.agent()).replica(world.folder / "copy", "other", space="feed")


@cause(errors.ReplicaExpired)
async def _copy_that_has_ended(world: World) -> None:
    _, copy, _ = await _device(world)
    world.bench.clock.advance(1000)
    copy.get("notes/a")


@cause(errors.ReplicaRevoked)
async def _copy_of_a_revoked_grant(world: World) -> None:
    owner, copy, cid = await _device(world)
    await owner.delegations.revoke(cid)
    await copy.sync()


@cause(errors.ReplicaCorrupt)
async def _copy_that_was_changed(world: World) -> None:
    await (await _copied(world)).close()
    (world.folder / "copy" / "replica.sqlite3").write_bytes(b"changed" * 1000)
    _copy(await world.agent(), world)


@cause(errors.ReplicaInUse)
async def _copy_that_is_open(world: World) -> None:
    await _copied(world)
    _copy(await world.agent(), world)


@cause(errors.ReplicaUnusable)
async def _copy_of_all_users(world: World) -> None:
    await (await _copied(world)).close()
    (world.folder / "copy").chmod(0o755)
    _copy(await world.agent(), world)


@cause(errors.ReplicaFull)
async def _copy_without_room(world: World) -> None:
    await (await _copied(world, max_bytes=1)).sync()


@cause(errors.ReplicaIncomplete)
async def _copy_without_a_value(world: World) -> None:
    agent = await world.agent()
    await agent.kv("feed").put("notes/a", b"1")

    def hide(answer: Answer) -> None:
        if b'"changes"' not in answer.body:
            answer.status = 404

    client = await world.with_changed_answers("/invoke", hide, agent.session)
    copy = await world.stack.enter_async_context(_copy(client, world))
    await copy.sync()
    copy.get("notes/a")


@cause(errors.ClockWentBack)
async def _copy_of_the_future(world: World) -> None:
    copy = await _copied(world)
    world.bench.clock.advance(-1000)
    copy.get("notes/a")


def every_class() -> Iterator[type[SealspaceError]]:
    """Return each error class of the package with its base, without those of other packages and
    tests."""
    for name in errors.__all__:
        yield getattr(errors, name)


def subclasses(kind: type[SealspaceError]) -> set[type[SealspaceError]]:
    return {kind}.union(*(subclasses(one) for one in kind.__subclasses__()))


async def test_an_error_says_what_to_do_next(bench_with, platform, clock, tmp_path: Path) -> None:
    """Each error has a message and a next step, which its text and traceback show once, and no
    token."""
    for kind, cause_of_it in CAUSES.items():
        folder = tmp_path / kind.__name__
        (folder / "files").mkdir(parents=True)
        async with AsyncExitStack() as stack:
            bench = await bench_with(trusting_config(folder, platform, published_at=clock.now()))
            world = World(bench, bench_with, folder / "files", stack)
            with pytest.raises(SealspaceError) as reported:
                await cause_of_it(world)
        check_words(reported.value, kind)


def check_words(error: SealspaceError, kind: type[SealspaceError]) -> None:
    assert type(error) is kind
    assert error.message and error.hint and str(error) == f"{error.message}; next: {error.hint}"
    last = traceback.format_exception_only(error)
    assert f"sealspace.errors.{kind.__name__}: " in last[0]
    assert "".join(last).count(error.hint) == 1
    if isinstance(error, errors.NodeRefused):
        assert error.asked and error.message.startswith((error.asked, "there is no "))
    assert "ey" + "J" not in "".join(traceback.format_exception(error, chain=True)[-1:])


def test_every_class_has_a_cause() -> None:
    """Every class has a cause in this module, unless it is only a base of others."""
    classes = set(every_class())
    assert classes == BASES | CAUSES.keys()
    assert {
        one
        for one in subclasses(SealspaceError)
        if one.__module__ == "sealspace.errors" or one.__module__.startswith("sealspace._")
    } == classes
    assert all(kind.__subclasses__() for kind in BASES)


def test_every_class_has_a_code_of_its_own_and_a_hint() -> None:
    """Each class has a code of its own, and a default next step."""
    classes = list(every_class())
    assert len({kind.code for kind in classes}) == len(classes)
    assert all(kind.default_hint for kind in classes)


CODES = {
    "ActionNotAuthorized": "action-not-authorized",
    "AttestationRefused": "attestation-refused",
    "BackendError": "backend",
    "BackendAnswerInvalid": "backend-answer-invalid",
    "BackendNotAcceptable": "backend-not-acceptable",
    "BackendNotExpected": "backend-not-expected",
    "BackendNotProven": "backend-not-proven",
    "BackendUnreachable": "backend-unreachable",
    "BatchIncomplete": "batch-incomplete",
    "CallRefused": "call-refused",
    "ClientClosed": "client-closed",
    "ClientNotReady": "client-not-ready",
    "ClockWentBack": "clock-went-back",
    "CollateralNeeded": "collateral-needed",
    "ContactsInvalid": "contacts-invalid",
    "DatasetInvalid": "dataset-invalid",
    "DecryptDenied": "decrypt-denied",
    "DelegationRevoked": "delegation-revoked",
    "DescriptorUnsigned": "descriptor-unsigned",
    "DuplicateRequest": "duplicate-request",
    "EncryptionError": "encryption",
    "GrantNotTaken": "grant-not-taken",
    "GrantsFull": "grants-full",
    "InvalidEnvelope": "invalid-envelope",
    "InvalidInput": "invalid-input",
    "InvalidKeystore": "invalid-keystore",
    "InvalidNetworkId": "invalid-network-id",
    "InvalidPolicy": "invalid-policy",
    "InvalidPortableDelegation": "invalid-portable-delegation",
    "InvalidResponse": "invalid-response",
    "InvalidSecretName": "invalid-secret-name",
    "InvalidSecretPayload": "invalid-secret-payload",
    "InvalidSecretScope": "invalid-secret-scope",
    "InvalidSecretValue": "invalid-secret-value",
    "InvalidSession": "invalid-session",
    "InvalidShare": "invalid-share",
    "LabelMismatch": "label-mismatch",
    "LifetimeTooLong": "lifetime-too-long",
    "MalformedAnswer": "malformed-answer",
    "ManifestInvalid": "manifest-invalid",
    "NetworkKeyChanged": "network-key-changed",
    "NetworkNotActive": "network-not-active",
    "NetworkNotFound": "network-not-found",
    "NodeEvidenceRefused": "node-evidence-refused",
    "NodeFailure": "node-failure",
    "NodeMismatch": "node-mismatch",
    "NodeRefused": "node-refused",
    "NodeTimeout": "node-timeout",
    "NodeUnreachable": "node-unreachable",
    "NotFound": "not-found",
    "NotGranted": "not-granted",
    "InvitationInvalid": "invitation-invalid",
    "NotAMember": "not-a-member",
    "NoSuchContact": "no-such-contact",
    "NotShared": "not-shared",
    "NotSignedIn": "not-signed-in",
    "OwnerMoved": "owner-moved",
    "PlaceMismatch": "place-mismatch",
    "PreconditionFailed": "precondition-failed",
    "ProvenanceInvalid": "provenance-invalid",
    "QuotaExceeded": "quota-exceeded",
    "RateLimited": "rate-limited",
    "ReceiptInvalid": "receipt-invalid",
    "RecoveredKeyMismatch": "recovered-key-mismatch",
    "ReleaseRefused": "release-refused",
    "ReplicaCorrupt": "replica-corrupt",
    "ReplicaError": "replica",
    "ReplicaExpired": "replica-expired",
    "ReplicaFull": "replica-full",
    "ReplicaInUse": "replica-in-use",
    "ReplicaIncomplete": "replica-incomplete",
    "ReplicaRevoked": "replica-revoked",
    "ReplicaUnusable": "replica-unusable",
    "ResponseBindingMismatch": "response-binding-mismatch",
    "ResponseSignatureInvalid": "response-signature-invalid",
    "ResponseTooLarge": "response-too-large",
    "SealspaceError": "sealspace",
    "SessionExpired": "session-expired",
    "SharesMissing": "shares-missing",
    "SourceChanged": "source-changed",
    "SpaceNotFound": "space-not-found",
    "SpacesNotHosted": "spaces-not-hosted",
    "SuccessionInvalid": "succession-invalid",
    "SqlRefused": "sql-refused",
    "StatementInvalid": "statement-invalid",
    "StoreFull": "store-full",
    "TokenOutsideWindow": "token-outside-window",
    "TransferBroken": "transfer-broken",
    "TransportError": "transport",
    "Unauthorized": "unauthorized",
    "UnboundValue": "unbound-value",
    "ValueTooLarge": "value-too-large",
    "WrongPassword": "wrong-password",
}


def test_codes_do_not_change() -> None:
    """The error codes equal the recorded ones, because scripts rely on them."""
    assert {kind.__name__: kind.code for kind in every_class()} == CODES


def test_each_class_has_its_code_in_its_body() -> None:
    """Each error class defines its code in its own body, so a search for the code finds the
    class."""
    assert all("code" in vars(kind) for kind in every_class())
