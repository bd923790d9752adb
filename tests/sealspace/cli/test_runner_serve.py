"""Tests of `sealspace runner serve` as a process, with SIGTERM and restarts."""

import asyncio
import json
import logging
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp
import pytest
import wasmtime
from backend_site import Documents
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from deviating_platform import SimulatedPlatform
from live_processes import started_by
from patience import PATIENCE_S
from runner_stage import ECHO
from running_node import COMMAND, running_node
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_programs import ResultKey, reporting
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock
from capabilities.strict_json import Json
from sealspace.apps.backends import deliver, fetch_evidence
from sealspace.apps.run_calls import call_right
from sealspace.apps.runners import call_runner
from sealspace.cli.lazy import EXTRAS
from sealspace.cli.root import EXIT_STATUS, main
from sealspace.client import Client, SignIn
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.iexec_names import RESULT_KEY_NAME, wallet_secret
from sealspace.documents.published import GRANTS_PATH
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import BackendUnreachable, CallRefused
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend.grant_door import CHECKED_BYTES, CHECKS_OF_A_CLIENT_PER_MINUTE

HAS_PATTERNS = pytest.mark.skipif(
    find_spec("re2") is None, reason="google-re2 is not installed: no runner starts"
)
CALLER = key_session(sha256(b"caller").digest())


# RN235: what no browser sends as an origin, or what is not encrypted.
NO_ORIGINS = (
    *("", "*", "null", "a.example", "http://a.example", "https://", "https://*.example"),
    *("https://a.example/", "https://A.example", "https://a.example:443", "http://localhost:80"),
    *("https://a.example:0", "https://a.example:123456", "https://u@a.example", "https://a..b"),
    *("https://a.example\n", "https://b\u00fccher.example", "https://" + "a" * 250),
)


