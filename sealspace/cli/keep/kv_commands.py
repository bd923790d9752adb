"""The commands `sealspace kv`, which store and read unencrypted values.

A value comes from standard input or a file, never from an argument.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import click

from ...client import Client
from ...errors import (
    InvalidInput,
    NotFound,
    NotGranted,
    PreconditionFailed,
    SpaceNotFound,
    Unauthorized,
)
from ...kv import Kv
from ...service.command_errors import AlreadyThere, NotThere
from ..options.paths import NEW_FILE, file_option
from ..owner.owner_profile import at_node
from ..terminal import (
    confirm,
    confirm_replacing,
    facts,
    flag_option,
    is_interactive,
    print_result,
    print_value,
    progress,
    raw_option,
    tell,
    yes_option,
)
from .space import require_own_space

_HOW_TO_PUT = "sealspace kv put KEY < FILE, or --file FILE"

_key = click.argument("key")
space_option = click.option(
    "--space",
    metavar="NAME",
    help="The name of one of your spaces, or a full space id; `default` if omitted.",
)


@click.command(
    epilog="Examples: `sealspace kv put notes/today < today.txt`; `sealspace kv put film --file"
    " film.mkv --type video/x-matroska`.",
)
@_key
@click.argument("value", metavar="", nargs=-1)
@space_option
@file_option("--file", "source", help="Read the value from a file instead of standard input.")
@click.option(
    "--type",
    "content_type",
    metavar="MIME",
    help="Content type to store with the value, like text/plain.",
)
@flag_option("--if-absent", help="Fail if the key already has a value.")
@click.option(
    "--if-match",
    metavar="VERSION",
    help="Replace the value only if VERSION is its current version; `kv head` prints the version.",
)
@yes_option
@at_node
async def put(
    client: Client,
    key: str,
    value: tuple[str, ...],
    space: str | None,
    source: Path | None,
    content_type: str | None,
    if_absent: bool,
    if_match: str | None,
    yes: bool,
) -> None:
    """Store a value from standard input or a file.

    The bytes are stored unchanged. With --file, on a terminal, you are asked before an existing
    value is replaced. A value from standard input replaces it without a question; add --if-absent
    or --if-match to keep it.
    """
    if value:
        raise InvalidInput(
            "the value must not be an argument: process lists and the shell history would show it",
            hint=_HOW_TO_PUT,
        )
    if source is None and sys.stdin.isatty():
        raise InvalidInput("no value on standard input", hint=_HOW_TO_PUT)
    if if_absent and if_match is not None:
        raise click.UsageError("--if-absent and --if-match contradict each other")
    # Before a question, the upload is tried, and after a yes it is sent again. Standard input can
    # be sent only once, so it replaces a value without a question.
    has_condition = if_absent or if_match is not None
    asks = source is not None and is_interactive() and not yes and not has_condition
    async with _values(client, space, key) as values:
        upload = partial(_upload, values, key, source, content_type=content_type)
        if asks:
            version = await _upload_or_ask(values, key, upload)
        else:
            refused = f"the value {key} has another version now"
            if if_absent:
                refused = f"the value {key} already exists"
            with _convert_refusal(key, refused):
                version = await upload(if_absent=if_absent, if_match=if_match)
    print_result({"key": key, "etag": version})
    tell(f"stored {key}, version {version}")


async def _upload(
    values: Kv,
    key: str,
    source: Path | None,
    *,
    content_type: str | None,
    if_absent: bool = False,
    if_match: str | None = None,
) -> str:
    """Upload a file or standard input, show the progress, and return the version of the value."""
    with progress(None, "sending") as report:
        return await values.upload(
            key,
            sys.stdin.buffer if source is None else source,
            content_type=content_type,
            if_absent=if_absent,
            if_match=if_match,
            progress=report,
        )


async def _upload_or_ask(values: Kv, key: str, upload: Callable[..., Awaitable[str]]) -> str:
    """Upload a value, or ask if the key has a value already, and replace exactly that one."""
    try:
        return await upload(if_absent=True)
    except PreconditionFailed:
        stored = await values.metadata(key)
    confirm(f"replace the existing value {key}?")
    with _convert_refusal(key, f"the value {key} was changed in the meantime; nothing was stored"):
        return await upload(if_match=stored.etag)


@contextmanager
def _convert_refusal(key: str, refused: str) -> Iterator[None]:
    """Convert the refusal of a conditional upload to an error with the text `refused`."""
    try:
        yield
    except PreconditionFailed:
        raise AlreadyThere(
            refused, hint=f"inspect the stored value: sealspace kv head {key}"
        ) from None


@click.command()
@_key
@space_option
@click.option("--out", type=NEW_FILE, help="Write to a file instead of standard output.")
@raw_option
@yes_option
@at_node
async def get(
    client: Client, key: str, space: str | None, out: Path | None, raw: bool, yes: bool
) -> None:
    """Print a value.

    The bytes are printed unchanged. On a terminal, only printable text is printed.
    """
    confirm_replacing(out, yes=yes)
    async with _values(client, space, key) as values:
        if out is None and sys.stdout.isatty() and not raw:
            body = (await values.get(key)).body
            try:
                print_value(body.decode())
            except UnicodeDecodeError:
                print_value(body)  # refuses bytes on a terminal
            return
        with progress(None, "receiving") as report:
            await values.download(key, sys.stdout.buffer if out is None else out, progress=report)
            sys.stdout.flush()
    if out is not None:
        tell(f"wrote {key} to {out}")


@click.command()
@_key
@space_option
@at_node
async def head(client: Client, key: str, space: str | None) -> None:
    """Print the version, size, content type and metadata of a value."""
    size_bytes: int | None = None
    async with _values(client, space, key) as values:
        value = await values.metadata(key)
        with suppress(NotGranted):  # the size needs the right to read the value
            size_bytes = await values.size_bytes(key)
    document = {
        "key": key,
        "etag": value.etag,
        "contentType": value.content_type,
        "size": size_bytes,
        "metadata": dict(value.metadata),
    }
    facts_by_label = {
        "key": key,
        "version": value.etag,
        "size": None if size_bytes is None else f"{size_bytes} bytes",
        "content type": value.content_type,
        **value.metadata,
    }
    print_result(document, facts(facts_by_label))


@click.command()
@click.argument("prefix", default="")
@space_option
@at_node
async def list_(client: Client, prefix: str, space: str | None) -> None:
    """List the keys that begin with PREFIX.

    Without PREFIX, all keys are listed. The keys are in ascending order.
    """
    async with _values(client, space, prefix) as values:
        keys = await _keys_with(values, prefix)
    print_result(keys, keys)
    if not keys:
        tell("no values here yet; next: sealspace kv put KEY < FILE")


@click.command()
@_key
@space_option
@yes_option
@at_node
async def delete(client: Client, key: str, space: str | None, yes: bool) -> None:
    """Delete a value.

    On a terminal, you are asked to confirm.
    """
    if is_interactive():
        confirm(f"delete the value {key}?", yes=yes)
    async with _values(client, space, key) as values:
        if await values.delete(key) is None:
            # There is no value. `_values` converts this to the error for an unknown key.
            raise NotFound(200, "")
    tell(f"deleted {key}")


async def _keys_with(values: Kv, prefix: str) -> list[str]:
    """Return the keys that begin with a text.

    A node lists by whole segments of a path, so the folder around the text is listed. A session
    that may not list it gets the keys at the text and below it.
    """
    folder = prefix[: prefix.rfind("/") + 1]
    try:
        return [key async for key in values.list(folder) if key.startswith(prefix)]
    except (NotGranted, Unauthorized):
        if folder == prefix:
            raise
        return [key async for key in values.list(prefix)]


@asynccontextmanager
async def _values(client: Client, space: str | None, key: str) -> AsyncIterator[Kv]:
    """Yield a client for the values in a space.

    Errors raised in the `with` block get a hint.
    """
    async with next_steps(client, space, "kv", f"there is no value with the key {key}"):
        yield client.kv(space)


@asynccontextmanager
async def next_steps(
    client: Client, space: str | None, group: str, missing: str
) -> AsyncIterator[None]:
    """Add next steps to the errors about a space.

    Other things that are not found are described by `missing`; `sealspace GROUP list` lists them.
    """
    try:
        yield
    except SpaceNotFound:
        raise NotThere(
            f"this node has no space {space or 'default'}, or does not show it to you",
            hint="sealspace space list",
        ) from None
    except NotFound:
        space_option = "" if space is None else f" --space {space}"
        raise NotThere(missing, hint=f"sealspace {group} list{space_option}") from None
    except NotGranted as refusal:
        # A name without a colon is that of an owner's space, which this login did not ask for. A
        # new login adds its rights, if there is such a space.
        if space is not None and ":" not in space:
            with suppress(NotGranted):  # the session may lack the right to list spaces
                await require_own_space(client, space)
            refusal.step = f"sealspace login --space {space}"
        raise
