"""`sealspace secret`: keep secrets in the owner's space, sealed before they leave this machine."""

import asyncio
import sys

import click

from sealspace.errors import InvalidInput
from sealspace.secrets import MAX_SECRET_BYTES

from ..shared import shared
from ..terminal import print_json, print_lines, words
from .owner_profile import OwnerHome, owner_home

_scope = click.option("--scope", metavar="SCOPE", help="Keep it under a scope of its own.")


@click.command("put", epilog="Example: `sealspace secret put API_KEY < key.txt`, or without `<` to be asked for it.")
@click.argument("name")
@_scope
@click.option("--keep-newline", is_flag=True, help="Keep the line break at the end of standard input.")
def put(name: str, scope: str | None, keep_newline: bool) -> None:
    """Seal and store a secret; its value comes from standard input, never from an argument."""
    asyncio.run(_put(owner_home(), name, _value(keep_newline=keep_newline), scope=scope))
    words(f"stored {name}")


@click.command("list")
@_scope
def list_(scope: str | None) -> None:
    """Print the names of secrets, never a value."""
    names = asyncio.run(_list(owner_home(), scope=scope))
    if shared().as_json:
        print_json(names)
    else:
        print_lines(*names)


@click.command("delete")
@click.argument("name")
@_scope
def delete(name: str, scope: str | None) -> None:
    """Delete a secret."""
    asyncio.run(_delete(owner_home(), name, scope=scope))
    words(f"deleted {name}")


def _value(*, keep_newline: bool) -> str:
    """Prompt for a value without echo on a terminal; otherwise read it."""
    if sys.stdin.isatty():
        value: str = click.prompt("value", hide_input=True, confirmation_prompt=True, err=True)
        return value
    data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("a secret is a Unicode text", hint="encode bytes first, for example in base64") from None
    if len(data) > MAX_SECRET_BYTES:
        raise InvalidInput(f"a secret holds at most {MAX_SECRET_BYTES} bytes", hint="put a key there, not the data")
    text = text if keep_newline else text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise InvalidInput("standard input is empty", hint="sealspace secret put NAME < FILE")
    return text


async def _put(home: OwnerHome, name: str, value: str, *, scope: str | None) -> None:
    async with home.client() as client:
        await client.secrets().put(name, value, scope=scope)


async def _list(home: OwnerHome, *, scope: str | None) -> list[str]:
    async with home.client() as client:
        return list(await client.secrets().list(scope=scope))


async def _delete(home: OwnerHome, name: str, *, scope: str | None) -> None:
    async with home.client() as client:
        await client.secrets().delete(name, scope=scope)
