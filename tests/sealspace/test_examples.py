"""Tests that run the example at the top of each module of the SDK with a real node."""

import ast
import functools
import json
import textwrap
from contextlib import AsyncExitStack
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from backend_site import Documents, Domain, Program, serving
from deviating_platform import CollateralOptions
from patience import PATIENCE_S
from sigstore_authority import SigstoreAuthority
from tests_support import REPOSITORY

import sealspace
from sealspace.apps.backends import fetch_evidence, policy_for
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.documents.manifests import compose_manifests, parse_manifest, resolve_manifest
from sealspace.documents.project_names import ProjectId
from sealspace.documents.published import statement_json
from sealspace.encryption import new_receiver_key
from sealspace.giving.words.backends import in_plain_words
from sealspace.printable import printable
from sealspace.session import key_session
from sealspace.wire.transport import Transport, TransportSettings
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.report_data import session_binding
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of

SEED = bytes(range(32))
MANIFEST: dict[str, Any] = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "secrets": {"API_KEY": True},
}
ABILITIES = (
    "tinycloud.encryption/decrypt",
    "tinycloud.encryption/network.create",
    "sealspace.encryption/receipts",
    "sealspace.encryption/withdraw",
    "sealspace.encryption/policy",
)

# A node in a trust domain, and a task, are stages of their own: `test_node_evidence` and
# `test_task_results` play what the examples show.
NOT_HERE = {"documents.node_evidence", "documents.iexec_results"}


# Read by the others alone.
WITHOUT = {
    "giving.teams.membership_records",
    "giving.teams.memberships",
    "giving.read_credits",
    "giving.readers",
    "apps.runner_answers",
    "documents.manifest_reading",
    "documents.secret_names",
}


def examples() -> dict[str, str]:
    """Return the text under `Example:` in the docstring of each public module."""
    found = {}
    root = REPOSITORY / "sealspace"
    for path in sorted(
        (
            *root.glob("[!_]*.py"),
            root / "__init__.py",
            *root.glob("apps/[!_]*.py"),
            *root.glob("documents/[!_]*.py"),
        )
    ):
        parts = path.relative_to(root).with_suffix("").parts
        name = "" if parts == ("__init__",) else ".".join(parts)
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines = text.partition("\nExample:\n")[2].split("\n")
        end = next(
            (at for at, line in enumerate(lines) if line and not line.startswith("    ")),
            len(lines),
        )
        if name in WITHOUT:
            continue
        found[name] = textwrap.dedent("\n".join(lines[:end])).strip()
    return found


EXAMPLES = examples()


