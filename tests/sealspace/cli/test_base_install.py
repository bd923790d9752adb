"""Tests of every command in the base install and with one extra."""

import asyncio
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from base_install import Ended, Environment, environment, requirements_of, stated_extras, top_level
from command_tree import leaves
from embedded_node import embedded_node
from packaging.requirements import Requirement
from patience import PATIENCE_S
from tests_support import REPOSITORY

from encryption_network.policy import Policy, policy_json
from node.config.tree import Config, Http, Store
from sealspace.cli.lazy import EXTRAS, LazyGroup, Row
from sealspace.cli.owner.owner_profile import OwnerHome, Profile
from sealspace.cli.root import EXIT_STATUS
from sealspace.documents.node_evidence import NodePolicy
from sealspace.session import key_session
from tee_backend.evidence.simulated import measurements_of

MISSING = EXIT_STATUS["extra-missing"]
BACKEND = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
SPACE = "tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:notes"
NOWHERE = "http://127.0.0.1:1"
DATABASE = "postgresql://owner@127.0.0.1:1/none"
BUCKET = "s3://bucket/prefix"


@dataclass(frozen=True)
class Call:
    """A command's arguments, standard input and exit status.

    Attributes:
        arguments: after its name; words in braces stand for what a test made.
        given: on standard input.
        status: with which it ends, if it needs no extra.
    """

    arguments: str = ""
    given: str = ""
    status: int = 0


