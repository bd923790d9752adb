"""Tests of the operator's routes for limits: access, answers and effects."""

import json
from pathlib import Path

import pytest
from audit_records import audit_records

from node.config.loading import load_config
from node.config.tree import Admin, Config, Hosting
from sealspace.service.command_errors import ConfigurationError
from spaces.values.metadata import ROW_BYTES

SECRET = "canary-of-the-operator"
ADMIN = Admin(secret=SECRET)
BEARER = f"Bearer {SECRET}"


async def ask(node, method: str, rest: str = "", body: bytes | None = None, token: str = BEARER):
    path = f"/admin/{rest}"
    return await (
        node.send(method, path, token=token)
        if body is None
        else node.json(method, path, body, token=token)
    )


def quota_of(node, name: str = "default") -> str:
    return f"quota/{node.space(name).replace(':', '%3A')}"


@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", "quota"), ("GET", "usage"), ("DELETE", "quota/x"), ("PUT", "quota/x")],
)
async def test_only_the_operator(serve, method: str, rest: str) -> None:
    """Without the exact secret every route answers the 401 page before any other check."""
    async with serve(admin=ADMIN) as node:
        body = b'{"limit_bytes":1}' if method == "PUT" else None
        kind = {"content_type": "application/json"} if body else {}
        for token in (
            None,
            "",
            "Bearer",
            SECRET,
            f"bearer {SECRET}",
            f"Bearer {SECRET}x",
            "Bearer ä",
        ):
            sent = None if token is None else token.encode("utf-8").decode("latin-1")
            assert (
                await node.send(method, f"/admin/{rest}", token=sent, body=body, **kind)
            ).status == 401, token


@pytest.mark.parametrize("admin", [Admin(), Admin(secret="")])
async def test_without_a_secret_there_is_no_operator(serve, admin: Admin) -> None:
    """A node without a secret answers 503 and names the setting, also for an empty token."""
    async with serve(admin=admin) as node:
        for token in (BEARER, "Bearer ", None):
            for path in ("/admin", "/admin/quota", "/admin/nothing"):
                reply = await node.send("GET", path, token=token)
                assert reply.status == 503
                assert "`admin.secret_file`" in reply.text


async def test_the_secret_from_a_file(serve, tmp_path: Path) -> None:
    """The secret may be in a file; surrounding whitespace is ignored."""
    file = tmp_path / "admin-secret"
    file.write_text(f"{SECRET}\n")
    async with serve(admin=Admin(secret_file=str(file))) as node:
        assert (await ask(node, "GET", "quota")).status == 200


@pytest.mark.parametrize("content", [None, b"x" * 5000])
async def test_a_file_that_is_no_secret(serve, tmp_path: Path, content: bytes | None) -> None:
    """A missing or overlong secret file prevents the start."""
    file = tmp_path / "admin-secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError):
        async with serve(admin=Admin(secret_file=str(file))):
            pass


def test_where_the_secret_may_stand(tmp_path: Path) -> None:
    """The secret comes from the environment, never from a settings file, and is never printed."""
    config = load_config(environment={"SEALSPACE_ADMIN__SECRET": SECRET})
    assert config.admin == ADMIN
    assert SECRET not in repr(config)
    file = tmp_path / "sealspace.toml"
    file.write_text(f'[admin]\nsecret = "{SECRET}"\n')
    with pytest.raises(ConfigurationError) as refused:
        load_config(file=file, environment={})
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigurationError):
        load_config(
            environment={"SEALSPACE_ADMIN__SECRET": SECRET, "SEALSPACE_ADMIN__SECRET_FILE": "x"}
        )


async def test_a_limit_holds_and_outlives_a_restart(serve) -> None:
    """A space's limit applies from the next put on, also after a restart, until it is removed."""
    async with serve(admin=ADMIN) as node:
        await node.put("a", b"hello")
        view = json.loads((await ask(node, "PUT", quota_of(node), b'{"limit_bytes":7}')).body)
        assert view == {
            "space_id": node.space(),
            "override_bytes": 7,
            "effective_limit_bytes": 7,
            "current_usage_bytes": None,
        }
        assert (await node.put("b", b"xyz")).storage_said == (
            413,
            "Write exceeds remaining storage. Used: 5 bytes, Limit: 7 bytes",
        )
    async with serve(admin=ADMIN) as node:
        assert (await node.put("b", b"xyz")).status == 413
        assert (await node.put("b", b"xy")).status == 200
        assert (await node.put("c", b"x")).storage_said == (
            402,
            "Storage quota exceeded. Used: 7 bytes, Limit: 7 bytes",
        )
        reported = json.loads((await ask(node, "GET", "quota")).body)
        assert reported == {"overrides": {node.space(): 7}, "default_limit_bytes": 1 << 30}
        gone = json.loads((await ask(node, "DELETE", quota_of(node))).body)
        assert gone["override_bytes"] is None
        assert gone["effective_limit_bytes"] == 1 << 30
        assert (await node.put("c", b"x")).status == 200
        assert json.loads((await ask(node, "GET", quota_of(node))).body)["current_usage_bytes"] == 8


