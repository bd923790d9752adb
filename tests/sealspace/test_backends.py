"""Tests of grants to HTTP backends on a simulated platform, with attackers between."""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from backend_site import Documents, Domain, Handler, Program, serving
from deviating_log import LogOptions, mint_event_log
from deviating_platform import DEBUG, CollateralOptions, DomainOptions
from patience import PATIENCE_S

from capabilities.strict_base64 import encode_url
from encryption_network.policy import DEFAULT_TD_ATTRIBUTES
from sealspace.apps.backends import (
    LOOK_TTL_S,
    Seen,
    deliver,
    fetch_evidence,
    policy_for,
    require_expected,
)
from sealspace.delegations import allow
from sealspace.documents.published import (
    EVIDENCE_PATH,
    MAX_PUBLISHED_BYTES,
)
from sealspace.errors import (
    BackendAnswerInvalid,
    BackendNotAcceptable,
    BackendNotExpected,
    BackendNotProven,
    BackendUnreachable,
    CollateralNeeded,
    DecryptDenied,
    DelegationRevoked,
    GrantNotTaken,
    InvalidInput,
    ReleaseRefused,
    SealspaceError,
)
from sealspace.giving.words.backends import as_json, in_plain_words
from sealspace.session import key_session
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.attestation.inspection import CollateralFolder, FetchedCollateral, Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import SEPT_VE_DISABLE, measurements_of
from tee_backend.evidence.source import Quoted

COMPOSE = "services:\n  notes:\n    image: notes@sha256:0123\n"
COMPOSE_HASH = hashlib.sha256(COMPOSE.encode()).digest()
IMAGE = replace(measurements_of("image"), rtmr3=None)
LOG = mint_event_log(COMPOSE_HASH)
KEYLESS = mint_event_log(COMPOSE_HASH, options=LogOptions(key_provider=KeyProvider("none", b"")))
SEED = bytes(range(32))
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
PERFMON = 1 << 63


def manifest(**members: object) -> dict[str, Any]:
    asked = {
        "app_id": "com.example.notes",
        "name": "Notes",
        "defaults": False,
        "secrets": {"API_KEY": True},
    }
    return {**asked, **members}


@dataclass
class Site:
    """A running backend, its trust domain and its program."""

    url: str
    domain: Domain
    program: Program


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def site(bench, stack) -> Callable[..., Awaitable[Site]]:
    """Start a backend; by default one with an event log that shows its compose file."""

    async def start(
        domain: Domain | None = None, *, compose: str | None = COMPOSE, seed: bytes = SEED, **asked
    ):
        domain = domain or Domain(bench.platform, IMAGE, LOG)
        client = await bench.client(key_session(seed))
        backend = Backend(client, domain, clock=bench.clock, entropy=bench.entropy)
        program = Program(client, backend, ("API_KEY",))
        surface = BackendSurface(
            domain,
            did=backend.did,
            manifest=manifest(**asked),
            compose=compose,
            on_grant=program.accept,
        )
        return Site(await stack.enter_async_context(serving(surface)), domain, program)

    return start


@pytest.fixture
def look(bench) -> Callable[..., Awaitable[Seen]]:
    """Look at a backend with an owner's collateral."""

    async def look(url: str, options: CollateralOptions | None = None, **more) -> Seen:
        documents = Documents(bench.platform, bench.clock.now(), options or CollateralOptions())
        inspector = Inspector(documents, root=parse_trust_root(bench.platform.root_der))
        return await fetch_evidence(
            url, inspector, clock=bench.clock, entropy=bench.entropy, settings=SETTINGS, **more
        )

    return look


def through(url: str, change: Callable[[dict[str, Any]], object]) -> Handler:
    """A relay that changes the answers of a backend."""

    async def handle(request: web.Request) -> web.StreamResponse:
        async with aiohttp.ClientSession() as session, session.get(url + request.path_qs) as answer:
            value = await answer.json()
        change(value)
        return web.json_response(value)

    return handle


async def refusal(looking: Awaitable[Seen], kind: type[SealspaceError]) -> Any:
    """Return how fetching evidence was refused, after checking that the error has a next step."""
    with pytest.raises(kind) as reported:
        await looking
    assert type(reported.value) is kind and str(reported.value) and reported.value.hint
    return reported.value


