"""Versions of values on the wire: who reads and removes them, and how (M56 to M58)."""

from kv_client import Owner, etag
from running_node import Reply

NAME = "vault/secrets/API_KEY"
WORDS = {"space": "secrets"}


async def put(owner: Owner, *bodies: bytes, path: str = NAME) -> None:
    for body in bodies:
        reply = await owner.invoke(("put", path), body=body, space="secrets")
        assert reply.status == 200


async def ask(owner: Owner, verb: str, version: object, path: str = NAME) -> Reply:
    headers = {"x-sealspace-version": str(version)}
    return await owner.invoke((verb, path), headers=headers, space="secrets")


async def test_version_comes_back(owner: Owner) -> None:
    """A replaced value is read by its number, with the headers that it was stored with (M56)."""
    await owner.invoke(
        ("put", NAME), body=b"one", space="secrets", headers={"X-TinyCloud-Meta-A": "first"}
    )
    await put(owner, b"two")
    reply = await ask(owner, "get", 1)
    assert (reply.status, reply.body) == (200, b"one")
    shown = {name: reply.headers[name] for name in ("etag", "x-sealspace-version")}
    assert shown == {"etag": etag(b"one"), "x-sealspace-version": "1"}
    assert (reply.headers["x-tinycloud-meta-a"], "last-modified" in reply.headers) == (
        "first",
        True,
    )
    current = await ask(owner, "get", 2)
    assert (current.body, current.headers["x-sealspace-version"]) == (b"two", "2")
    assert (await ask(owner, "metadata", 1)).headers["etag"] == etag(b"one")