DATA = Call("--data {data}")
HOME = Call("--home {home}")
# In this order they make a story: what one command leaves, another finds.
CALLS: Mapping[str, Call] = {
    "version": Call(),
    "completion": Call("fish"),
    "config show": Call("--data {data}"),
    "config init": Call("-"),
    "login": Call("--node {node} --new --home {home}"),
    "whoami": HOME,
    "status": HOME,
    "recovery create": Call("--shares 2 --threshold 2 --out {folder}/shares --home {home}"),
    "recovery check": Call("{folder}/shares/share-1-of-2.txt {folder}/shares/share-2-of-2.txt"),
    "recovery use": Call(
        "{folder}/shares/share-1-of-2.txt {folder}/shares/share-2-of-2.txt --home {home}"
    ),
    "console": Call("--home {home}", status=2),  # not a terminal
    "secret put": Call("API_KEY --home {home}", given="open sesame"),
    "doctor": HOME,
    "secret list": HOME,
    "secret get": Call("API_KEY --home {home}"),
    "secret show": Call("API_KEY --home {home}"),
    "secret bind": Call("API_KEY --home {home}"),
    "secret generate": Call("OTHER --home {home}"),
    "secret export": Call("--home {home} --out {folder}/.env"),
    "secret import": Call("{folder}/.env --yes --home {home}"),
    "run": Call("--home {home} -- true"),
    "template": Call("- --home {home}", given='{{ secret "API_KEY" }}'),
    "door": Call("--mount none --home {home}", status=2),
    "mcp": HOME,
    "secret versions": Call("API_KEY --home {home}"),
    "secret rollback": Call("API_KEY 1 --home {home}"),
    "secret delete": Call("API_KEY --home {home}"),
    "secret restore": Call("API_KEY --home {home}"),
    "contact add": Call(f"backend {BACKEND} --home {{home}}"),
    "contact list": HOME,
    "contact show": Call("backend --home {home}"),
    "contact rename": Call("backend desk --home {home}"),
    "contact remove": Call("desk --home {home}"),
    "team add": Call(f"ops {BACKEND} --home {{home}}", status=21),  # it has no network
    "team renew": Call(f"{BACKEND} --home {{home}}", status=21),
    "team list": HOME,
    "team remove": Call(f"ops {BACKEND} --home {{home}}", status=21),
    "team create": Call("shop --key-file {home}/shop.key --home {home}"),
    "team recover": Call("--key-file {home}/shop.key --team shop --yes --home {home}"),
    "team members": Call("shop --home {home}"),
    "team adopt": Call("shop OTHER --keep --yes --home {home}"),
    "team convert": Call("ops --key-file {home}/ops.key --home {home}", status=21),
    "team role": Call(f"shop {BACKEND} --role reader --home {{home}}", status=22),
    "team leave": Call("shop --yes --home {home}", status=2),  # the last admin
    "team invite": Call("shop --role reader --no-wait --home {home}"),
    "team confirm": Call("none --no-wait --home {home}", status=21),
    "team join": Call("sinv_none --no-wait --home {home}", status=12),
    # an admin of today
    "team move": Call("shop --key-file {home}/new.key --yes --no-wait --home {home}", status=15),
    "team countersign": Call("shop smove_none --home {home}", status=12),
    "team follow": Call("shop --home {home}", status=21),
    "use": Call("me --home {home}"),
    "secret share": Call("API_KEY --with team:ops --home {home}", status=21),
    "secret unshare": Call("API_KEY --with team:ops --home {home}", status=21),
    "kv put": Call("a --home {home}", given="value"),
    "kv get": Call("a --home {home}"),
    "kv head": Call("a --home {home}"),
    "kv list": HOME,
    "kv delete": Call("a --home {home}"),
    "sql execute": Call("app - --home {home}", given="CREATE TABLE note (text)"),
    "sql query": Call("app VALUES(1) --home {home}"),
    "sql list": HOME,
    "sql export": Call("app --out {folder}/app.sqlite --home {home}"),
    "space create": Call("notes --home {home}"),
    "space list": HOME,
    "space info": Call("notes --home {home}"),
    "grant create": Call(f"{BACKEND} --space default --out {{folder}}/grant.json --home {{home}}"),
    "grant list": HOME,
    "grant show": Call("{folder}/grant.json --home {home}"),
    "grant accept": Call("{folder}/grant.json --home {home}", status=22),  # it is for somebody else
    # Nothing listens there.
    "backend deliver": Call(f"{{folder}}/grant.json --to {NOWHERE} --home {{home}}", status=11),
    "grant revoke": Call("{folder}/grant.json --home {home}"),
    "token create": Call("deploy --secret API_KEY --home {home}"),
    "token list": HOME,
    "token revoke": Call("deploy --home {home}"),
    "ci trust": Call(
        "other --issuer https://ci.test --claim a=b --jwks {folder}/manifest.json --secret API_KEY"
        " --home {home}"
    ),
    "ci list": HOME,
    "ci revoke": Call("other --home {home}"),
    "ci login": Call("", status=10),  # it is in no job
    # the node has no such service
    "sms enable": Call("--home {home}", status=21),
    "sms status": Call("--home {home}", status=21),
    "sms disable": Call("--home {home}", status=21),
    "manifest check": Call("{folder}/manifest.json"),
    "manifest explain": Call("{folder}/manifest.json"),
    "manifest grant": Call("{folder}/manifest.json --yes --home {home}"),
    "network create": Call("production --home {home}"),
    "network show": HOME,
    "network policy": HOME,
    "network rotate": HOME,
    "network reencrypt": HOME,
    "network retire": Call("--version 1 --yes --home {home}"),
    "network revoke": Call("production --yes --home {home}"),
    "receipts list": HOME,
    "backend show": Call(f"{NOWHERE} --home {{home}}"),
    "backend grant": Call(f"{NOWHERE} --yes --home {{home}}"),
    "backend list": HOME,
    "backend revoke": Call(f"{BACKEND} --home {{home}}"),
    "backend withdraw": Call(f"{BACKEND} --yes --home {{home}}"),
    "backend measure": Call("{folder}/manifest.json"),
    "backend simulate": Call("{folder}/tee"),
    "attest record": Call("{folder}/proof --yes"),
    "attest replay": Call("{folder}/tee"),
    # the login has no space public
    "project remove": Call("digest --yes --home {home}", status=22),
    "project publish": Call("digest {folder}/program.wasm --home {home}", status=22),
    "project activate": Call(f"digest {'0' * 64} --home {{home}}", status=22),
    "project share": Call(f"{NOWHERE} digest --yes --home {{home}}"),
    "project list": HOME,
    "project show": Call("digest --home {home}", status=21),
    "project provenance": Call("digest --home {home}", status=21),
    "dataset encrypt": Call("{folder}/program.wasm"),
    "dataset publish": Call(
        f"digest {{folder}}/program.wasm.enc --url {NOWHERE} --home {{home}}", status=2
    ),
    "dataset push-key": Call("digest {folder}/program.wasm.key --home {home}"),
    "runner serve": Call("--simulate {folder}/absent --node {node} --data {folder}/runner"),
    "runner doctor": Call("--simulate {folder}/absent --node {node} --data {folder}/runner"),
    "runner backup": Call("{folder}/backup --data {folder}", status=1),  # there is no journal
    "runner restore": Call("{folder} --data {folder}/restored", status=1),  # no backup
    "runner generate": Call(f"{NOWHERE} PROTECTED_KEY --yes --home {{home}}"),
    "runner grant": Call(f"{NOWHERE} --secret API_KEY --program digest --yes --home {{home}}"),
    "runner list": HOME,
    "runner revoke": Call(f"{BACKEND} --home {{home}}"),
    "runner call": Call(f"{NOWHERE} digest --home {{home}}", status=11),
    "runner keys create": Call(f"{NOWHERE} --project digest --home {{home}}", status=11),
    "runner keys list": Call(f"{NOWHERE} --home {{home}}", status=11),
    "runner keys revoke": Call(f"{NOWHERE} 7 --yes --home {{home}}", status=11),
    "runner credit": Call(f"{BACKEND} 5 --data {{folder}}", status=1),
    "task init": Call("hello"),
    "task try": Call("hello --python-base {folder}/program.wasm --home {home}"),
    "task grant": Call(f"{NOWHERE} --app digest --result-key --yes --home {{home}}"),
    "task run": Call(f"{NOWHERE} digest --home {{home}}"),
    "task show": Call(f"{NOWHERE} {'0' * 32} --home {{home}}"),
    "task download": Call(f"{NOWHERE} {'0' * 32} --home {{home}}"),
    "verify": Call(NOWHERE),
    "admin receipts list": DATA,
    "admin receipts export": Call("--data {data} {folder}/receipts"),
    "logout": HOME,
    "serve": Call("--data {data} --port 0"),
    "dev": Call("--port 0"),
    "admin release show": DATA,
    "admin release set": Call("--data {data} --attestation everyone"),
    "admin collateral import": Call("--data {data} {folder}/platform.json"),
    "admin collateral list": DATA,
    "admin audit export": DATA,
    "admin audit kept": Call("--data {data} {folder}/audit.jsonl"),
    "admin withdraw": Call(f"--data {{data}} --did {BACKEND}"),
    "admin owners add": Call(f"--data {{data}} {BACKEND}"),
    "admin owners remove": Call(f"--data {{data}} {BACKEND}"),
    "admin owners list": DATA,
    "admin quota list": DATA,
    "admin quota show": Call(f"--data {{data}} {SPACE}"),
    "admin quota set": Call(f"--data {{data}} {SPACE} 1MiB"),
    "admin quota clear": Call(f"--data {{data}} {SPACE}"),
    "admin backup": Call("--data {data} {folder}/backup"),
    "admin restore": Call("--data {folder}/restored {folder}/audit.jsonl"),
    "admin check": DATA,
    "admin root show": DATA,
    "admin root rotate": DATA,
    "admin upgrade": DATA,
    "admin migrate-store": Call(f"--data {{data}} --store {DATABASE} --to postgresql"),
    "admin migrate-objects": Call(f"--data {{data}} --objects {BUCKET} --to bucket"),
}
NEEDS = {" ".join(leaf.words): leaf.extra for leaf in leaves()}


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Environment]:
    """The environments of the base install and of each extra."""
    folder = tmp_path_factory.mktemp("environments")
    return {"base": environment(folder / "base")} | {
        extra: environment(folder / extra, extra) for extra in ("verify", "node")
    }