# --- granted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pin", ["compose", "instance"])
@pytest.mark.parametrize("signed_by_wallet", [False, True])
async def test_a_backend_that_was_seen_reads_what_it_was_granted(
    bench, site, look, pin, signed_by_wallet
) -> None:
    """An owner fetches a backend's evidence, grants a secret to exactly this code, and the backend
    opens it (AT50 to AT53)."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    there = await site()
    seen = await look(there.url)
    portable = await owner.backends.grant(
        seen, wallet=wallet if signed_by_wallet else None, pin=pin
    )
    await deliver(there.url, portable, settings=SETTINGS)
    assert there.program.read == {"API_KEY": "value"}
    assert portable.delegate_did == there.program.backend.did == seen.did


async def test_a_backend_without_a_log_is_pinned_by_all_registers(bench, site, look) -> None:
    """Without an event log a grant names all five registers."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    there = await site(Domain(bench.platform, measurements_of("notes")), compose=None)
    seen = await look(there.url)
    policy = policy_for(seen, ttl_s=60)
    assert policy.measurements == (measurements_of("notes"),)
    assert policy.compose_hashes == ()
    await deliver(there.url, await owner.backends.grant(seen), settings=SETTINGS)
    assert there.program.read == {"API_KEY": "value"}


@pytest.mark.parametrize(
    ("pin", "other"),
    [
        ("compose", Domain(None, replace(measurements_of("another image"), rtmr3=None), LOG)),  # type: ignore[arg-type]  # its platform comes with the fixture
        ("compose", Domain(None, IMAGE, mint_event_log(b"x" * 32))),  # type: ignore[arg-type]  # its platform comes with the fixture
        ("compose", Domain(None, IMAGE, mint_event_log(COMPOSE_HASH, b"y" * 20))),  # type: ignore[arg-type]  # its platform comes with the fixture
        (
            "instance",
            Domain(None, IMAGE, mint_event_log(COMPOSE_HASH, options=LogOptions(instance_id=b""))),  # type: ignore[arg-type]  # its platform comes with the fixture
        ),
    ],
    ids=["image", "compose", "app-id", "instance"],
)
async def test_other_code_with_the_same_key_is_refused(bench, site, look, pin, other) -> None:
    """A grant to the seen code opens nothing for other code with the backend's own key (RL10,
    AT22)."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    portable = await owner.backends.grant(await look((await site()).url), pin=pin)
    impostor = await site(replace(other, platform=bench.platform), compose=None)
    with pytest.raises(GrantNotTaken, match="measurement") as reported:
        await deliver(impostor.url, portable, settings=SETTINGS)
    assert reported.value.hint and impostor.program.read == {}


async def test_a_new_instance_of_the_same_compose_file_is_the_same_code(bench, site, look) -> None:
    """A backend that is pinned by its compose file can be restarted without a new grant."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    portable = await owner.backends.grant(await look((await site()).url))
    again = await site(
        Domain(
            bench.platform, IMAGE, mint_event_log(COMPOSE_HASH, options=LogOptions(instance_id=b""))
        )
    )
    await deliver(again.url, portable, settings=SETTINGS)
    assert again.program.read == {"API_KEY": "value"}