@contextmanager
def serving(folder: Path, *arguments: str, status: int = 0) -> Iterator[tuple[str, int]]:
    """Run a runner as a process of its own until the block ends; yields its address and its id."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no runner starts")
    process = subprocess.Popen(
        [
            *COMMAND,
            "runner",
            "serve",
            "--evidence",
            "simulated",
            "--simulate",
            "tee",
            "--port",
            "0",
            *arguments,
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"listening on (https?://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        yield found[1], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert (process.returncode, said) == (status, "")


@pytest.mark.slow
@needs_task_memory
async def test_a_runner_that_is_killed_during_a_task(tmp_path: Path) -> None:
    """TK10, TG9: the task fails as interrupted, is not repeated, and its files are removed."""
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    platform = SimulatedPlatform.load(tmp_path / "tee")
    with running_node(tmp_path, platform=platform, workers=1) as node, ExitStack() as stack:
        root = MEMORY / f"tasks-{token_hex(8)}"
        root.mkdir(0o700)
        stack.callback(root.rmdir)
        arguments = (
            *("--node", node.url, "--data", "kept", "--key", "file"),
            *("--task-dir", os.path.relpath(root, tmp_path)),
        )
        wallet = new_wallet()
        client = Client(node.url)
        async with client:
            await client.sign_in(wallet, SignIn(spaces=("public",)))
            await client.delegations.add_right(wallet, [call_right(client.kv().space.text)])
            wasm = bytes(wasmtime.wat2wasm(reporting("killed", endless=True)))
            programs = client.programs(public=True)
            version = await programs.publish("app", wasm, target="wasm32-wasip1", signer=wallet)
            secret = wallet_secret(RESULT_KEY_NAME)
            await client.secrets().put(secret.name, ResultKey().secret, scope=secret.scope)
            inspector = Inspector(
                Documents(platform, SystemClock().now()), root=parse_trust_root(platform.root_der)
            )
            app = version.project.text
            with serving(tmp_path, *arguments, status=-signal.SIGKILL) as (url, pid):
                run = RunStatement(programs=(ByHash(version.sha256, version.project),))
                seen = await fetch_evidence(url, inspector)
                portable = await client.runners.grant(seen, [secret.label], run, wallet=wallet)
                await deliver(url, portable)
                task = await client.runners.make_task(url, app, json.dumps({"app": app}).encode())
                job = str(task["job"])
                while (await client.runners.task(url, job))["stage"] != "APP":
                    pass
                assert list(root.iterdir())
                os.kill(pid, signal.SIGKILL)
            assert list(root.iterdir())
            with serving(tmp_path, *arguments) as (url, _):
                assert not list(root.iterdir())
                ended = await client.runners.task(url, job)
                cause: Any = ended["cause"]
                assert ended["state"] == "FAILED"
                assert cause["code"] == "interrupted"
                with pytest.raises(CallRefused):
                    await client.runners.task_result(url, job)


@pytest.mark.slow
async def test_a_runner_that_is_restarted(tmp_path: Path) -> None:
    """SIGTERM ends the runner and its children. With the same folder it has the same DID and runs
    the same programs."""
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    platform = SimulatedPlatform.load(tmp_path / "tee")
    with running_node(tmp_path, platform=platform, workers=1) as node:
        arguments = (
            "--node",
            node.url,
            "--data",
            "kept",
            "--key",
            "file",
            "--children",
            "1",
            "--max-memory-mb",
            "64",
            *("--call-origin", "https://app.example:8443", "--call-origin", "http://[::1]:3000"),
        )
        wallet, runners = new_wallet(), set()
        async with Client(node.url) as developer:
            await developer.sign_in(wallet, SignIn(spaces=("public",)))
            wasm = bytes(wasmtime.wat2wasm(ECHO))
            programs = developer.programs(public=True)
            version = await programs.publish("echo", wasm, target="wasm32-wasip1", signer=wallet)
        for _ in range(2):
            with serving(tmp_path, *arguments) as (url, pid):
                body: dict[str, Json] = {
                    "source": {"project": version.project.text},
                    "input": "hello",
                }
                answer = await call_runner(url, CALLER, body)
                assert answer["status"] == "completed", answer
                assert answer["output"] == "hello"
                said: Any = answer["receipt"]
                assert said["statement"]["limits"]["maxMemoryMb"] == 64
                runners.add(said["statement"]["runner"])
                children = set(started_by(pid))
                assert children
                call, origin = f"{url}/call/{wallet.did}/echo", {"Origin": "http://[::1]:3000"}
                async with (
                    aiohttp.ClientSession() as http,
                    http.options(call, headers=origin) as allowed,
                ):
                    assert allowed.headers["Access-Control-Allow-Origin"] == origin["Origin"]
            assert not [one for one in children if Path(f"/proc/{one}").exists()]
            with pytest.raises(BackendUnreachable):
                await call_runner(url, CALLER, body)
        certificate = self_signed(tmp_path)
        tls = ("--tls-certificate", "certificate.pem", "--tls-key", "key.pem")
        with serving(tmp_path, *arguments, *tls) as (url, _):
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{url}/info", ssl=certificate) as info,
            ):
                assert url.startswith("https:") and (await info.json())["runner"] in runners
    assert len(runners) == 1


@pytest.mark.slow
async def test_grants_that_were_not_delivered_and_floods_of_others(tmp_path: Path) -> None:
    """AT61, AT54: a runner fetches grants from its node. Delivered ones are counted by the address
    that a trusted proxy forwards."""
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    platform = SimulatedPlatform.load(tmp_path / "tee")
    with running_node(tmp_path, platform=platform, workers=1) as node:
        arguments = ("--node", node.url, "--data", "kept", "--key", "file")
        wallet = new_wallet()
        async with Client(node.url) as client, aiohttp.ClientSession() as http:
            await client.sign_in(wallet, SignIn(spaces=("public",)))
            await client.secrets().put("API_KEY", "value")
            programs = client.programs(public=True)
            wasm = bytes(wasmtime.wat2wasm(ECHO))
            version = await programs.publish("echo", wasm, target="wasm32-wasip1", signer=wallet)
            inspector = Inspector(
                Documents(platform, SystemClock().now()), root=parse_trust_root(platform.root_der)
            )
            run = RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
            proxy = ("--trusted-proxy", "127.0.0.1")
            with serving(tmp_path, *arguments, *proxy) as (url, _):
                seen = await fetch_evidence(url, inspector)
                portable = await client.runners.grant(seen, ["API_KEY"], run, wallet=wallet)

                async def statuses(client: str) -> list[int]:
                    found = []
                    for _ in range(CHECKS_OF_A_CLIENT_PER_MINUTE):
                        headers = {"X-Forwarded-For": client}
                        async with http.post(
                            url + GRANTS_PATH, data=b"x" * CHECKED_BYTES, headers=headers
                        ) as answer:
                            found.append(answer.status)
                    return found

                assert set(await statuses("203.0.113.1")) == {400, 429}
                assert (await statuses("203.0.113.2"))[0] == 400
            # The next start fetches the grant, which was never delivered.
            with serving(tmp_path, *arguments) as (url, _):
                body: dict[str, Json] = {
                    "source": {"project": version.project.text},
                    "secretsRef": {"profile": "default", "owner": str(wallet.did)},
                }
                async with asyncio.timeout(PATIENCE_S):
                    while (answer := await call_runner(url, CALLER, body))["status"] != "completed":
                        said: Any = answer["error"]
                        assert said["code"] == "access-denied", answer
            assert portable.delegate_did == seen.did


def self_signed(folder: Path) -> ssl.SSLContext:
    """Write a certificate of 127.0.0.1 and its key, and return a client's context that trusts
    it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runner")]),
        datetime.now(UTC),
    )
    built = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = built.public_bytes(Encoding.PEM)
    (folder / "certificate.pem").write_bytes(pem)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return ssl.create_default_context(cadata=pem.decode())