async def test_a_limit_of_nothing(serve) -> None:
    """With a limit of 0 nothing can be stored, but values can be deleted."""
    async with serve(admin=ADMIN) as node:
        await node.put("a", b"x")
        await ask(node, "PUT", quota_of(node), b'{"limit_bytes":0}')
        assert (await node.put("b", b"x")).status == 402
        assert (
            await node.send(
                "POST", "/invoke", token=node.token({node.kv("a"): ["tinycloud.kv/del"]})
            )
        ).status == 200


async def test_the_limit_of_a_public_space_is_reported_truly(serve) -> None:
    """A public space has the public limit, which is reported (M53)."""
    async with serve(admin=ADMIN) as node:
        view = json.loads(
            (await ask(node, "PUT", quota_of(node, "public"), b'{"limit_bytes":1}')).body
        )
        assert view["override_bytes"] == 1
        assert view["effective_limit_bytes"] == 256 << 20
        assert (await node.put("a", b"hello", name="public")).status == 200


async def test_no_default_limit(serve) -> None:
    """With the default switched off there is no limit, and none is reported."""
    async with serve(admin=ADMIN, hosting=Hosting(default_quota_bytes=0)) as node:
        assert json.loads((await ask(node, "GET", "quota")).body)["default_limit_bytes"] is None
        assert json.loads((await ask(node, "GET", quota_of(node))).body) == {
            "space_id": node.space(),
            "override_bytes": None,
            "effective_limit_bytes": None,
            "current_usage_bytes": None,
        }


@pytest.mark.parametrize(
    ("rest", "body", "status"),
    [
        ("quota/nonsense", b'{"limit_bytes":1}', 400),
        (None, b'{"limit_bytes":-1}', 422),
        (None, b'{"limit_bytes":1.5}', 422),
        (None, b'{"limit_bytes":99999999999999999999}', 422),
        (None, b'{"limit":1}', 422),
        (None, b"[1]", 422),
        (None, b"{", 400),
        (None, b'{"limit_bytes":1' + b" " * 5000 + b"}", 413),
    ],
)
async def test_limits_that_are_none(serve, rest: str | None, body: bytes, status: int) -> None:
    """An invalid space or limit changes nothing."""
    async with serve(admin=ADMIN) as node:
        assert (await ask(node, "PUT", rest or quota_of(node), body)).status == status
        assert json.loads((await ask(node, "GET", "quota")).body)["overrides"] == {}


async def test_usage_is_reported_largest_first(serve) -> None:
    """Spaces are listed by size, as many as requested, with their total number."""
    async with serve(admin=ADMIN) as node:
        for name, body in {"a": b"12", "b": b"123", "c": b""}.items():
            await node.put("x", body, name=name)
        reported = json.loads((await ask(node, "GET", "usage")).body)
        assert [(row["space_id"], row["usage_bytes"]) for row in reported["spaces"]] == [
            (node.space("b"), 3),
            (node.space("a"), 2),
            (node.space("c"), 0),
        ]
        assert [row["row_bytes"] for row in reported["spaces"]] == [ROW_BYTES + 1] * 3
        assert reported["count"] == 3
        one = json.loads((await ask(node, "GET", "usage?limit=1")).body)
        assert [row["usage_bytes"] for row in one["spaces"]] == [3]
        assert one["count"] == 3


async def test_what_the_operator_does_is_audited(serve) -> None:
    """Setting and removing a limit each leave an audit record."""
    async with serve(admin=ADMIN) as node:
        await ask(node, "PUT", quota_of(node), b'{"limit_bytes":7}')
        node.clock.advance(1)
        await ask(node, "DELETE", quota_of(node))
        records = await audit_records(node.node.services.store)
        found = [
            (r.action, r.actor, r.subject, r.detail)
            for r in records
            if r.action.startswith("quota")
        ]
        assert found == [
            ("quota.set", "operator", node.space(), b"7"),
            ("quota.cleared", "operator", node.space(), b""),
        ]


def test_settings_are_kept_apart() -> None:
    """The sections of the settings have the protocol's defaults."""
    config = Config()
    assert config.public_spaces.requests_per_minute == 60
    assert config.public_spaces.burst == 10
    assert config.public_spaces.storage_limit_bytes == 256 << 20
