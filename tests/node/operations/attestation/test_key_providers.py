"""Tests of the key providers of applications that the node and the owners accept."""

from dataclasses import replace

import pytest
from attacks.parties import (
    DECRYPT,
    ROUTES,
    SET_POLICY,
    Delegate,
    Owner,
    opens,
    policy_for,
    put_policy,
    refused,
)
from attestation_stage import Here, Stay
from deviating_log import LogOptions, mint_event_log
from running_node import Reply

from encryption_network.policy import Policy
from encryption_network.release_record import encode_release_record
from node.config.tree import Release
from node.release_terms import configured_record, recorded_release
from sealspace.delegations import allow
from sealspace.service.command_errors import ConfigurationError
from sealspace.service.term_files import key_providers_named
from spaces.keyspace import RELEASE_RECORD_KEY
from spaces.store.contract import Commit, Put, Refused
from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.event_log_claims import (
    KeyProvider,
    KeyProviderName,
    check_key_provider,
)
from tee_backend.evidence.simulated import MintedLog, measurements_of

COMPOSE = b"\xc0" * 32
IMAGE = replace(measurements_of("approved"), rtmr3=None)
APPLICATION = Policy(measurements=(IMAGE,), compose_hashes=(COMPOSE,))


def log_by(name: KeyProviderName, provider_id: bytes) -> MintedLog:
    """Return the event log of an application with this key provider."""
    return mint_event_log(COMPOSE, options=LogOptions(key_provider=KeyProvider(name, provider_id)))


@pytest.mark.parametrize(
    ("accepted", "name", "provider_id", "status"),
    [
        (("kms", "tpm"), "kms", b"any", 200),
        (("kms", "tpm"), "tpm", b"", 200),
        (("kms", "tpm"), "local-sgx", b"l", 403),
        (("kms", "tpm"), "none", b"", 403),
        (("kms:" + b"ours".hex(),), "kms", b"ours", 200),
        (("kms:" + b"ours".hex(), "kms:" + b"too".hex()), "kms", b"too", 200),
        (("kms:" + b"ours".hex(),), "kms", b"theirs", 403),
        (("kms:" + b"ours".hex(),), "kms", b"", 403),
        (("kms:" + b"ours".hex(),), "tpm", b"", 403),
        (("local-sgx:" + b"l".hex(),), "local-sgx", b"l", 200),
        (("local-sgx:" + b"l".hex(),), "local-sgx", b"", 403),
        (("local-sgx:" + b"l".hex(),), "none", b"", 403),
        ((), "kms", b"any", 403),
    ],
)
async def test_the_node_takes_evidence_of_named_providers(
    staying: Stay, accepted: tuple[str, ...], name: KeyProviderName, provider_id: bytes, status: int
) -> None:
    """Only providers in `release.key_providers` are accepted, and "none" never (AT29)."""
    async with staying(key_providers=accepted) as here:
        owner, delegate = await here.granted(policy=APPLICATION)
        reply = await here.attest_with_log(delegate, owner, log_by(name, provider_id))
        assert reply.status == status, reply.said
        assert status == 200 or reply.value["code"] == "key-provider"


@pytest.mark.parametrize("text", ["none", "local-sgx", "kms:", "kms:xyz", "KMS", "", "vault:aa"])
def test_settings_that_name_no_provider(text: str) -> None:
    """An entry that matches nothing, or a local provider with any id, prevents the start (AT29)."""
    with pytest.raises(ConfigurationError):
        configured_record(Release(key_providers=("kms", text)))


def test_settings_that_name_providers() -> None:
    """A kind without an id accepts any id; a kind with an id accepts that id only."""
    named = key_providers_named(("tpm", "kms:0a", "tpm"), where="here")
    for provider in (KeyProvider("kms", b"\n"), KeyProvider("tpm", b"any")):
        check_key_provider(provider, named)
    with pytest.raises(QuoteRefused, match=r"^key-provider$"):
        check_key_provider(KeyProvider("kms", b"other"), named)


async def _set_terms(here: Here, key_providers: tuple[str, ...]) -> None:
    """Change the release record while the node runs, as `sealspace admin release set` does."""
    record = await recorded_release(here.services.store)
    assert record is not None
    put = Put(
        RELEASE_RECORD_KEY, encode_release_record(replace(record, key_providers=key_providers))
    )
    assert not isinstance(await here.services.store.commit(Commit(puts=(put,))), Refused)


async def test_terms_hold_from_the_next_session_on(staying: Stay) -> None:
    """Evidence is accepted by the current record, not by the settings at the start (RL16, AT29)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=APPLICATION)
        await _set_terms(here, ("kms:" + b"ours".hex(),))
        assert (await here.attest_with_log(delegate, owner, log_by("kms", b"theirs"))).value[
            "code"
        ] == "key-provider"
        assert (await here.attest_with_log(delegate, owner, log_by("kms", b"ours"))).status == 200
        # wider than the process was started with
        await _set_terms(here, ("kms", "tpm", "local-sgx:" + b"l".hex()))
        assert (await here.attest_with_log(delegate, owner, log_by("local-sgx", b"l"))).value[
            "code"
        ] == "key-provider"


async def test_terms_hold_for_evidence_that_stands(staying: Stay) -> None:
    """Evidence of a provider that is no longer accepted releases no key (RL12, RL13)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=APPLICATION)
        assert (await here.attest_with_log(delegate, owner, log_by("kms", b"ours"))).status == 200
        assert opens(await here.ask(delegate, owner, ROUTES[0]), delegate, owner)
        await _set_terms(here, ("tpm",))
        for route in ROUTES:
            assert (await here.ask(delegate, owner, route)).said == refused("key_provider", route)


