"""Tasks of a runner: who may make one, which grants they need, and what their results prove."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sealspace_conformance.encodings import b64url, canonical_json, from_b64url, from_base58
from sealspace_conformance.envelopes import from_b64
from sealspace_conformance.expectations import Expectation, members, status
from sealspace_conformance.groups.keys_on_request import CODE, network_key
from sealspace_conformance.keys import new_key, new_wallet
from sealspace_conformance.run import Blocked, Run, Unsuitable
from sealspace_conformance.runner_parties import (
    BACKEND,
    CALL,
    GET,
    RESULT_KEY,
    Party,
    Program,
    RunnerAt,
    is_statement_of,
    new_owner_at,
    requester_secret,
)
from sealspace_conformance.task_results import opened_result, program
from sealspace_conformance.tokens import Token, plain, wallet_revocation
from sealspace_conformance.transport import Answer, Node

_START = "sealspace.runner.start/v1"
_RECEIPT = "sealspace.run.receipt/v1"
_REPORT_DATA = slice(48 + 520, 48 + 584)
_MOST_WAIT_S = 60.0
_PAUSE_S = 0.2
_FIRST, _SECOND = "first of the requester", "second of the requester"
_NO_RESULT_KEY = "POST_COMPUTE_GET_ENCRYPTION_TOKENS_FAILED_EMPTY_BENEFICIARY_KEY"


def _refused(number: int, code: str) -> Expectation:
    """Return the demand that a call is refused with a code (run-grants §4)."""

    def has_code(answer: Answer) -> bool:
        error = answer.object.get("error")
        return isinstance(error, dict) and error.get("code") == code

    return status(number).and_that(f"the code {code}", has_code)


class Bench:
    """A runner with a published program, and requests to it."""

    def __init__(self, run: Run, party: Party, app: Program) -> None:
        self.run = run
        self.party = party
        self.app = app

    def body(self, **members: Any) -> bytes:
        """Return the body of a task of the program."""
        return json.dumps({"app": self.app.project, **members}).encode()

    async def make(
        self,
        rule: str,
        asked: str,
        expectation: Expectation,
        body: bytes,
        *,
        token: Token | None = None,
        party: Party | None = None,
        sign_in: str | None = None,
        program: str = "",
    ) -> Answer:
        """Ask for a task, and add the row."""
        party = party or self.party
        signed = token or party.call_token(program or self.app.project, body)
        answer = await party.send("POST", "/tasks", signed, body, sign_in=sign_in)
        self.run.judge(rule, asked, expectation, answer)
        return answer


async def tasks(run: Run) -> None:
    """Check the tasks of a runner that uses the node."""
    run.hosted_owner()
    if run.runner is None:
        raise Unsuitable("the kit was given no runner (--runner)")
    at = await _described(run, run.runner)
    party = await _party(run, run.runner, at)
    app = await party.publish("conformance-kit", program())
    bench = Bench(run, party, app)
    answer = await bench.make(
        "TK5", "a task without a key for its result", _refused(403, _NO_RESULT_KEY), bench.body()
    )
    if answer.object.get("error", {}).get("code") == "tasks-off":
        raise Unsuitable("this runner runs no tasks")
    await _tokens(bench)
    await _bodies(bench)
    for secret, value in (("first", _FIRST), ("second", _SECOND)):
        await party.keep(requester_secret(secret), value)
    await party.keep_result_key()
    # A runner takes more grants of an owner of whom it has one (AT63).
    await _grants(bench)
    await _deliveries(bench)
    grant = await _task(bench)
    await _revoked(bench, grant)


# --- the runner -----------------------------------------------------------------------------------


async def _described(run: Run, runner: Node) -> RunnerAt:
    """Return what the runner says about itself, and compare its parts.

    Raises:
        Blocked: it does not say enough.
    """
    info = await _get(run, runner, "RN67", "the runner's /info", "/info")
    start = await _get(run, runner, "RN67", "the runner's startup document", "/start")
    about = await _get(run, runner, "AT62", "the runner's description", BACKEND)
    did, policy = info.object.get("runner"), about.object.get("policy")
    receipt_key = start.object.get("receiptKey")
    if not isinstance(did, str) or not isinstance(receipt_key, str) or not isinstance(policy, dict):
        raise Blocked("the runner does not state DID, receipt key and policy")
    digest = b64url(hashlib.sha256(start.body).digest())
    stated = info.object.get("start")
    run.compare(
        "RN178",
        "the start in /info",
        f"the hash of the startup document, {digest}",
        holds=stated == digest,
        seen=str(stated),
    )
    statement = start.object.get("statement")
    seen = statement.get("did") if isinstance(statement, dict) else None
    run.compare("RN71", "the DID of the startup document", did, holds=seen == did, seen=str(seen))
    run.compare(
        "AT62",
        "the DID of the description",
        did,
        holds=about.object.get("did") == did,
        seen=str(about.object.get("did")),
    )
    is_bound = from_b64(start.object.get("quote"))[_REPORT_DATA] == _start_data(
        did, receipt_key, statement
    )
    run.compare(
        "RN71",
        "the report data of the start's quote",
        "about the runner's DID, its receipt key and its statement",
        holds=is_bound,
        seen="about them" if is_bound else "about something else",
    )
    return RunnerAt(did=did, start=digest, receipt_key=receipt_key, policy=policy)


async def _get(run: Run, runner: Node, rule: str, asked: str, path: str) -> Answer:
    answer = await runner.send("GET", path)
    whole = status(200).and_that("a JSON object", lambda one: bool(one.object))
    run.judge(rule, asked, whole, answer)
    return answer


def _start_data(did: str, receipt_key: str, statement: Any) -> bytes:
    """Return the report data of a start (RN71)."""
    try:
        public = from_base58(receipt_key.removeprefix("did:key:z"))[2:]
    except ValueError:
        return b""
    hashed = hashlib.sha256(canonical_json(statement)).digest()
    fields = (b"sealspace/runner-start/1", did.encode(), public, hashed)
    joined = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return hashlib.sha512(joined).digest()


async def _party(run: Run, runner: Node, at: RunnerAt) -> Party:
    owner = await new_owner_at(run)
    return Party(run, runner, at, await network_key(run, owner, "default"), owner)


# --- requests -------------------------------------------------------------------------------------


async def _tokens(bench: Bench) -> None:
    """Tokens that are wrong in one way each."""
    run, party, project = bench.run, bench.party, bench.app.project
    refused = _refused(401, "call-refused")
    body = bench.body()
    own = f"{party.owner.space()}/run/{project}"
    stranger = new_key()
    foreign = f"tinycloud:{new_wallet().did.removeprefix('did:')}:default/run/{project}"
    changed: Sequence[tuple[str, str, Mapping[str, Any]]] = (
        ("RN60", "a call to another runner", {"audience": stranger.did}),
        ("RN60", "a call that lives for ten minutes", {"lifetime_s": 600}),
        ("RN60", "a call that has ended", {"lifetime_s": -5}),
        ("RN61", "a call on the space of another owner", {"grants": {foreign: plain(CALL)}}),
        ("RN61", "a call with another right", {"grants": {own: plain(GET)}}),
        (
            "RN61",
            "a call of two programs",
            {"grants": {own: plain(CALL), f"{own}-other": plain(CALL)}},
        ),
        ("RN62", "a call without its fact", {"facts": []}),
        ("RN62", "a token for another body", {"fact": {"bodySha256": b64url(bytes(32))}}),
        ("RN62", "a token whose fact names another program", {"fact": {"program": f"{project}-b"}}),
        ("RN62", "a token whose fact names another runner", {"fact": {"runner": stranger.did}}),
        ("RN64", "a call by a key without the sign-in", {"signer": stranger}),
        ("RN64", "a call that cites nothing", {"proofs": []}),
    )
    for rule, asked, changes in changed:
        token = party.call_token(project, body, **changes)
        await bench.make(rule, asked, refused, body, token=token)
    other_start = _refused(409, "call-start")
    token = party.call_token(project, body, fact={"start": b64url(bytes(32))})
    await bench.make("RN178", "a call for another start", other_start, body, token=token)
    await bench.make("RN64", "a call without the sign-in that it cites", refused, body, sign_in="")
    policy = "urn:sealspace:attestation:v1:" + b64url(canonical_json({"measurements": [CODE]}))
    day_s = 24 * 3600
    for asked, changes in (
        ("a sign-in of more than a day", {"issued_at": run.now() - day_s - 60}),
        ("a sign-in that states a policy", {"before_recap": [policy]}),
        ("a sign-in that has ended", {"ends_at": run.now() - 60, "issued_at": run.now() - 600}),
    ):
        sign_in = party.sign_in_for_calls(**changes)
        token = party.call_token(project, body, sign_in=sign_in)
        await bench.make("RN64", asked, refused, body, token=token, sign_in=sign_in.text)
    answer = await party.runner.send("POST", "/tasks", body=body)
    run.judge("TK1", "a task without a token", refused, answer)


async def _bodies(bench: Bench) -> None:
    """Bodies that are wrong in one way each (TK1, TK2)."""
    invalid = _refused(400, "request-invalid")
    app = bench.app.project
    many = {str(index): "first" for index in range(1, 34)}
    for rule, asked, body in (
        ("TK1", "a body that is not JSON", b"task"),
        ("TK1", "a body that is an array", b"[]"),
        ("TK1", "a member too many", bench.body(tag="0x3")),
        ("TK1", "a repeated member", bench.body()[:-1] + b',"args":"a","args":"b"}'),
        ("TK1", "a data set that is a number", bench.body(dataset=1)),
        ("TK1", "secrets that are a list", bench.body(secrets=["first"])),
        ("TK1", "the index 0", bench.body(secrets={"0": "first"})),
        ("TK1", "an index with a leading zero", bench.body(secrets={"01": "first"})),
        ("TK1", "an index of ten digits", bench.body(secrets={"1000000000": "first"})),
        ("TK2", "33 secrets", bench.body(secrets=many)),
        ("TK2", "arguments of 4,097 bytes", bench.body(args="a" * 4097)),
        ("TK2", "arguments with a NUL", bench.body(args="a\0b")),
        ("TK2", "arguments with an open quote", bench.body(args="'a")),
        ("TK1", "a beneficiary that is not a DID", bench.body(beneficiary="somebody")),
    ):
        await bench.make(rule, asked, invalid, body)
    unknown = f"{bench.party.did}/unknown"
    await bench.make(
        "TK1",
        "an application that nobody published",
        _refused(404, "program-unknown"),
        json.dumps({"app": unknown}).encode(),
        program=unknown,
    )
    other = json.dumps({"app": unknown}).encode()
    await bench.make(
        "RN62",
        "a body with another application than the token",
        _refused(401, "call-refused"),
        other,
        program=app,
    )


# --- grants ---------------------------------------------------------------------------------------


async def _deliveries(bench: Bench) -> None:
    """Run grants that the runner does not take."""
    party, run = bench.party, bench.run
    sound = {"programs": [{"wasmSha256": bench.app.sha256, "project": bench.app.project}]}
    secrets = [RESULT_KEY]
    stranger = new_key()
    for_another = party.run_grant(secrets, statements=[sound], audience=stranger.did)
    answer = await party.deliver(party.portable(for_another, secrets, audience=stranger.did))
    run.judge("AT54", "a grant to another runner", status(403), answer)
    unstated = {"paths": [f"{party.owner.space('secrets')}/kv/vault/secrets/scoped/{RESULT_KEY}"]}
    for rule, asked, grant in (
        ("RN43", "a grant without a run statement", party.run_grant(secrets, statements=[])),
        (
            "RN43",
            "a grant with two run statements",
            party.run_grant(secrets, statements=[sound, {**sound, "callers": "AllowAll"}]),
        ),
        (
            "RN44",
            "a statement with an unknown member",
            party.run_grant(secrets, statements=[{**sound, "colour": "green"}]),
        ),
        (
            "RN45",
            "a statement without a program",
            party.run_grant(secrets, statements=[{"programs": []}]),
        ),
        (
            "RN46",
            "a grant whose policy lists no code",
            party.run_grant(secrets, statements=[sound], policy=unstated),
        ),
    ):
        answer = await party.deliver(party.portable(grant, secrets))
        run.judge(rule, asked, status(409), answer)


async def _grants(bench: Bench) -> None:
    """Grants that do not admit the task."""
    party = bench.party
    both = [requester_secret("first"), requester_secret("second")]
    body = bench.body(secrets={"2": "first", "7": "second"})
    named = status(403).and_that("no name of a secret", lambda answer: "FIRST" not in answer.text)
    missing = _refused(403, "secret-missing").and_that(
        "the indexes of both", lambda answer: "2, 7" in answer.text
    )
    await bench.make("TK5", "two secrets without a grant", missing, body)
    await bench.make("TK5", "the same, and whether it names them", named, body)
    other = {"programs": [{"wasmSha256": "ab" * 32, "project": bench.app.project}]}
    await party.grant(both, other)
    await bench.make("RN45", "secrets that are granted to other bytes", missing, body)
    nobody = {
        "programs": [{"wasmSha256": bench.app.sha256, "project": bench.app.project}],
        "callers": {"Whitelist": {"accounts": []}},
    }
    await party.grant(both, nobody)
    await bench.make("RN40", "secrets that are granted for no caller", missing, body)
    # A grant of a hash alone is for calls of the hash (RN176).
    await party.grant([RESULT_KEY], {"programs": [{"wasmSha256": bench.app.sha256}]})
    await bench.make(
        "TK3",
        "a task under a grant that names no project",
        status(403).and_that("grant-no-project", lambda one: "grant-no-project" in one.text),
        bench.body(),
    )


# --- a task that runs -----------------------------------------------------------------------------


async def _task(bench: Bench) -> Token:
    """Run a task to its end, and return the grant under which it ran."""
    party, run = bench.party, bench.run
    secrets = [requester_secret("first"), requester_secret("second"), RESULT_KEY]
    sound = {"programs": [{"wasmSha256": bench.app.sha256, "project": bench.app.project}]}
    grant = await party.grant(secrets, sound)
    body = bench.body(
        secrets={"1": "first", "3": "first", "22": "second"}, args="count 'to three'", nonce="kit"
    )
    token = party.call_token(bench.app.project, body)
    accepted = members({"status": "pending"}).and_that(
        "a job, and a state before the end",
        lambda one: (
            isinstance(one.object.get("job"), str)
            and one.object.get("state") in ("UNSET", "ACTIVE", "REVEALING")
        ),
    )
    made = await bench.make("TK8", "a task", accepted, body, token=token)
    await bench.make(
        "RN65", "the same request again", _refused(409, "call-repeated"), body, token=token
    )
    job = made.object.get("job")
    if not isinstance(job, str) or not job.isalnum():
        raise Blocked("the task has no usable id")
    stranger = await _party(run, party.runner, party.at)
    ended = await _ended(bench, job)
    completed = members({"state": "COMPLETED", "status": "completed"})
    run.judge("TK8", "the task when it has ended", completed, ended)
    result = await party.look_at(job, part="/result")
    run.judge("TK10", "the result", status(200), result)
    _compare_result(bench, ended, result)
    await _compare_receipt(bench, job, body, ended)
    for asked, answer in (
        ("a stranger asks for the task", await stranger.look_at(job)),
        ("a stranger asks for the result", await stranger.look_at(job, part="/result")),
        ("the task without a token", await party.runner.send("GET", f"/tasks/{job}")),
        ("a task that does not exist", await party.look_at("0" * len(job))),
    ):
        run.judge("TK9", asked, status(404), answer)
    await bench.make(
        "RN41",
        "a stranger's task with the same secrets",
        _refused(403, "secret-missing"),
        body,
        party=stranger,
    )
    return grant


async def _ended(bench: Bench, job: str) -> Answer:
    """Return the answer about a task once it is not pending, or the last one before the time is
    over."""
    answer = await bench.party.look_at(job)
    end = bench.run.now() + _MOST_WAIT_S
    while answer.object.get("status") == "pending" and bench.run.now() < end:
        await asyncio.sleep(_PAUSE_S)
        answer = await bench.party.look_at(job)
    return answer


def _compare_result(bench: Bench, ended: Answer, result: Answer) -> None:
    """Compare the result with what the task says about it, and with what the program was given."""
    run, output = bench.run, ended.object.get("output")
    stated = output if isinstance(output, dict) else {}
    sha256 = hashlib.sha256(result.body).hexdigest()
    for name, value in (("sha256", sha256), ("sizeBytes", len(result.body))):
        seen = stated.get(name)
        run.compare("TK9", f"the result's {name}", str(value), holds=seen == value, seen=str(seen))
    files = opened_result(result.body, bench.party.result_key)
    run.compare(
        "TG14",
        "the result file",
        "opens with the requester's key, to result.txt and computed.json",
        holds=set(files) == {"result.txt", "computed.json"},
        seen=str(sorted(files)),
    )
    report = files.get("result.txt", b"")
    digest = "0x" + hashlib.sha256(report).hexdigest()
    run.compare(
        "TG13",
        "the digest",
        digest,
        holds=stated.get("digest") == digest,
        seen=str(stated.get("digest")),
    )
    texts = [text.decode("utf-8", "replace") for text in report.split(b"\0")[:-1]]
    variables = {text for text in texts if text.startswith("IEXEC_")}
    rest = [text for text in texts if not text.startswith("IEXEC_")]
    run.compare(
        "TK2",
        "the arguments",
        "program, count, to three",
        holds=rest == ["program", "count", "to three"],
        seen=str(rest),
    )
    _compare_variables(run, variables)


def _compare_variables(run: Run, variables: set[str]) -> None:
    """Compare the environment of the program with that of TK6."""
    ids = {text for text in variables if text.startswith(("IEXEC_TASK_ID=", "IEXEC_DEAL_ID="))}
    wanted = {
        "IEXEC_IN=/iexec_in",
        "IEXEC_INPUT_FILES_FOLDER=/iexec_in",
        "IEXEC_OUT=/iexec_out",
        "IEXEC_TASK_INDEX=0",
        "IEXEC_BOT_FIRST_INDEX=0",
        "IEXEC_BOT_TASK_INDEX=0",
        "IEXEC_INPUT_FILES_NUMBER=0",
        "IEXEC_BOT_SIZE=1",
        f"IEXEC_REQUESTER_SECRET_1={_FIRST}",
        f"IEXEC_REQUESTER_SECRET_3={_FIRST}",
        f"IEXEC_REQUESTER_SECRET_22={_SECOND}",
    }
    run.compare(
        "TK6",
        "the variables of the program",
        f"two ids, and {len(wanted)} others",
        holds=len(ids) == 2 and variables - ids == wanted,
        seen=f"missing: {sorted(wanted - variables)}, too many: {sorted(variables - ids - wanted)}",
    )


async def _compare_receipt(bench: Bench, job: str, body: bytes, ended: Answer) -> None:
    """Verify the receipt (RN70 to RN74, TK9)."""
    run, at = bench.run, bench.party.at
    receipt = ended.object.get("receipt")
    document = receipt if isinstance(receipt, dict) else {}
    stated = document.get("statement")
    facts = stated if isinstance(stated, dict) else {}
    signature = _bytes(document.get("signature"))
    is_signed = is_statement_of(at.receipt_key, _RECEIPT, document, signature)
    run.compare(
        "RN72",
        "the receipt's signature",
        "by the receipt key of the start",
        holds=is_signed,
        seen=str(document.get("signature")),
    )
    salt = _bytes(ended.object.get("salt"))
    run.compare("RN74", "the salt", "32 bytes", holds=len(salt) == 32, seen=f"{len(salt)} bytes")
    output = canonical_json(ended.object.get("output"))
    wanted: dict[str, Any] = {
        "job": job,
        "program": bench.app.sha256,
        "project": bench.app.project,
        "status": "completed",
        "code": None,
        "secrets": "delivered",
        "storage": "none",
        "task": True,
        "hosts": [],
        "nonce": "kit",
        "runner": at.did,
        "start": at.start,
        "inputHash": b64url(hashlib.sha256(salt + body).digest()),
        "outputHash": b64url(hashlib.sha256(salt + output).digest()),
    }
    for name, value in wanted.items():
        seen = facts.get(name, "(absent)")
        run.compare(
            "RN70", f"the receipt's {name}", str(value), holds=seen == value, seen=str(seen)
        )
    fetched = await bench.party.runner.send("GET", f"/receipts/{job}")
    same = status(200).and_that("the same receipt", lambda one: one.object == document)
    run.judge("RN67", "the receipt by its job", same, fetched)
    shown = ended.object.get("stderr")
    run.compare(
        "TK9",
        "standard error, shown to the owner of all secrets",
        "ran",
        holds=shown == "ran",
        seen=str(shown),
    )


def _bytes(text: Any) -> bytes:
    """Return the bytes of base64url; empty if it is anything else."""
    try:
        return from_b64url(text) if isinstance(text, str) else b""
    except ValueError:
        return b""


async def _revoked(bench: Bench, grant: Token) -> None:
    """A grant that was revoked at the node serves no task (TK5)."""
    run, party = bench.run, bench.party
    token = wallet_revocation(party.owner.wallet, grant.cid, issued_at=run.now())
    done = status(200)
    await run.ask("V3", "the wallet revokes the run grant", done, "POST", "/revoke", token=token)
    for asked in ("a task under the revoked grant", "a second one"):
        await bench.make("RN83", asked, status(403), bench.body())