async def test_a_grant_reaches_no_other_secret(bench, site, look) -> None:
    """The policy of a grant names paths, so keys of other secrets stay closed, whatever else is
    granted."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    await owner.secrets().put("OTHER", "hidden")
    there = await site(secrets={"API_KEY": True, "OTHER": True})
    await deliver(
        there.url, await owner.backends.grant(await look(there.url), ["API_KEY"]), settings=SETTINGS
    )
    with pytest.raises(SealspaceError):
        await there.program.backend.read_secret(owner.session.owner, "OTHER")


async def test_scoped_secrets_are_named_with_their_scope(bench, site, look) -> None:
    """A manifest's secrets are shown as `NAME` or `scope/NAME`; a grant excludes folders and
    writing."""
    owner, _ = await bench.owner()
    there = await site(
        secrets={"API_KEY": True, "TOKEN": {"scope": "Mail Box"}, "LOG": ["write"]},
        permissions=[
            {
                "service": "tinycloud.kv",
                "space": "secrets",
                "path": "vault/secrets/",
                "actions": ["get"],
                "skipPrefix": True,
            }
        ],
    )
    seen = await look(there.url)
    assert [one.label for one in seen.wanted] == ["API_KEY", "mail-box/TOKEN"]
    assert len(seen.further_wishes) == 2
    (resource,) = owner.backends.resources(seen, ["mail-box/TOKEN"])
    assert resource == owner.secrets().resource("TOKEN", scope="mail-box")
    with pytest.raises(
        InvalidInput, match="does not request LOG: it requests API_KEY, mail-box/TOKEN"
    ) as reported:
        owner.backends.resources(seen, ["LOG"])
    assert reported.value.hint


async def test_what_was_seen_long_ago_is_looked_at_again(bench, site, look) -> None:
    """Evidence has to be fetched again after some minutes, because code changes."""
    owner, _ = await bench.owner()
    seen = await look((await site()).url)
    bench.clock.advance(LOOK_TTL_S + 1)
    with pytest.raises(BackendNotAcceptable) as reported:
        await owner.backends.grant(seen)
    assert reported.value.problem == "age"
    assert reported.value.hint == "fetch the evidence again"


# --- plain words ----------------------------------------------------------------------------------


async def test_what_was_seen_is_said_in_plain_words(bench, site, look) -> None:
    """The report names the requests, the code, the platform's state and the terms of a grant."""
    seen = await look((await site()).url)
    policy = policy_for(
        seen, paths=["tinycloud:key:z6Mk:secrets/kv/vault/secrets/API_KEY"], ttl_s=60
    )
    said = "\n".join(in_plain_words(seen, policy))
    for shown in (
        "Notes",
        seen.did,
        "API_KEY",
        COMPOSE_HASH.hex(),
        "kms",
        "debug off",
        "UpToDate",
        "NOT Intel",
        "1 h old",
        IMAGE.mrtd.hex(),
        "MRTD, RTMR0-2",
        "warning: the platform's root",
    ):
        assert shown in said, shown
    reported = json.loads(json.dumps(as_json(seen, policy)))
    assert reported["composeHash"] == COMPOSE_HASH.hex()
    assert reported["debug"] is False
    assert reported["secrets"] == ["API_KEY"]
    assert reported["policy"]["composeHashes"] == [COMPOSE_HASH.hex()]


async def test_what_an_outsider_wrote_cannot_steer_a_terminal(bench, site, look) -> None:
    """Control characters in a manifest are printed escaped."""
    seen = await look((await site(name="Notes\x1b[2Jall is well\n")).url)
    assert not any(sign in line for line in in_plain_words(seen) for sign in "\x1b\n")


async def test_warnings(bench, site, look) -> None:
    """An owner is warned of a missing log or compose file, advisories, and collateral that ends
    soon."""
    bare = await look(
        (await site(Domain(bench.platform, measurements_of("notes")), compose=None)).url
    )
    assert any("no event log" in line for line in in_plain_words(bare))
    options = CollateralOptions(
        tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00615",), valid_for_s=86_400
    )
    risky = "\n".join(in_plain_words(await look((await site(compose=None)).url, options)))
    for shown in (
        "SWHardeningNeeded",
        "INTEL-SA-00615",
        "the collateral expires at",
        "does not publish its compose file",
    ):
        assert shown in risky


# --- refused --------------------------------------------------------------------------------------


async def test_another_measurement_than_expected(bench, site, look) -> None:
    """An owner who knows the code's hash from elsewhere is told when another code runs."""
    seen = await look((await site()).url)
    require_expected(seen, [COMPOSE_HASH.hex(), IMAGE.mrtd.hex().upper()])
    for expected in ("ab" * 32, "cd" * 48):
        with pytest.raises(BackendNotExpected, match=expected) as reported:
            require_expected(seen, [COMPOSE_HASH.hex(), expected])
        assert reported.value.hint
    for nonsense in ("", "xy" * 32, "ab" * 20):
        with pytest.raises(InvalidInput):
            require_expected(seen, [nonsense])


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["statement"].update(
            did="did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
        ),
        lambda value: value["statement"]["manifest"]["secrets"].update(MASTER_KEY=True),
        lambda value: value["statement"].update(compose=COMPOSE + "#"),
        lambda value: value["statement"].update(compose=None),
    ],
    ids=["did", "manifest", "compose", "no-compose"],
)
async def test_a_changed_statement(site, look, stack, change) -> None:
    """A relay cannot change the DID, the manifest or the compose file (AT51)."""
    url = await stack.enter_async_context(serving(through((await site()).url, change)))
    assert (await refusal(look(url), BackendNotProven)).problem == "report-data"


