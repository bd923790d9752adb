"""iExec's own client, unmodified, against a node (X4.2, X4.3)."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from embedded_node import embedded_node
from iexec_client import INSTALLED, IexecPrograms, iexec_programs, needs_iexec
from patience import PATIENCE_S
from sms_owner import SmsOwner, new_owner

from node.config.tree import Config, Http, PublicSpaces, Sms, Store

HUB = "0x3eca1B216A7DF1C7689aEb259fFB83ADFB894E7f"
CHAIN = 134
pytestmark = [pytest.mark.slow, needs_iexec()]


class Chain(ThreadingHTTPServer):
    """A chain that answers only with its id, and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Responder)
        self.asked: list[str] = []


class _Responder(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Answer a JSON-RPC request."""
        assert isinstance(self.server, Chain)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = []
        for one in asked if isinstance(asked, list) else [asked]:
            self.server.asked.append(one["method"])
            result = hex(CHAIN) if one["method"] == "eth_chainId" else None
            answers.append({"jsonrpc": "2.0", "id": one["id"], "result": result})
        body = json.dumps(answers if isinstance(asked, list) else answers[0]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def chain() -> Iterator[Chain]:
    """A running chain."""
    with Chain() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@dataclass
class IexecClient:
    """The client in a folder with a wallet and a description of the chain."""

    folder: Path
    owner: SmsOwner
    programs: IexecPrograms
    has_own_process: bool = False

    def _ran(self, noun: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        if not self.has_own_process:
            return self.programs.run(noun, *arguments, folder=self.folder)
        # `iexec NOUN` loads the client for 0.7 s of CPU, and then starts this program.
        program = INSTALLED.resolve().with_name(f"iexec-{noun}.js")
        return subprocess.run(
            ["node", str(program), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "NO_UPDATE_NOTIFIER": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    async def run(self, *arguments: str) -> tuple[int, dict[str, object], str]:
        """Run a command; return its exit status, its JSON document and all of its output."""
        ran = await asyncio.to_thread(self._ran, *arguments, "--raw")
        output = ran.stdout + ran.stderr
        lines = [line for line in output.splitlines() if line.startswith('{"ok"')]
        assert len(lines) == 1, output
        return ran.returncode, json.loads(lines[0]), output

    async def succeeds(self, *arguments: str, **expected: object) -> dict[str, object]:
        """Run a command that must succeed with these members."""
        status, document, output = await self.run(*arguments)
        assert status == 0 and document["ok"] is True, output
        assert {name: document[name] for name in expected} == expected, output
        return document

    async def fails(self, *arguments: str) -> str:
        """Run a command that must fail, and return its message."""
        status, document, output = await self.run(*arguments)
        assert status == 1 and document["ok"] is False, output
        error = document["error"]
        assert isinstance(error, dict)
        return str(error["message"])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IexecPrograms]:
    """The client, which is loaded once."""
    with iexec_programs(tmp_path_factory.mktemp("iexec")) as loaded:
        yield loaded


@pytest.fixture
async def client(
    tmp_path: Path, chain: Chain, programs: IexecPrograms
) -> AsyncIterator[IexecClient]:
    """The client of an owner who has enabled the service with public checks."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(tmp_path / "data")),
        sms=Sms(listen="127.0.0.1:0"),
        # The loaded client asks more often than the eleven checks that are allowed at once.
        public_spaces=PublicSpaces(requests_per_minute=0),
    )
    folder = tmp_path / "project"
    folder.mkdir()
    async with embedded_node(config) as node:
        owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
        await owner.enable("--public-checks")
        settings = {
            "host": f"http://127.0.0.1:{chain.server_port}",
            "id": str(CHAIN),
            "sms": node.sms_url,
            "hub": HUB,
        }
        document = {"default": "local", "chains": {"local": settings}}
        (folder / "chain.json").write_text(json.dumps(document))
        wallet = {"privateKey": f"0x{owner.key.hex()}", "address": owner.address}
        (folder / "wallet.json").write_text(json.dumps(wallet))
        yield IexecClient(folder, owner, programs)


LOCAL = ("--keystoredir", "local")


