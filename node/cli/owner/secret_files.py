"""`sealspace secret import` and `export`: many secrets from a file, and into one."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import click

from sealspace.errors import BatchIncomplete, InvalidInput
from sealspace.private_files import replace_file

from ..shared import shared
from ..terminal import confirm, print_json, print_lines, print_value, watched, words
from .dotenv import MAX_FILE_BYTES, BrokenEntry, encode_dotenv, parse_dotenv, parse_values, values_json
from .owner_profile import OwnerHome, owner_home
from .secret import scope_option, yes_option

Written = Literal["env", "json"]
WRITTEN: Final[tuple[Written, ...]] = ("env", "json")
Format = Literal["env", "json", "yaml"]
FORMATS: Final[tuple[Format, ...]] = (*WRITTEN, "yaml")


@click.command(
    "import",
    epilog="Examples: `sealspace secret import .env --dry-run`; `sealspace secret import values.json --scope staging`; "
    "`other-program | sealspace secret import - --format json`.",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@scope_option
@click.option("--format", "form", type=click.Choice(FORMATS), help="What FILE is; by default what its name says.")
@click.option("--dry-run", is_flag=True, help="Print what would be stored, names only, and store nothing.")
@yes_option
def import_(file: Path, scope: str | None, form: Format | None, dry_run: bool, yes: bool) -> None:
    """Store every secret of FILE: a .env file, JSON or YAML, one object of names and texts; - is standard input.

    YAML needs the extra `yaml`; every value of it is the text that stands in the file, so 8080 is a text too.

    All are checked and sealed before the first is written, and the names are shown first. A person is asked; without
    one, --yes is needed where a secret would be replaced.
    """
    form = form or _form_of(file)
    data = _read(file)
    try:
        values = _parsed(data, form)
    except BrokenEntry as error:
        raise BrokenEntry(f"{file}: {error.message}", hint=error.hint) from None  # without what it was parsed from
    if not values:
        words(f"no secrets in {file}")
        return
    home = owner_home()
    there = asyncio.run(_there(home, scope=scope))
    replaced = [name for name in values if name in there]
    if dry_run:
        _print_plan(list(values), there)
        return
    words(*(f"{'replace' if name in there else 'new':<8} {name}" for name in values))
    if replaced:
        confirm(f"store {len(values)} secrets, {len(replaced)} in place of older ones?", yes=yes)
    elif watched():
        confirm(f"store {len(values)} secrets?", yes=yes)
    asyncio.run(_put(home, values, scope=scope))
    words(f"stored {len(values)}")


@click.command(
    "export",
    epilog="Example: `sealspace secret export --format json --out secrets.json`.",
)
@scope_option
@click.option("--format", "form", type=click.Choice(WRITTEN), default="env", show_default=True, help="What to write.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Into a file that only you can read, instead of standard output.",
)
@yes_option
def export(scope: str | None, form: Written, out: Path | None, yes: bool) -> None:
    """Open every secret of a scope and write names and values, as `import` reads them.

    A person is asked before a file is replaced.
    """
    values = asyncio.run(_values(owner_home(), scope=scope))
    as_json = form == "json" or shared().as_json
    if not values:
        words("no secrets yet; next: sealspace secret put NAME")
    if out is None:
        if as_json:
            print_json(values_json(values))
        else:
            print_value(encode_dotenv(values), raw=False)
        return
    text = json.dumps(values_json(values), indent=2) + "\n" if as_json else encode_dotenv(values)
    if out.exists():
        confirm(f"replace the file {out}?", yes=yes)
    replace_file(out, text.encode())
    words(f"{len(values)} secrets in {out}, in the clear: remove it when it has served")


def _form_of(file: Path) -> Format:
    if str(file) == "-":
        raise InvalidInput("standard input does not say what it is", hint="add --format env, json or yaml")
    by_suffix: dict[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}
    return by_suffix.get(file.suffix, "env")


def _parsed(data: bytes, form: Format) -> dict[str, str | bytes]:
    if form == "yaml":
        from .yaml_values import parse_yaml_values  # needs the extra `yaml`; nothing else here does

        return parse_yaml_values(data)
    return parse_dotenv(data) if form == "env" else parse_values(data)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    with file.open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _print_plan(names: list[str], there: frozenset[str]) -> None:
    if shared().as_json:
        print_json([{"name": name, "replaces": name in there} for name in names])
    else:
        print_lines(*(f"{'replace' if name in there else 'new':<8} {name}" for name in names))
    words("nothing is stored: this is a dry run")


async def _there(home: OwnerHome, *, scope: str | None) -> frozenset[str]:
    async with home.client() as client:
        return frozenset(await client.secrets().list(scope=scope))


async def _put(home: OwnerHome, values: Mapping[str, str | bytes], *, scope: str | None) -> None:
    async with home.client() as client:
        try:
            await client.secrets().put_many(values, scope=scope)
        except BatchIncomplete as error:
            written = sorted(key.rpartition("/")[2] for key in error.done)
            words(f"written: {', '.join(written)}")
            error.hint = "start it again: what is written already is written once more"
            raise


async def _values(home: OwnerHome, *, scope: str | None) -> dict[str, str | bytes]:
    async with home.client() as client:
        names = await client.secrets().list(scope=scope)
        return await client.secrets().get_many(names, scope=scope)
