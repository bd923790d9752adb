"""Tests of the planning of tokens on /invoke, before an operation runs."""

from collections.abc import AsyncIterator, Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from capabilities.capability_errors import WrongKind
from capabilities.resources import parse_space_id
from capabilities.tokens import Invocation
from node.http.routes.invoke import message_of
from node.operations.authorise import admit_token
from node.operations.operation_table import TABLE, Plan, plan_call, row_of
from node.operations.values.conditions import NO_OPTIONS
from node.operations.values.plan import OperationTarget
from node.refusal import Refusal
from node.services import SERVICES

KV = ("get", "metadata", "list", "put", "del")
NETWORK = "urn:tinycloud:encryption:did:key:z6Mk:default"
READ = "tinycloud.capabilities/read"
DECRYPT = "tinycloud.encryption/decrypt"
NO_COMMON_ANSWER = "Multiple invocation outcomes require a homogeneous KV get or metadata batch"
ONLY_PUTS = "KV batch put only accepts tinycloud.kv/put capabilities with paths"
FORMAT_VERSION = {"Content-Type": "Multipart/Form-Data; boundary=x"}


class Asking:
    """Plans an owner's tokens at a node, and runs none of them."""

    def __init__(self, there) -> None:
        self.there = there
        self.space = there.space()

    def invocation(self, grants: Mapping[str, list[str]]) -> Invocation:
        """Return an admitted token."""
        return admit_token(self.there.token(grants), now=self.there.clock.now(), max_lifetime_s=300)

    def plan(self, *grants: tuple[str, str], headers: Mapping[str, str] | None = None) -> Plan:
        """Plan a token with abilities on resources; one with a leading `/` is in the space."""
        wanted: dict[str, list[str]] = {}
        for ability, resource in grants:
            name = f"{self.space}{resource}" if resource.startswith("/") else resource
            wanted.setdefault(name, []).append(ability)
        app = web.Application()
        app[SERVICES] = services = self.there.node.services
        request: web.Request = make_mocked_request("POST", "/invoke", headers=headers, app=app)
        return plan_call(
            services, self.invocation(wanted), message_of(request, services.config.http)
        )


@pytest.fixture
async def asking(serve) -> AsyncIterator[Asking]:
    """An owner at a node."""
    async with serve() as there:
        yield Asking(there)


def test_a_row_has_its_ability_for_itself() -> None:
    """Every row is found by its own ability and its other names, and no two rows share one."""
    assert len({row.ability for row in TABLE}) == len(TABLE)
    assert [row_of(row.ability + "any" * row.ability.endswith("/")) for row in TABLE] == list(TABLE)
    assert row_of("tinycloud.kv/delete") is row_of("tinycloud.kv/del")
    assert [
        row_of(f"tinycloud.{name}") for name in ("kv/*", "kv", "sqlite/read", "delegation/list")
    ] == [None] * 4


@pytest.mark.parametrize("name", [*KV, "delete"])
async def test_one_value(asking: Asking, name: str) -> None:
    """A token for one operation is planned as that one, by default without options."""
    plan = asking.plan((f"tinycloud.kv/{name}", "/kv/a/b"))
    assert plan.row is row_of(f"tinycloud.kv/{name}")
    assert plan.operation == plan.row.operation
    assert plan.run == plan.row.run
    assert plan.request.targets == (OperationTarget(parse_space_id(asking.space), "a/b"),)
    assert plan.request.options is NO_OPTIONS


@pytest.mark.parametrize(
    ("ability", "resource"),
    [
        ("tinycloud.kv/get", "/kv"),
        ("tinycloud.kv/get", "/photos/a"),
        ("tinycloud.kv/get", "urn:x"),
        (READ, "/capabilities/all?x"),
        (READ, "/capabilities/all/"),
        ("tinycloud.space/info", "/space?x=1"),
        ("tinycloud.space/list", "/space/a"),
        ("tinycloud.sql/read", "/kv/a"),
        ("tinycloud.duckdb/read", "/sql/a"),
        (DECRYPT, "urn:x"),
        (DECRYPT, "/kv/a"),
        ("tinycloud.delegation/revoke", "/delegation"),
        ("anybody.else/does", "/kv/a"),
    ],
)
async def test_what_asks_for_nothing(asking: Asking, ability: str, resource: str) -> None:
    """An ability on a resource that its row does not serve has no outcome."""
    assert asking.plan((ability, resource)).row not in TABLE
    beside = asking.plan((ability, resource), ("tinycloud.kv/get", "/kv/a"))
    assert beside.operation == "kv_get"
    assert [target.path for target in beside.request.targets] == ["a"]


async def test_who_takes_a_token(asking: Asking) -> None:
    """Decrypt, then SQL, then DuckDB take the whole token, whatever else it holds (I6 to I8)."""
    rest = [
        ("tinycloud.kv/get", "/kv/a"),
        ("tinycloud.duckdb/write", "/duckdb/a"),
        ("tinycloud.sql/select", "/sql/a"),
        (DECRYPT, NETWORK),
    ]
    while len(rest) > 1:
        ability, _ = rest[-1]
        for grants in (rest, rest[::-1]):
            plan = asking.plan(*grants, headers={"X-TinyCloud-Limit": "none"})
            assert plan.row is row_of(ability)
        rest.pop()


