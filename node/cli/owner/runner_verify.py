"""`sealspace runner verify`: the receipt of a run judged without node and runner."""

import asyncio
from pathlib import Path
from typing import Final

import click

from capabilities.errors import InvalidJson
from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json, parse_json
from encryption_network.canonical_json import canonical_bytes
from sealspace.backends import Seen, require_expected, require_like
from sealspace.errors import InvalidInput, StatementInvalid
from sealspace.published import MAX_PUBLISHED_BYTES, Published
from sealspace.runners import start_of
from sealspace.signed_statements import MAX_STATEMENT_BYTES
from tee_backend.runner.run_receipts import SALT_BYTES, BoundVerifier, VerifiedRun, verify_run

from ..shared import shared
from ..terminal import print_json, print_lines
from .backend_grant import is_known
from .backend_show import approved_in, inspector_for, judging_options
from .owner_profile import owner_home

_MAX_KEPT_BYTES: Final = MAX_PUBLISHED_BYTES + 2 * MAX_STATEMENT_BYTES
_MAX_DATA_BYTES: Final = 10_000_000

_data = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    "verify",
    epilog="Example: `sealspace runner call URL DID/digest --input in.txt --receipt receipt.json > out.txt`, then "
    "`sealspace runner verify receipt.json --like approved.json --input in.txt --output out.txt`; `sealspace backend "
    "show URL --json > approved.json` shows what runs there, to be approved once.",
)
@click.argument("file", metavar="FILE", type=_data)
@click.option("--start", metavar="FILE|URL", help="The runner's start document, where it is not in FILE.")
@click.option("--input", "input_file", metavar="FILE", type=_data, help="What the program has to have read.")
@click.option("--output", "output_file", metavar="FILE", type=_data, help="What it has to have written.")
@judging_options
def verify(
    file: Path,
    start: str | None,
    input_file: Path | None,
    output_file: Path | None,
    expect: tuple[str, ...],
    like: Path | None,
    trust_root: Path | None,
    collateral: Path | None,
) -> int:
    """Judge the receipt of a run in FILE, as of its own time: who signed it, which code that was, what it is about.

    The status is 1 when it is not about the input or output that is named, or when neither --like nor --expect names
    all the code: a receipt of unknown code proves nothing.
    """
    if (input_file is None) != (output_file is None):
        raise click.UsageError("--input and --output are compared together")
    kept = _object(file.read_bytes()[: _MAX_KEPT_BYTES + 1], file)
    inspector = inspector_for(owner_home(), trust_root=trust_root, collateral=collateral)
    run = asyncio.run(_verified(kept, start, inspector))
    seen = _seen(run)
    require_expected(seen, expect)
    approved = None if like is None else approved_in(like).policy
    if approved is not None:
        require_like(seen, approved)
    is_approved = is_known(seen, expect, approved)
    is_about = None
    if input_file is not None and output_file is not None:
        salt = decode_url(kept.get("salt"))
        if salt is None or len(salt) != SALT_BYTES:
            raise InvalidInput(f"{file} has no salt", hint="sealspace runner call --receipt FILE keeps one")
        is_about = run.is_about(salt=salt, input=_read(input_file), output=_read(output_file))
    _print(run, is_approved=is_approved, is_about=is_about)
    return 0 if is_approved and is_about is not False else 1


async def _verified(kept: dict[str, Json], start: str | None, inspector: BoundVerifier) -> VerifiedRun:
    if start is None:
        document = canonical_bytes(kept["start"]) if "start" in kept else b""
    elif "://" in start:
        document = await start_of(start)
    else:
        document = _read(Path(start))
    if not document:
        raise InvalidInput("the runner's start document is missing", hint="name it: --start FILE or --start URL")
    receipt = kept.get("receipt", kept)
    return await verify_run(canonical_bytes(receipt), document, inspector)


def _seen(run: VerifiedRun) -> Seen:
    """Return the runner as it was at its start, to be compared as one that is seen now."""
    start = run.start
    published = Published(nonce=b"", statement=start.statement, quote=start.quote, event_log=start.event_log)
    return Seen(url="", published=published, verified=run.runner, seen_at=parse_rfc3339(str(run.stated["at"])))


def _print(run: VerifiedRun, *, is_approved: bool, is_about: bool | None) -> None:
    stated = run.stated
    if shared().as_json:
        print_json({**stated, "codeApproved": is_approved, "isAboutData": is_about})
        return
    failed = "" if stated["code"] is None else f": {stated['code']}"
    print_lines(
        "holds    the receipt is signed by the key that the runner's quote names",
        f"code     {'all of it as approved' if is_approved else 'not approved: name it with --like or --expect'}",
        f"runner   {stated['runner']}",
        f"MRTD     {run.runner.evidence.mrtd.hex()}",
        f"program  {stated['program']}",
        f"project  {stated['project'] or 'called by its hash'}",
        f"status   {stated['status']}{failed}",
        f"secrets  {stated['secrets']}",
        f"at       {stated['at']}",
    )
    if is_about is not None:
        print_lines(f"data     {'exactly this input and output' if is_about else 'another input or output'}")


def _object(data: bytes, file: Path) -> dict[str, Json]:
    try:
        return parse_json(data, max_bytes=_MAX_KEPT_BYTES)
    except InvalidJson:
        raise StatementInvalid(
            f"{file} holds no receipt of a run", hint="sealspace runner call URL PROGRAM --receipt FILE keeps one"
        ) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MAX_DATA_BYTES + 1)