def _names_the_extra(ended: Ended, extra: str) -> bool:
    """Return whether a command printed two lines, of which the second installs the extra."""
    first, *rest = ended.err.splitlines()
    is_told = first.startswith(f"sealspace: this needs the extra {extra}, ") and rest == [
        f"next: pip install 'sealspace[{extra}]'"
    ]
    return (ended.status, ended.out) == (MISSING, "") and is_told


def test_the_environments_hold_what_they_say(environments: dict[str, Environment]) -> None:
    """The base install has no module of an extra or of the tests, and each extra adds only its own
    modules."""
    beyond = ("apsw", "asyncpg", "dcap_qvl", "lmdb", "obstore", "pytest", "uvloop")
    assert environments["base"].absent("aiohttp", "node", *beyond) == list(beyond)
    assert environments["verify"].absent(*beyond) == [name for name in beyond if name != "dcap_qvl"]
    assert environments["node"].absent(*beyond) == ["asyncpg", "obstore", "pytest", "uvloop"]


def test_the_table_of_extras_is_the_distribution_s() -> None:
    """Each extra in the table installs exactly the listed modules."""
    assert EXTRAS.keys() == stated_extras().keys() - {"fast", "dev"}  # nobody misses those
    for extra, modules in EXTRAS.items():
        installed = {
            name
            for text in requirements_of(extra)
            for name in top_level(distribution(Requirement(text).name))
            if not name.endswith(".dist-info")
        }
        assert installed == set(modules), extra