def test_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An excessive limit, an unnamed platform and a missing node are each refused in two lines."""
    SimulatedPlatform.from_seed(b"the platform of the commands").save(tmp_path / "tee")
    serve = ("runner", "serve", "--data", str(tmp_path / "kept"))
    node, tee = ("--node", "http://127.0.0.1:1"), ("--simulate", str(tmp_path / "tee"))
    for more, part in (
        ((*node, *tee, "--max-memory-mb", "513"), "--max-memory-mb"),
        ((*node, "--evidence", "simulated"), "--simulate FOLDER"),
        ((*node, "--simulate", str(tmp_path / "absent")), "backend simulate"),
        (tee, "--node URL"),
        ((*node, *tee, "--tls-key", __file__), "must be given together"),
        *(
            ((*node, *tee, "--call-origin", "https://a.example", "--call-origin", one), "the form")
            for one in NO_ORIGINS
        ),
        (
            (*node, *tee, "--tls-key", __file__, "--tls-certificate", __file__),
            "not a TLS certificate and the matching private key",
        ),
    ):
        status = main([*serve, *more])
        said = capsys.readouterr().err
        assert (
            status == EXIT_STATUS["configuration-invalid"]
            and len(said.splitlines()) == 2
            and part in said
        ), said


def test_a_runner_that_cannot_judge_patterns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN210: without the library for patterns a runner does not start, and the error names a
    remedy."""
    SimulatedPlatform.from_seed(b"the platform of the commands").save(tmp_path / "tee")
    monkeypatch.setitem(sys.modules, "re2", None)
    # as on a version of Python for which the library is not released
    monkeypatch.setitem(EXTRAS, "runner", ("wasmtime",))
    kept = ("--data", str(tmp_path / "kept"), "--key", "file")
    node = ("--node", "http://127.0.0.1:1", "--simulate", str(tmp_path / "tee"))
    status = main(["runner", "serve", *kept, *node])
    reported, following = capsys.readouterr().err.splitlines()
    assert status == EXIT_STATUS["configuration-invalid"]
    assert "google-re2 is missing" in reported
    assert following.startswith("next: run the runner with Python 3.11 to 3.14")
    assert not (tmp_path / "kept").exists()


@HAS_PATTERNS
def test_a_key_that_cannot_be_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A platform without a key service needs a key file, and the error names the file."""

    def refused(*arguments: str) -> tuple[int, str]:
        kept = ("--node", "http://127.0.0.1:1", "--data", str(tmp_path / "kept"))
        status = main(["runner", "serve", *kept, *arguments])
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 2 and "\nnext: " in said
        return status, said

    status, said = refused("--quotes", "tsm")
    assert status == 2 and "--key file" in said
    SimulatedPlatform.from_seed(b"the platform of the commands").save(tmp_path / "tee")
    from_file = ("--simulate", str(tmp_path / "tee"), "--key", "file")
    (tmp_path / "kept").mkdir(mode=0o700)
    (tmp_path / "kept" / "backend.key").touch(mode=0o600)
    status, said = refused(*from_file)
    assert status == 10 and "backend.key contains no key" in said
    (tmp_path / "kept" / "backend.key").unlink()
    (tmp_path / "kept" / "backend.json").write_text(
        json.dumps({"v": 1, "did": "did:key:z6MkA", "networks": []})
    )
    (tmp_path / "kept" / "backend.json").chmod(0o600)
    status, said = refused(*from_file)
    assert status == 1 and "belongs to did:key:z6MkA" in said
    # the process's own logs stay as they were
    assert logging.getLogger("aiohttp").level == logging.NOTSET


@HAS_PATTERNS
def test_loopback_is_for_a_simulated_domain_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RN111: loopback hosts work only in a simulated domain, and the file has to contain a
    certificate."""
    SimulatedPlatform.from_seed(b"the platform of the commands").save(tmp_path / "tee")
    (tmp_path / "ca.pem").write_text("none")
    serve = (
        "runner",
        "serve",
        "--node",
        "http://127.0.0.1:1",
        "--data",
        str(tmp_path / "kept"),
        "--key",
        "file",
    )
    more = ("--loopback-ca", str(tmp_path / "ca.pem"))
    simulated = ("--simulate", str(tmp_path / "tee"))
    for domain, part in (
        (("--evidence", "tsm"), "only with --simulate"),
        (simulated, "ca.pem does not contain a certificate"),
    ):
        assert main([*serve, *domain, *more]) == EXIT_STATUS["configuration-invalid"]
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 2 and part in said, said