async def test_other_routes(asking: Asking) -> None:
    """A token for another route is refused, unless it is a decrypt request (T12, I6)."""
    for ability, resource in (
        ("tinycloud.delegation/revoke", "urn:cid:x"),
        ("sealspace.encryption/policy", NETWORK),
        ("sealspace.any/thing", "/kv/a"),
    ):
        for beside in ((), (("tinycloud.sql/read", "/sql/a"),), (("tinycloud.kv/get", "/kv/a"),)):
            with pytest.raises(WrongKind):
                asking.plan((ability, resource), *beside)
        assert asking.plan((ability, resource), (DECRYPT, NETWORK)).operation == "decrypt"


@pytest.mark.parametrize(
    ("names", "operation"),
    [
        (("get", "get"), "kv_batch"),
        (("metadata",) * 3, "kv_batch"),
        (("del", "delete"), "kv_batch"),
    ],
)
async def test_batches(asking: Asking, names: tuple[str, ...], operation: str) -> None:
    """Gets, metadata reads and deletes share an answer with their own kind."""
    plan = asking.plan(*[(f"tinycloud.kv/{name}", f"/kv/{at}") for at, name in enumerate(names)])
    assert plan.row.batch is not None
    assert plan.operation == operation
    assert plan.run == plan.row.batch.run
    assert ["0", "1", "2"][: len(names)] == [target.path for target in plan.request.targets]


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        ([("kv/get", "/kv/a"), ("kv/metadata", "/kv/a")], NO_COMMON_ANSWER),
        ([("kv/list", "/kv/a"), ("kv/list", "/kv/b")], NO_COMMON_ANSWER),
        ([("kv/get", "/kv/a"), ("space/list", "/space")], NO_COMMON_ANSWER),
        ([("space/info", "/space/a"), ("space/info", "/space/b")], NO_COMMON_ANSWER),
        ([("kv/put", "/kv/a"), ("kv/del", "/kv/b")], NO_COMMON_ANSWER),
        ([("kv/put", "/kv/a"), ("kv/put", "/kv/b")], "KV batch put requires multipart/form-data"),
        ([("kv/get", f"/kv/{at}") for at in range(101)], "KV batch reads accept at most 100 keys"),
        ([("kv/list", f"/kv/{at}") for at in range(101)], "KV batch reads accept at most 100 keys"),
        (
            [("kv/del", f"/kv/{at}") for at in range(251)],
            "KV batch delete accepts at most 250 keys",
        ),
    ],
)
async def test_outcomes_without_a_common_answer(
    asking: Asking, grants: list[tuple[str, str]], said: str
) -> None:
    """Outcomes that cannot share an answer are refused before anything runs (Q3)."""
    with pytest.raises(Refusal) as refused:
        asking.plan(*[(f"tinycloud.{name}", resource) for name, resource in grants])
    assert said == str(refused.value)


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        ([("kv/put", "/kv/a")], None),
        ([("kv/put", "/kv/a"), ("kv/put", "/kv/b")], None),
        ([("kv/get", "/kv/a")], "as it is"),
        ([("kv/put", "/kv/a"), ("kv/get", "/kv/a")], ONLY_PUTS),
        ([("kv/put", "/kv/a"), ("kv/put", "/kv")], ONLY_PUTS),
        ([("kv/put", "/kv/a"), ("capabilities/read", "/capabilities/all")], ONLY_PUTS),
        ([("kv/put", f"/kv/{at}") for at in range(251)], "KV batch put accepts at most 250 keys"),
        (
            [("kv/put", "/kv/a"), ("kv/put", "/kv/a?b")],
            "Duplicate KV batch put capability for path a",
        ),
    ],
)
async def test_forms(asking: Asking, grants: list[tuple[str, str]], said: str | None) -> None:
    """A form with a put makes a batch of puts, and other capabilities are then refused (I10)."""
    wanted = [(f"tinycloud.{name}", resource) for name, resource in grants]
    if said in (None, "as it is"):
        assert asking.plan(*wanted, headers=FORMAT_VERSION).operation == (
            "kv_batch" if said is None else "kv_get"
        )
        return
    with pytest.raises(Refusal) as refused:
        asking.plan(*wanted, headers=FORMAT_VERSION)
    assert said == str(refused.value)


async def test_options_come_before_outcomes(asking: Asking) -> None:
    """A malformed option is reported first, and a valid one reaches the run, without what counts as
    white space around it (I9)."""
    grants = [("tinycloud.kv/get", "/kv/a"), ("tinycloud.space/list", "/space")]
    with pytest.raises(Refusal, match="positive integer"):
        asking.plan(*grants, headers={"X-TINYCLOUD-LIMIT": "none"})
    for limit in ("7", " 7 ", "7\x1f"):
        plan = asking.plan(("tinycloud.kv/list", "/kv/a"), headers={"X-TINYCLOUD-LIMIT": limit})
        assert plan.request.options.list_limit == 7