def test_every_command_has_an_entry() -> None:
    """Every command has a call in this module."""
    assert CALLS.keys() == NEEDS.keys()
    assert set(NEEDS.values()) == {None, "verify", "node", "runner", "mcp"}


@pytest.mark.parametrize("place", ["base", "verify", "node"])
def test_help_is_there_for_what_can_run(environments: dict[str, Environment], place: str) -> None:
    """The help of a command whose extra is missing names the extra."""
    extras: dict[str, tuple[str | None, ...]] = {
        "base": (),
        "verify": ("verify",),
        "node": ("verify", "node"),
    }
    enough = (None, *extras[place])
    ended = environments[place].run_all([([*name.split(), "--help"], "") for name in NEEDS])
    for (name, extra), one in zip(NEEDS.items(), ended, strict=True):
        if extra in enough:
            assert (one.status, one.err) == (0, "") and one.out.startswith(
                f"Usage: sealspace {name} "
            ), (name, one)
        else:
            assert extra is not None and _names_the_extra(one, extra), (name, one)


async def test_each_command_of_the_base_install(
    environments: dict[str, Environment], tmp_path: Path
) -> None:
    """Each command works without an extra or names the extra that it needs."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    (tmp_path / "audit.jsonl").touch()
    (tmp_path / "program.wasm").write_bytes(b"\0asm\x01\0\0\0")
    manifest = {"app_id": "com.example", "name": "Example", "did": BACKEND, "defaults": False}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"secrets": {"API_KEY": True}}))
    async with embedded_node(config) as node:
        made = {
            "node": node.url,
            "home": tmp_path / "home",
            "folder": tmp_path,
            "data": tmp_path / "data",
        }
        calls = [
            ([*name.split(), *call.arguments.format(**made).split()], call.given)
            for name, call in CALLS.items()
        ]
        ended = await asyncio.to_thread(environments["base"].run_all, calls)
    for (name, call), one in zip(CALLS.items(), ended, strict=True):
        extra = NEEDS[name]
        if extra is None:
            assert one.status == call.status and "Traceback" not in one.err, (name, one)
        else:
            assert _names_the_extra(one, extra), (name, one)


@pytest.mark.parametrize("arguments", ["serve", "dev", "admin release show", "admin receipts list"])
def test_a_process_names_the_extra_that_it_needs(
    environments: dict[str, Environment], arguments: str
) -> None:
    """A missing extra ends a fresh process with two lines and status 20."""
    assert _names_the_extra(environments["base"].run(*arguments.split()), "node")


def test_a_login_that_demands_evidence_names_the_extra(
    environments: dict[str, Environment], tmp_path: Path
) -> None:
    """A missing extra that only an option needs is reported before a request to the node, and no
    login is stored."""
    policy, home = tmp_path / "policy.json", tmp_path / "home"
    code = Policy(measurements=(measurements_of("image"),))
    policy.write_text(json.dumps(policy_json(code)))
    demanding = ("--require-node-evidence", "--node-policy", str(policy))
    login = ("login", "--node", NOWHERE, "--new", "--home", str(home))
    assert _names_the_extra(environments["base"].run(*login, *demanding), "verify")
    assert not (home / "profile.json").exists()


def test_a_demand_that_is_remembered_is_not_dropped(
    environments: dict[str, Environment], tmp_path: Path
) -> None:
    """Every command fails if the login requires evidence of the node and the extra that checks it
    is missing."""
    demanded = NodePolicy(code=Policy(measurements=(measurements_of("image"),)))
    session = key_session(bytes(range(32)))
    login = Profile(
        node=NOWHERE,
        owner=session.owner,
        key_file=tmp_path / "wallet.key",
        trust_root=None,
        collateral=None,
        node_policy=demanded,
    )
    OwnerHome(tmp_path / "home").keep(login, session)
    assert _names_the_extra(
        environments["base"].run("secret", "list", "--home", str(tmp_path / "home")), "verify"
    )


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (f"serve --data {{data}} --port 0 --store {DATABASE}", "postgres"),
        (f"serve --data {{data}} --port 0 --objects {BUCKET}", "s3"),
        (f"admin migrate-store --data {{data}} --store {DATABASE} --to postgresql", "postgres"),
        (f"admin migrate-objects --data {{data}} --objects {BUCKET} --to bucket", "s3"),
    ],
)
async def test_a_client_that_is_not_installed_names_its_extra(
    environments: dict[str, Environment], tmp_path: Path, arguments: str, extra: str
) -> None:
    """`serve` reports an extra that only a setting needs before it starts a process."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    async with embedded_node(config):
        pass
    ended = await asyncio.to_thread(
        environments["node"].run, *arguments.format(data=tmp_path / "data").split()
    )
    assert _names_the_extra(ended, extra), ended


