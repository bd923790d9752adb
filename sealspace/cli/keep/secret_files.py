"""The commands `sealspace secret import` and `export`, for files of secrets."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import click

from ...client import Client
from ...errors import BatchIncomplete, InvalidInput
from ...private_files import make_file, replace_file
from ...secrets import parse_secret_name, writable_name
from ..options.paths import FILE_OR_DASH, NEW_FILE, read_named, require_free
from ..owner.owner_profile import at_node
from ..shared import shared
from ..terminal import (
    confirm,
    confirm_replacing,
    flag_option,
    is_interactive,
    print_json,
    print_result,
    print_value,
    tell,
    yes_option,
)
from .dotenv import (
    MAX_FILE_BYTES,
    BrokenEntry,
    encode_dotenv,
    parse_dotenv,
    parse_values,
    values_json,
)
from .named_secrets import scope_option
from .project_file import PROJECT_FILE, project_text
from .secret import NONE_HERE
from .storing import stored_secrets, written_meanwhile

Written = Literal["env", "json"]
Format = Literal["env", "json", "yaml"]
_BY_SUFFIX: Mapping[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


@click.command(
    epilog="Examples: `sealspace secret import .env --dry-run`; `sealspace secret import"
    " values.json --scope staging`; `other-program | sealspace secret import - --format json`.",
)
@click.argument("file", type=FILE_OR_DASH)
@scope_option
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format)),
    help="Format of FILE; by default, it is guessed from the file name.",
)
@flag_option("--dry-run", help="Print the names that would be stored, and store nothing.")
@flag_option("--upper", help="Store lower-case names as capitals: db_url as DB_URL.")
@flag_option(
    "--write-project",
    help=f"Then write the names to a new file {PROJECT_FILE} in the current folder, so that"
    " `sealspace run` passes these secrets.",
)
@yes_option
def import_(
    file: Path,
    scope: str | None,
    form: Format | None,
    dry_run: bool,
    upper: bool,
    write_project: bool,
    yes: bool,
) -> None:
    """Import all secrets from FILE.

    FILE is a .env, JSON or YAML file, or - for standard input. JSON and YAML files contain one
    object of names and text values. YAML needs the extra `yaml`. All YAML values are read as text,
    including numbers such as 8080 and words such as yes. Numbers, true, false and null in JSON
    become their text in the file, and a line names these secrets.

    All secrets are checked and encrypted before the first one is written. On a terminal, the names
    are shown and you are asked to confirm. In scripts, --yes is needed to replace an existing
    secret.
    """
    if form is None and str(file) == "-":
        raise InvalidInput(
            "the format of standard input is not known", hint="add --format env, json or yaml"
        )
    form = form or _BY_SUFFIX.get(file.suffix, "env")
    data = read_named(file, most_bytes=MAX_FILE_BYTES)
    converted: tuple[str, ...] = ()
    try:
        if form == "yaml":
            from .yaml_values import parse_yaml_values  # needs the extra `yaml`

            values = parse_yaml_values(data, upper=upper)
        elif form == "env":
            values = parse_dotenv(data, upper=upper)
        else:
            values, converted = parse_values(data, upper=upper)
    except InvalidInput as error:
        # `from None` drops the cause, which may quote a secret.
        raise BrokenEntry(f"{file}: {error.message}", hint=error.hint) from None
    if not values:
        tell(f"no secrets in {file}")
        return
    if converted:
        tell(f"numbers, true, false and null are stored as text: {', '.join(converted)}")
    project = None
    if write_project:
        # Before the secrets are stored: nothing is done if the file cannot be written.
        require_free(Path(PROJECT_FILE))
        project = project_text(values, scope)
    _store_all(values, scope, dry_run=dry_run, yes=yes)
    if project is not None and not dry_run:
        make_file(Path(PROJECT_FILE), project.encode())
        tell(f"wrote {PROJECT_FILE}: in this folder and below, `sealspace run` passes these names")


@at_node
async def _store_all(
    client: Client,
    values: Mapping[str, str | bytes],
    scope: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Show which secrets are new and which are replaced, ask, and store all of them.

    With `dry_run`, this only shows them. `values` are the secrets by name.
    """
    replaced = await _versions(client, values, scope)
    lines = [f"{'replace' if name in replaced else 'new':<8} {name}" for name in values]
    if dry_run:
        print_result([{"name": name, "replaces": name in replaced} for name in values], lines)
        tell("dry run: nothing was stored")
        return
    tell(*lines)
    # In scripts, only a replacement needs confirmation.
    if replaced or is_interactive():
        replacing = f", and replace {len(replaced)} of them" if replaced else ""
        confirm(f"store these secrets ({len(values)}){replacing}?", yes=yes)
    if not yes:  # the user may have taken some time to confirm
        await _require_unchanged(client, values, scope, replaced)
    by_label = {writable_name(name, scope).label: value for name, value in values.items()}
    try:
        await client.sharing.put_many(by_label)
    except BatchIncomplete as error:
        written = sorted(key.rpartition("/")[2] for key in error.done)
        tell(f"written: {', '.join(written)}")
        error.step = "run the command again; it is safe to store the same values twice"
        raise
    tell(f"stored {len(values)}")


async def _require_unchanged(
    client: Client, names: Collection[str], scope: str | None, earlier: Mapping[str, str]
) -> None:
    """Refuse to replace secrets that changed after the user was asked.

    A write of several values cannot be conditional, so the versions are compared just before it.
    """
    now = await _versions(client, names, scope)
    changed = [name for name in names if now.get(name) != earlier.get(name)]
    if changed:
        raise written_meanwhile(", ".join(changed))


@click.command(epilog="Example: `sealspace secret export --format json --out secrets.json`.")
@scope_option
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Written)),
    default="env",
    show_default=True,
    help="Format of the output.",
)
@click.option(
    "--out",
    type=NEW_FILE,
    help="Write to this file, readable only by you, instead of standard output.",
)
@yes_option
@at_node
async def export(
    client: Client, scope: str | None, form: Written, out: Path | None, yes: bool
) -> None:
    """Decrypt and export all secrets of a scope.

    `sealspace secret import` reads the formats. Replacing an existing file needs your confirmation
    or --yes.
    """
    secrets = client.secrets()
    values = await secrets.get_many(await secrets.list(scope=scope), scope=scope)
    as_json = form == "json" or shared().as_json
    if not values:
        tell(NONE_HERE)
    if out is None:
        if as_json:
            print_json(values_json(values))
        else:
            print_value(encode_dotenv(values))
        return
    text = json.dumps(values_json(values), indent=2) + "\n" if as_json else encode_dotenv(values)
    confirm_replacing(out, yes=yes)
    replace_file(out, text.encode())
    tell(f"wrote {len(values)} unencrypted secrets to {out}; delete the file after use")


async def _versions(client: Client, names: Iterable[str], scope: str | None) -> dict[str, str]:
    """Return the versions of stored secrets by name.

    Missing secrets are omitted.
    """
    secret_names = {name: parse_secret_name(name, scope=scope) for name in names}
    stored = await stored_secrets(client, secret_names.values())
    etags: dict[str, str] = {}
    for name, secret_name in secret_names.items():
        if secret_name.path in stored:
            etags[name] = stored[secret_name.path].etag
    return etags
