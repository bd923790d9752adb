"""`sealspace secret import` and `export`: many secrets from a file, and into one."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import click

from ..client import Client
from ..errors import BatchIncomplete, InvalidInput
from ..private_files import replace_file
from ..secrets import SECRETS_SPACE, parse_secret_name
from .dotenv import MAX_FILE_BYTES, BrokenEntry, encode_dotenv, parse_dotenv, parse_values, values_json
from .owner_profile import at_node
from .paths import FILE_OR_DASH, NEW_FILE, read_named
from .secret import scope_option, written_meanwhile
from .shared import shared
from .terminal import confirm, confirm_replacing, print_found, print_json, print_value, watched, words, yes_option

Written = Literal["env", "json"]
WRITTEN: Final[tuple[Written, ...]] = ("env", "json")
Format = Literal["env", "json", "yaml"]
FORMATS: Final[tuple[Format, ...]] = (*WRITTEN, "yaml")


@click.command(
    "import",
    epilog="Examples: `sealspace secret import .env --dry-run`; `sealspace secret import values.json --scope staging`; "
    "`other-program | sealspace secret import - --format json`.",
)
@click.argument("file", type=FILE_OR_DASH)
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
    data = read_named(file, most_bytes=MAX_FILE_BYTES)
    try:
        values = _parsed(data, form)
    except BrokenEntry as error:
        raise BrokenEntry(f"{file}: {error.message}", hint=error.hint) from None  # without what it was parsed from
    if values:
        _store(values, scope, dry_run=dry_run, yes=yes)
    else:
        words(f"no secrets in {file}")


@at_node
async def _store(
    client: Client, values: Mapping[str, str | bytes], scope: str | None, *, dry_run: bool, yes: bool
) -> None:
    there = await _versions(client, values, scope)
    lines = [f"{'replace' if name in there else 'new':<8} {name}" for name in values]
    if dry_run:
        print_found([{"name": name, "replaces": name in there} for name in values], lines)
        words("nothing is stored: this is a dry run")
        return
    words(*lines)
    if there:
        confirm(f"store {len(values)} secrets, {len(there)} in place of older ones?", yes=yes)
    elif watched():
        confirm(f"store {len(values)} secrets?", yes=yes)
    if not yes:  # a node takes no condition for several values at once, so versions are compared before the commit
        now = await _versions(client, values, scope)
        if changed := [name for name in values if now.get(name) != there.get(name)]:
            raise written_meanwhile(", ".join(changed))
    try:
        await client.secrets().put_many(values, scope=scope)
    except BatchIncomplete as error:
        written = sorted(key.rpartition("/")[2] for key in error.done)
        words(f"written: {', '.join(written)}")
        error.step = "start it again: what is written already is written once more"
        raise
    words(f"stored {len(values)}")


@click.command("export", epilog="Example: `sealspace secret export --format json --out secrets.json`.")
@scope_option
@click.option("--format", "form", type=click.Choice(WRITTEN), default="env", show_default=True, help="What to write.")
@click.option("--out", type=NEW_FILE, help="Into a file that only you can read, instead of standard output.")
@yes_option
@at_node
async def export(client: Client, scope: str | None, form: Written, out: Path | None, yes: bool) -> None:
    """Open every secret of a scope and write names and values, as `import` reads them.

    A person is asked before a file is replaced.
    """
    secrets = client.secrets()
    values = await secrets.get_many(await secrets.list(scope=scope), scope=scope)
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
    confirm_replacing(out, yes=yes)
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


async def _versions(client: Client, names: Iterable[str], scope: str | None) -> dict[str, str]:
    """Return the versions of those that are stored, sealed as they are."""
    paths = {name: parse_secret_name(name, scope=scope).path for name in names}
    stored = await client.kv(SECRETS_SPACE).get_many(paths.values())
    return {name: stored[path].etag for name, path in paths.items() if path in stored}