def test_yaml_names_its_extra(environments: dict[str, Environment], tmp_path: Path) -> None:
    """A file of secrets in YAML needs the extra for YAML, and the error names the extra."""
    for name, text in (("values.yaml", "A: 1"), ("values.json", "{}")):
        (tmp_path / name).write_text(text)
    base = environments["base"]
    assert _names_the_extra(base.run("secret", "import", str(tmp_path / "values.yaml")), "yaml")
    assert base.run("secret", "import", str(tmp_path / "values.json")).status == 0


def test_another_module_that_is_missing_is_a_fault() -> None:
    """Only a missing module of an extra is explained; a missing module of ours raises an error."""
    group = LazyGroup({"absent": Row("sealspace.cli.absent", "Is not there.")}, name="group")
    with pytest.raises(ModuleNotFoundError, match=r"sealspace\.cli\.absent"):
        group.main(["absent"], standalone_mode=False)


@pytest.mark.slow
def test_the_extra_is_enough_to_run_a_node(
    environments: dict[str, Environment], tmp_path: Path
) -> None:
    """The extra that the hint names is enough to serve, on the standard event loop."""
    _serves(
        environments["node"],
        "serve",
        "--data",
        str(tmp_path / "data"),
        "--port",
        "0",
        "--workers",
        "1",
    )


@pytest.mark.slow
def test_the_base_install_is_enough_for_the_example_backend(
    environments: dict[str, Environment], tmp_path: Path
) -> None:
    """A backend runs on a simulated platform without an extra."""
    base = environments["base"]
    assert base.run("backend", "simulate", str(tmp_path / "tee")).status == 0
    with base.start_example(REPOSITORY / "examples" / "backend.py", tmp_path) as process:
        try:
            assert process.stdout is not None
            assert any("Running on http://127.0.0.1:" in line for line in process.stdout)
        finally:
            process.kill()


def _serves(place: Environment, *arguments: str) -> None:
    """Start a command, wait until it listens, and end it."""
    with place.start(*arguments) as process:
        try:
            assert process.stderr is not None
            assert any(line.startswith("listening on http://127.0.0.1:") for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