def test_every_module_has_one() -> None:
    """Every public module has an example."""
    assert [] == [name for name, example in EXAMPLES.items() if not example]
    assert len(EXAMPLES) > 20


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in NOT_HERE])
async def test_an_example_runs(
    bench, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example runs without an error, with the objects that its text assumes."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(b"a film")
    (folder / "survey.csv").write_bytes(b"age,size\n")
    (folder / "mail-digest.wasm").write_bytes(b"\0asm\x01\0\0\0")
    authority, program_sha256 = SigstoreAuthority(), "ab" * 32
    (folder / "trusted_root.json").write_bytes(authority.trusted_root)
    monkeypatch.chdir(folder)
    async with AsyncExitStack() as stack:
        given = await presupposed(bench, stack)
        given |= {"program_sha256": program_sha256, "bundle": authority.bundle(program_sha256)}
        module = import_module(f"sealspace.{name}" if name else "sealspace")
        package = {one: getattr(sealspace, one) for one in sealspace.__all__}
        program = f"async def example():\n{textwrap.indent(EXAMPLES[name], '    ')}\n"
        # The node of this test has a clock of its own, so the clients of the example have that too.
        clock = {
            "Client": functools.partial(sealspace.Client, clock=bench.clock, entropy=bench.entropy)
        }
        names: dict[str, Any] = {
            **package,
            **given,
            **vars(module),
            **clock,
            "fetch_evidence": given["fetch_evidence"],
        }
        # What the example assigns is local to it; what it reads before that is given by a default.
        assigned = {
            node.id
            for node in ast.walk(ast.parse(program))
            if isinstance(node, ast.Name) and stores(node)
        }
        defaults = ", ".join(f"{one}={one}" for one in sorted(assigned & names.keys()))
        exec(program.replace("example()", f"example({defaults})"), names)  # the text is our own
        await names["example"]()


def stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def manifests(did: str) -> dict[str, Any]:
    """Return a manifest in the forms that examples use, including one that delegates to a
    backend."""
    value = {**MANIFEST, "did": did, "defaults": False}
    manifest = parse_manifest(value)
    request = compose_manifests([manifest])
    return {
        "value": value,
        "parse_manifest": parse_manifest,
        "resolved": resolve_manifest(manifest),
        "request": request,
    }


async def presupposed(bench, stack: AsyncExitStack) -> dict[str, Any]:
    """Return the objects that examples use: an owner, a friend, a backend, and their belongings."""
    client, wallet = await bench.owner(
        SignIn(spaces=("account", "projects"), network_abilities=ABILITIES)
    )
    await client.secrets().put("API_KEY", "value")
    await client.secrets().get("API_KEY")
    await client.secrets().delete("API_KEY")
    friend = await bench.client(key_session(SEED))
    network = client.encryption.network()
    await client.kv().put("given", b"1")
    portable = await client.delegations.delegate(
        friend.session.did, [allow(f"{client.kv().space.text}/kv/given", "tinycloud.kv/get")]
    )
    domain = Domain(bench.platform, measurements_of("notes"))
    backend = Backend(friend, domain, clock=bench.clock, entropy=bench.entropy)
    program = Program(friend, backend, ())
    surface = BackendSurface(
        domain, did=backend.did, manifest=MANIFEST, compose=None, on_grant=program.accept
    )
    backend_url = await stack.enter_async_context(serving(surface))
    documents = Documents(bench.platform, bench.clock.now(), CollateralOptions())
    inspector = Inspector(documents, root=parse_trust_root(bench.platform.root_der))
    looking = functools.partial(
        fetch_evidence,
        clock=bench.clock,
        entropy=bench.entropy,
        settings=TransportSettings(timeout_s=PATIENCE_S),
    )
    seen = await looking(backend_url, inspector)
    return {
        "url": bench.node.url,
        "client": client,
        "wallet": wallet,
        "friend": friend,
        "session": client.session,
        "seed": SEED,
        "network": network,
        "descriptor": await client.encryption.descriptor(network),
        "portable": portable,
        "cid": portable.cid,
        "domain": domain,
        "session_binding": session_binding,
        "new_receiver_key": new_receiver_key,
        "entropy": bench.entropy,
        "backend_url": backend_url,
        "backend_did": backend.did,
        "start": "A" * 43,
        "inspector": inspector,
        "fetch_evidence": looking,
        "seen": seen,
        "policy": policy_for(seen, ttl_s=60),
        "policy_for": policy_for,
        "in_plain_words": in_plain_words,
        "printable": printable,
        "when": "2026-01-01T00:00:00Z",
        "invoker": backend.did,
        **manifests(backend.did),
        "grant": client.session.grants[0],
        "clock": bench.clock,
        "now": bench.clock.now(),
        "did": backend.did,
        "project": ProjectId(wallet.did, "digest"),
        "evidence": seen.verified.evidence,
        "transport": await stack.enter_async_context(Transport(bench.node.url)),
        "folder": Path.cwd(),
        "data": b"{}",
        "nonce": bytes(32),
        "statement": statement_json(backend.did, MANIFEST, None),
        "quote": b"a quote",
        "log": None,
        "json": json,
        "Path": Path,
        "key": bytes(32),
        "space": client.kv().space.text,
        "BytesIO": BytesIO,
    }
