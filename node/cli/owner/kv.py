"""`sealspace kv`: values in the owner's spaces, as they are: nothing is sealed.

A value comes from standard input or a file, never from an argument.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from capabilities.strict_json import Json
from sealspace.errors import InvalidInput, NotFound, PreconditionFailed, SpaceNotFound
from sealspace.kv import Value

from ...errors import AlreadyThere, NotThere
from ..shared import shared
from ..terminal import confirm, print_json, print_lines, print_value, progress, watched, words
from .owner_profile import owner_home

_key = click.argument("key", metavar="KEY")
_space = click.option("--space", metavar="NAME", help="A space of yours, or any by its whole id; by default `default`.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_STANDARD = Path("-")


@click.command(
    "put",
    epilog="Examples: `sealspace kv put notes/today < today.txt`; `sealspace kv put film --file film.mkv --type "
    "video/x-matroska`.",
)
@_key
@click.argument("value", metavar="", nargs=-1)
@_space
@click.option(
    "--file",
    "source",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the value from a file instead of standard input.",
)
@click.option("--type", "content_type", metavar="MIME", help="Content type that is kept with it, like text/plain.")
@click.option("--if-absent", is_flag=True, help="Only if there is no value now; otherwise refuse.")
@click.option("--if-match", metavar="ETAG", help="Only over the value of this version, which `head` prints.")
@_yes
def put(
    key: str,
    value: tuple[str, ...],
    space: str | None,
    source: Path | None,
    content_type: str | None,
    if_absent: bool,
    if_match: str | None,
    yes: bool,
) -> None:
    """Store a value, byte for byte, from standard input or a file; over an older one a person is asked."""
    if value:
        raise InvalidInput(
            "a value is never an argument: the list of processes shows it, and the shell keeps it",
            hint="sealspace kv put KEY < FILE, or --file FILE",
        )
    if source is None and sys.stdin.isatty():
        raise InvalidInput("nothing is piped in", hint="sealspace kv put KEY < FILE, or --file FILE")
    if if_absent and if_match is not None:
        raise click.UsageError("--if-absent and --if-match contradict each other")
    asks = source is not None and watched() and not yes and if_match is None and not if_absent
    stored = _Stored(key, space, source, content_type)
    try:
        etag = asyncio.run(stored.put(if_absent=if_absent or asks, if_match=if_match))
    except PreconditionFailed:
        if not asks:
            what = f"there is a value {key} already" if if_absent else f"the value {key} is not of that version"
            raise AlreadyThere(what, hint=f"look at it: sealspace kv head {key}") from None
        confirm(f"there is a value {key}: replace it?", yes=yes)
        etag = asyncio.run(stored.put(if_absent=False, if_match=None))
    if shared().as_json:
        print_json({"key": key, "etag": etag})
    words(f"stored {key}, version {etag}")


@click.command("get")
@_key
@_space
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Into a file instead of standard output.",
)
@click.option("--raw", is_flag=True, help="Write it to a terminal as it is, with whatever it does there.")
@_yes
def get(key: str, space: str | None, out: Path | None, raw: bool, yes: bool) -> None:
    """Print a value, byte for byte; a terminal is shown printable text only."""
    if out is not None:
        if out.exists():
            confirm(f"replace the file {out}?", yes=yes)
        asyncio.run(_download(key, space, out))
        words(f"{key} is in {out}")
    elif sys.stdout.isatty() and not raw:
        body = asyncio.run(_get(key, space)).body
        try:
            print_value(body.decode(), raw=False)
        except UnicodeDecodeError:
            print_value(body, raw=False)
    else:
        asyncio.run(_download(key, space, _STANDARD))


@click.command("head")
@_key
@_space
def head(key: str, space: str | None) -> None:
    """Print version, content type and metadata of a value, without the value."""
    found = asyncio.run(_head(key, space))
    said: dict[str, Json] = {"key": key, "etag": found.etag, "contentType": found.content_type}
    if shared().as_json:
        print_json({**said, "metadata": dict(found.metadata)})
        return
    print_lines(*(f"{name:<12} {value}" for name, value in said.items() if value is not None))
    print_lines(*(f"{name:<12} {value}" for name, value in found.metadata.items()))


@click.command("list")
@click.argument("prefix", metavar="[PREFIX]", default="")
@_space
def list_(prefix: str, space: str | None) -> None:
    """Print the keys that begin with PREFIX, or all, in ascending order."""
    keys = asyncio.run(_list(prefix, space))
    if shared().as_json:
        print_json(keys)
        return
    print_lines(*keys)
    if not keys:
        words("no values here yet; next: sealspace kv put KEY < FILE")


@click.command("delete")
@_key
@_space
@_yes
def delete(key: str, space: str | None, yes: bool) -> None:
    """Delete a value; a person is asked."""
    if watched():
        confirm(f"delete the value {key}?", yes=yes)
    asyncio.run(_delete(key, space))
    words(f"deleted {key}")


class _Stored:
    """A value on its way to the node, which may have to be sent twice."""

    def __init__(self, key: str, space: str | None, source: Path | None, content_type: str | None) -> None:
        self._key, self._space, self._source, self._type = key, space, source, content_type

    async def put(self, *, if_absent: bool, if_match: str | None) -> str:
        """Store it and return its version."""
        async with owner_home().client() as client:
            values = client.kv(self._space)
            with progress(None, "sending") as report, _explained(self._key, self._space):
                return await values.upload(
                    self._key,
                    sys.stdin.buffer if self._source is None else self._source,
                    content_type=self._type,
                    if_absent=if_absent,
                    if_match=if_match,
                    progress=report,
                )


async def _download(key: str, space: str | None, out: Path) -> None:
    async with owner_home().client() as client:
        with progress(None, "receiving") as report, _explained(key, space):
            to = sys.stdout.buffer if out == _STANDARD else out
            await client.kv(space).download(key, to, progress=report)
            sys.stdout.flush()


async def _get(key: str, space: str | None) -> Value:
    async with owner_home().client() as client:
        with _explained(key, space):
            return await client.kv(space).get(key)


async def _head(key: str, space: str | None) -> Value:
    async with owner_home().client() as client:
        with _explained(key, space):
            return await client.kv(space).metadata(key)


async def _list(prefix: str, space: str | None) -> list[str]:
    async with owner_home().client() as client:
        with _explained(prefix, space):
            return [key async for key in client.kv(space).list(prefix)]


async def _delete(key: str, space: str | None) -> None:
    async with owner_home().client() as client:
        with _explained(key, space):
            if await client.kv(space).delete(key) is None:  # it was deleted before
                raise NotFound(200, "")


@contextmanager
def _explained(key: str, space: str | None) -> Iterator[None]:
    """Have refusals say what to do on the command line."""
    named = "" if space is None else f" --space {space}"
    try:
        yield
    except SpaceNotFound:
        raise NotThere(f"there is no space {space or 'default'} here", hint="sealspace space list") from None
    except NotFound:
        raise NotThere(f"there is no value {key}", hint=f"sealspace kv list{named}") from None