@pytest.mark.parametrize("honest", [True, False], ids=["as-it-was", "under-our-nonce"])
async def test_recorded_evidence(site, look, stack, honest) -> None:
    """Evidence recorded for another nonce is rejected, even if it claims ours (AT52)."""
    there = await site()
    recorded = await _answer(f"{there.url}{EVIDENCE_PATH}?nonce={encode_url(bytes(32))}")

    async def replay(request: web.Request) -> web.Response:
        return web.json_response(
            recorded if honest else {**recorded, "nonce": request.query["nonce"]}
        )

    reported = await refusal(
        look(await stack.enter_async_context(serving(replay))), BackendNotProven
    )
    assert reported.problem == "report-data" and "do not grant" in reported.hint


async def _answer(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        value: dict[str, Any] = await answer.json()
        return value


@pytest.mark.parametrize(
    ("domain", "problem"),
    [
        (
            Domain(None, IMAGE, LOG, DomainOptions(td_attributes=SEPT_VE_DISABLE | DEBUG)),  # type: ignore[arg-type]  # its platform comes with the fixture
            "td-attributes",
        ),
        (Domain(None, IMAGE, mint_event_log(b"x" * 32)), "compose"),  # type: ignore[arg-type]  # its platform comes with the fixture
        (Domain(None, measurements_of("notes")), "event-log"),  # type: ignore[arg-type]  # its platform comes with the fixture
        (Domain(None, IMAGE, KEYLESS), "key-provider"),  # type: ignore[arg-type]  # its platform comes with the fixture
    ],
    ids=["debug", "another-compose-file", "compose-without-log", "no-key-provider"],
)
async def test_evidence_that_does_not_hold(bench, site, look, domain, problem) -> None:
    """A debug domain, a compose file that does not run there, and an application without a key
    provider are refused."""
    there = await site(replace(domain, platform=bench.platform))
    assert (await refusal(look(there.url), BackendNotProven)).problem == problem


async def test_a_platform_of_another_root(bench, site, look) -> None:
    """A simulated platform is refused by an owner who trusts Intel's root only."""
    there = await site()
    documents = Documents(bench.platform, bench.clock.now())
    looking = fetch_evidence(
        there.url, Inspector(documents), clock=bench.clock, entropy=bench.entropy
    )
    assert (await refusal(looking, BackendNotProven)).problem == "untrusted-root"


async def test_a_changed_log(site, look, stack) -> None:
    """A log without one of its entries does not match the registers (AT20)."""
    url = await stack.enter_async_context(
        serving(through((await site()).url, lambda value: value["eventLog"].pop(1)))
    )
    assert (await refusal(look(url), BackendNotProven)).problem == "event-log"


@pytest.mark.parametrize(
    "options",
    [CollateralOptions(issued_before_s=40 * 86_400), CollateralOptions(issued_before_s=-3600)],
    ids=["over", "from-the-future"],
)
async def test_stale_collateral(site, look, options) -> None:
    """Collateral outside its validity period is not used, and the error says to fetch it again
    (AT17)."""
    reported = await refusal(look((await site()).url, options), CollateralNeeded)
    assert reported.problem == "collateral-window"
    assert "new collateral" in reported.hint


async def test_a_simulated_backend_needs_its_own_root(bench, site):
    """Without the simulated platform's documents, the error says what to add, and does not ask
    Intel."""
    there = await site()
    reported = await refusal(
        fetch_evidence(there.url, Inspector(FetchedCollateral()), clock=bench.clock),
        CollateralNeeded,
    )
    assert "simulated" in reported.message
    assert all(option in reported.hint for option in ("--trust-root", "--collateral"))


async def test_no_collateral(bench, site, tmp_path) -> None:
    """The error about a folder without collateral for the platform family names the family."""
    root = parse_trust_root(bench.platform.root_der)
    there, inspector = await site(), Inspector(CollateralFolder(tmp_path), root=root)
    reported = await refusal(
        fetch_evidence(there.url, inspector, clock=bench.clock), CollateralNeeded
    )
    assert reported.problem == "collateral-missing"
    assert str(tmp_path) in reported.hint
    (tmp_path / "ours.json").write_bytes(bench.platform.collateral_json(bench.clock.now()))
    assert (
        await fetch_evidence(there.url, inspector, clock=bench.clock)
    ).seen_at == bench.clock.now()


@pytest.mark.parametrize(
    ("collateral", "attributes", "problem", "accept"),
    [
        (
            CollateralOptions(tcb_status="SWHardeningNeeded"),
            SEPT_VE_DISABLE,
            "tcb_status",
            "tcb-status",
        ),
        (CollateralOptions(tcb_status="OutOfDate"), SEPT_VE_DISABLE, "tcb_status", "tcb-status"),
        (
            CollateralOptions(advisories=("INTEL-SA-00615",)),
            SEPT_VE_DISABLE,
            "advisory",
            "advisories",
        ),
        (CollateralOptions(), SEPT_VE_DISABLE | PERFMON, "attributes", "attributes"),
    ],
    ids=["hardening", "out-of-date", "advisories", "attributes"],
)
async def test_what_the_node_would_refuse(
    bench, site, look, collateral, attributes, problem, accept
) -> None:
    """A grant that the node would refuse is not made. The error names what may be accepted, and
    accepting it works."""
    domain = Domain(bench.platform, IMAGE, LOG, DomainOptions(td_attributes=attributes))
    seen = await look((await site(domain)).url, collateral)
    with pytest.raises(BackendNotAcceptable) as reported:
        policy_for(seen, ttl_s=60)
    assert reported.value.problem == problem
    assert accept in reported.value.hint
    policy = policy_for(seen, accept=[accept], ttl_s=60)
    evidence = seen.verified.evidence
    assert set(policy.tcb_statuses) == {evidence.tcb_status, evidence.qe_status}
    assert policy.advisories == evidence.advisories
    assert policy.td_attributes == (evidence.td_attributes,)
    assert (policy.td_attributes == (DEFAULT_TD_ATTRIBUTES,)) == (attributes == SEPT_VE_DISABLE)


async def test_what_was_accepted_is_accepted_by_the_node(
    bench_with, config, platform, clock, stack
) -> None:
    """A platform that needs hardening gets the key if this was accepted by name. The strict terms
    refuse it."""
    options = CollateralOptions(tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00615",))
    assert config.release.collateral is not None
    (Path(config.release.collateral) / "platform.json").write_bytes(
        platform.collateral_json(clock.now(), options=options)
    )
    bench = await bench_with(config)
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    domain = Domain(platform, IMAGE, LOG)
    client = await bench.client(key_session(SEED))
    program = Program(
        client, Backend(client, domain, clock=clock, entropy=bench.entropy), ("API_KEY",)
    )
    surface = BackendSurface(
        domain, did=program.backend.did, manifest=manifest(), on_grant=program.accept
    )
    url = await stack.enter_async_context(serving(surface))
    inspector = Inspector(
        CollateralFolder(Path(config.release.collateral)), root=parse_trust_root(platform.root_der)
    )
    seen = await owner.backends.look(url, inspector)
    with pytest.raises(BackendNotAcceptable):
        await owner.backends.grant(seen)
    portable = await owner.backends.grant(seen, accept=["tcb-status", "advisories"])
    await deliver(url, portable, settings=SETTINGS)
    assert program.read == {"API_KEY": "value"}


# --- answers that are none ------------------------------------------------------------------------


def _body(data: bytes, status: int = 200, **headers: str) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status, body=data, headers=headers)

    return handle


async def _cut_short(request: web.Request) -> web.StreamResponse:
    """Send less than the Content-Length."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"type":')
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (_body(b'{"type":"sealspace.backend/v1","nonce":"'), BackendAnswerInvalid),
        (_body(b"<html>"), BackendAnswerInvalid),
        (_body(b"{}"), BackendAnswerInvalid),
        (_body(b" " * (MAX_PUBLISHED_BYTES + 1)), BackendAnswerInvalid),
        (_body(b"", 302, Location="http://127.0.0.1:1/"), BackendAnswerInvalid),
        (_body(b"", 404), BackendAnswerInvalid),
        (_body(b"broken", 500), BackendAnswerInvalid),
        (_body(b"", 503), BackendUnreachable),
        (_cut_short, BackendUnreachable),
    ],
    ids=[
        "cut-json",
        "html",
        "empty",
        "too-long",
        "redirect",
        "absent",
        "broken",
        "busy",
        "cut-off",
    ],
)
async def test_answers_that_are_none(look, stack, handler, kind) -> None:
    """A truncated, oversized, redirected or empty answer gives an error with a next step."""
    await refusal(look(await stack.enter_async_context(serving(handler))), kind)


@pytest.mark.parametrize(
    "url", ["http://backend.example", "ftp://127.0.0.1", "127.0.0.1:80", "https://a@b/", ""]
)
async def test_addresses(look, url) -> None:
    """A backend is reached over TLS or on this machine. An address with any other part is
    refused."""
    assert "https://" in (await refusal(look(url), InvalidInput)).hint


async def test_nobody_there(look) -> None:
    """If nothing listens at the address the error says so."""
    await refusal(look("http://127.0.0.1:1"), BackendUnreachable)


# --- the surface itself ---------------------------------------------------------------------------


async def _asked(
    url: str, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, data=body) as answer,
    ):
        return answer.status, await answer.json() if answer.content_type.endswith("json") else {}


class _Slow:
    """A platform that waits until the test releases it."""

    def __init__(self, domain: Domain) -> None:
        self.domain, self.gate, self.at_once, self.most = domain, threading.Event(), 0, 0

    def quote(self, report_data: bytes) -> Quoted:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.gate.wait(PATIENCE_S)
        self.at_once -= 1
        return self.domain.quote(report_data)


async def test_quotes_are_made_one_at_a_time(bench, stack) -> None:
    """Few requests wait for a quote, and further ones are told to try again later, so strangers
    cannot overload the platform (AT50)."""
    slow = _Slow(Domain(bench.platform, measurements_of("notes")))
    surface = BackendSurface(slow, did=key_session(SEED).did, manifest=manifest())
    url = await stack.enter_async_context(serving(surface))
    path = f"{EVIDENCE_PATH}?nonce={encode_url(bytes(32))}"
    asked = [asyncio.create_task(_asked(url, "GET", path)) for _ in range(20)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result()[0] for task in done} == {503}
    slow.gate.set()
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert statuses.count(200) == 16
    assert statuses.count(503) == 4
    assert slow.most == 1


async def test_a_grant_for_another(bench, site, look) -> None:
    """A backend refuses a grant to another DID, whatever label the grant has (AT54)."""
    owner, _ = await bench.owner()
    there, other = await site(), await site(seed=bytes(32))
    portable = await owner.backends.grant(await look(other.url))
    with pytest.raises(GrantNotTaken, match=there.program.backend.did):
        await deliver(
            there.url, replace(portable, delegate_did=there.program.backend.did), settings=SETTINGS
        )
    assert there.program.client.session.grants == ()


@pytest.mark.parametrize(
    "members",
    [
        {"did": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"},
        {"name": ""},
        {"icon": object()},
        {"icon": "x" * 200_000},
    ],
)
def test_a_surface_that_owners_would_refuse_is_not_made(bench, members) -> None:
    """A program with an invalid manifest, or with that of another program, fails when it starts."""
    with pytest.raises(ValueError, match="manifest"):
        BackendSurface(
            Domain(bench.platform, IMAGE), did=key_session(SEED).did, manifest=manifest(**members)
        )


# --- afterwards -----------------------------------------------------------------------------------


async def test_a_new_grant_takes_the_place_of_a_revoked_one(bench, site, look) -> None:
    """After a revocation the owner may grant again, and the backend cites the new grant first."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    there = await site()
    first = await owner.backends.grant(await look(there.url))
    await deliver(there.url, first, settings=SETTINGS)
    await owner.delegations.revoke(first)
    with pytest.raises(DelegationRevoked):
        await there.program.backend.read_secret(owner.session.owner, "API_KEY")
    there.program.read.clear()
    await deliver(there.url, await owner.backends.grant(await look(there.url)), settings=SETTINGS)
    assert there.program.read == {"API_KEY": "value"}


async def test_a_withdrawn_backend_reads_no_more(bench, site, look) -> None:
    """A withdrawal is effective from the next request on and permanent. A new grant to the same DID
    changes nothing (RC20, RC22)."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    there = await site()
    await deliver(there.url, await owner.backends.grant(await look(there.url)), settings=SETTINGS)
    network = owner.encryption.network()
    await owner.delegations.add_right(wallet, [allow(network.text, "sealspace.encryption/policy")])
    await owner.withdrawals.withdraw_backend(there.program.backend.did)
    with pytest.raises(DecryptDenied) as denial:
        await there.program.backend.read_secret(owner.session.owner, "API_KEY")
    assert isinstance(denial.value.refusal, ReleaseRefused)
    assert denial.value.refusal.reason == "withdrawn"
    with pytest.raises(GrantNotTaken, match="withdrawn"):
        await deliver(
            there.url, await owner.backends.grant(await look(there.url)), settings=SETTINGS
        )