async def test_secrets_of_a_requester(client: IexecClient, chain: Chain) -> None:
    """A secret is pushed and found, and is not pushed twice. The chain gets no request."""
    name = "my-namespace"
    await client.succeeds("requester", "check-secret", name, *LOCAL, isSet=False, name=name)
    push = ("requester", "push-secret", name, *LOCAL, "--secret-value")
    await client.succeeds(*push, "s3cr3t", isPushed=True, name=name)
    await client.succeeds("requester", "check-secret", name, *LOCAL, isSet=True, name=name)
    message = await client.fails(*push, "other")
    assert message.startswith(f'Secret "{name}" already exists for 0x38882341853931723e86B6154A2B')
    assert await client.owner.value("NAME_MY_HNAMESPACE", "iexec-requester") == "s3cr3t"
    assert chain.asked == []
    await client.owner.enable()  # without public checks the client asks the service to decide
    await client.succeeds("requester", "check-secret", name, *LOCAL, isSet=False)
    assert "unexpected status: 409" in await client.fails(*push, "other")
    assert await client.owner.run("sms", "disable") == 0
    assert "unexpected status: 401" in await client.fails(*push, "third")


async def test_a_client_in_a_process_of_its_own(client: IexecClient) -> None:
    """A process of its own ends as the commands of the other tests do."""
    said = set()
    for client.has_own_process in (False, True):
        name = f"own-{client.has_own_process}"
        push = ("requester", "push-secret", name, *LOCAL, "--secret-value", "s3cr3t")
        await client.succeeds(*push, isPushed=True, name=name)
        said.add((await client.fails(*push)).replace(name, "NAME"))
    assert len(said) == 1 and 'Secret "NAME" already exists for 0x' in said.pop()


async def test_secrets_of_applications_and_data_sets(client: IexecClient) -> None:
    """The owner of a published project pushes its secret once, and cannot push for another
    address."""
    owner = client.owner
    app = await owner.publish("app", "digest")
    dataset = await owner.publish("dataset", "prices")
    (client.folder / "dataset.key").write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    for noun, address, value in (
        ("app", app, ("--secret-value", "s3cr3t")),
        ("dataset", dataset, ("--secret-path", "dataset.key")),
    ):
        await client.succeeds(noun, "check-secret", address, isSecretSet=False)
        await client.succeeds(noun, "push-secret", address, *LOCAL, *value)
        await client.succeeds(noun, "check-secret", address, isSecretSet=True)
        message = await client.fails(noun, "push-secret", address, *LOCAL, *value)
        assert message.startswith("Secret already exists for 0x")
        assert message.endswith(" and can't be updated")
        other = f"0x{'11' * 20}"
        message = await client.fails(noun, "push-secret", other, *LOCAL, *value)
        assert f"is not allowed to set secret for {other}" in message
    assert await owner.value(f"APP_{app[2:].upper()}", "iexec-app") == "s3cr3t"
    key = await owner.value(f"DATASET_{dataset[2:].upper()}", "iexec-dataset")
    assert key == "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


async def test_keys_for_results_and_tokens_of_storage(client: IexecClient) -> None:
    """A key pair is made and its public key pushed; a token is stored and replaced."""
    await client.succeeds("result", "generate-encryption-keypair", "--force", *LOCAL)
    check = ("result", "check-encryption-key", *LOCAL)
    await client.succeeds(*check, isEncryptionKeySet=False)
    push = ("result", "push-encryption-key", *LOCAL)
    await client.succeeds(*push, isPushed=True, isUpdated=False)
    await client.succeeds(*check, isEncryptionKeySet=True)
    assert "already exists for" in await client.fails(*push)
    await client.succeeds("result", "generate-encryption-keypair", "--force", *LOCAL)
    await client.succeeds(*push, "--force-update", isPushed=True, isUpdated=True)
    storage = ("storage", "init", "dropbox", *LOCAL, "--token")
    await client.succeeds("storage", "check", "dropbox", *LOCAL, isInitialized=False)
    await client.succeeds(*storage, "token-1", isInitialized=True, isUpdated=False)
    await client.succeeds("storage", "check", "dropbox", *LOCAL, isInitialized=True)
    await client.succeeds(*storage, "token-2", "--force-update", isUpdated=True)
    # The wallet signs the same text as for the first token, which a copy could send as well.
    assert "unexpected status: 401" in await client.fails(*storage, "token-1", "--force-update")
    name = "NAME_IEXEC_HRESULT_HDROPBOX_HTOKEN"
    assert await client.owner.value(name, "iexec-result") == "token-2"