async def without_its_log(here: Here, log: MintedLog) -> tuple[Owner, Delegate, Reply]:
    """Return an owner who approved all registers, and the approved application without its log."""
    registers = log.run_on(IMAGE)
    owner, delegate = await here.granted(policy=Policy(measurements=(registers,)))
    nonce = await here.nonce(delegate.did)
    bound = here.report_data(delegate.did, delegate.receiver.public_key, nonce)
    quote = here.platform.mint_quote(registers, bound)
    return (
        owner,
        delegate,
        await here.submit_quote(delegate, owner.network, nonce=nonce, quote=quote),
    )


@pytest.mark.parametrize(
    "accepted", [("kms:" + b"ours".hex(),), ("kms",), ("tpm", "kms:" + b"ours".hex()), ()]
)
async def test_a_log_that_is_left_out_escapes_no_terms(
    staying: Stay, accepted: tuple[str, ...]
) -> None:
    """If only some providers are accepted, an application that omits its log is refused."""
    async with staying(key_providers=accepted) as here:
        _, _, reply = await without_its_log(here, log_by("kms", b"theirs"))
        assert reply.status == 403, reply.said
        assert reply.value["code"] == "key-provider"


async def test_narrowed_terms_hold_for_evidence_that_tells_of_nobody(staying: Stay) -> None:
    """Evidence without a log releases keys under default or wider terms only, on both routes."""
    async with staying() as here:
        owner, delegate, reply = await without_its_log(here, log_by("kms", b"theirs"))
        assert reply.status == 200, reply.said
        wide: list[tuple[str, ...]] = [("kms", "tpm"), ("kms", "tpm", "local-sgx:" + b"l".hex())]
        for accepted in wide:
            await _set_terms(here, accepted)
            assert opens(await here.ask(delegate, owner), delegate, owner)
        narrow: list[tuple[str, ...]] = [("kms:" + b"theirs".hex(),), ("tpm",), ()]
        for accepted in narrow:
            await _set_terms(here, accepted)
            for route in ROUTES:
                assert (await here.ask(delegate, owner, route)).said == refused(
                    "key_provider", route
                )


POLICIES = [
    (("kms:" + b"ours".hex(),), "kms", b"ours", True),
    (("kms",), "kms", b"whoever", True),
    (("kms:" + b"ours".hex(),), "kms", b"theirs", False),
    (("tpm",), "kms", b"ours", False),
]


@pytest.mark.parametrize("place", ["grant", "network", "link"])
@pytest.mark.parametrize(("named", "name", "provider_id", "is_released"), POLICIES)
async def test_owners_name_providers(
    staying: Stay,
    place: str,
    named: tuple[str, ...],
    name: KeyProviderName,
    provider_id: bytes,
    is_released: bool,
) -> None:
    """A policy's list of key providers applies wherever it is stated, on both routes (RL8, RL9)."""
    async with staying() as here:
        demand = Policy(key_providers=named)
        in_grant = replace(APPLICATION, key_providers=named) if place == "grant" else APPLICATION
        owner, delegate = await here.granted(policy=in_grant)
        if place == "network":
            await owner.client.delegations.add_right(
                owner.wallet, [allow(owner.network, SET_POLICY)]
            )
            assert (await put_policy(here, owner.session, owner, demand)).status == 204
        if place == "link":
            delegate = await _handed_on(here, owner, delegate, demand)
        assert (
            await here.attest_with_log(delegate, owner, log_by(name, provider_id))
        ).status == 200
        for route in ROUTES:
            reply = await here.ask(delegate, owner, route)
            if is_released:
                assert opens(reply, delegate, owner)
            else:
                assert reply.said == refused("key_provider", route)


async def test_a_quote_without_a_log_has_no_provider(staying: Stay) -> None:
    """If a policy lists key providers, a quote without a log releases nothing (AT29)."""
    async with staying() as here:
        owner, delegate = await here.granted(
            policy=policy_for("approved", key_providers=("kms", "tpm"))
        )
        await here.attest(delegate, owner.network)
        for route in ROUTES:
            assert (await here.ask(delegate, owner, route)).said == refused("key_provider", route)


async def _handed_on(here: Here, owner: Owner, delegate: Delegate, policy: Policy) -> Delegate:
    below = Delegate()
    token = delegate.grant(below.did, {owner.network: [DECRYPT]}, policy=policy)
    below.proofs = [await here.register(token)]
    return below


@pytest.mark.parametrize(
    ("app_ids", "is_released"),
    [((COMPOSE[:20],), True), ((b"\x01" * 20,), False), ((COMPOSE[:19],), False)],
)
async def test_owners_name_applications(
    staying: Stay, app_ids: tuple[bytes, ...], is_released: bool
) -> None:
    """The app id from the replayed log must be one that the policy lists (RL8, AT21)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=replace(APPLICATION, app_ids=app_ids))
        assert (await here.attest_with_log(delegate, owner, log_by("kms", b"ours"))).status == 200
        for route in ROUTES:
            reply = await here.ask(delegate, owner, route)
            if is_released:
                assert opens(reply, delegate, owner)
            else:
                assert reply.said == refused("measurement", route)


async def test_a_log_that_names_another_provider_than_the_register(staying: Stay) -> None:
    """A log whose provider does not match the quote's register is refused (AT20, AT29)."""
    async with staying() as here:
        owner, delegate = await here.granted(policy=APPLICATION)
        said, ran = log_by("kms", b"ours"), log_by("local-sgx", b"l")
        reply = await here.attest_with_log(delegate, owner, said._replace(rtmr3=ran.rtmr3))
        assert (reply.status, reply.value["code"]) == (403, "event-log")
