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
from encryption_network.errors import InvalidCanonicalJson
from sealspace.apps.backends import Seen
from sealspace.apps.runners import start_of
from sealspace.cli.paths import FILE, read_named
from sealspace.cli.terminal import facts, print_found
from sealspace.documents.published import MAX_PUBLISHED_BYTES, Published
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import InvalidInput, StatementInvalid

from ..runner.calls.run_receipts import SALT_BYTES, BoundVerifier, VerifiedRun, verify_run
from .backend_show import Looking, judging_options
from .runner_list import hosts_words

_MAX_KEPT_BYTES: Final = MAX_PUBLISHED_BYTES + 2 * MAX_STATEMENT_BYTES
_MAX_DATA_BYTES: Final = 10_000_000


@click.command(
    "verify",
    epilog="Example: `sealspace runner call URL DID/digest --input in.txt --receipt receipt.json > out.txt`, then "
    "`sealspace runner verify receipt.json --like approved.json --input in.txt --output out.txt`; `sealspace backend "
    "show URL --json > approved.json` shows what runs there, to be approved once.",
)
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--start", metavar="FILE|URL", help="The runner's start document, where it is not in FILE.")
@click.option("--input", "input_file", metavar="FILE", type=FILE, help="What the program has to have read.")
@click.option("--output", "output_file", metavar="FILE", type=FILE, help="What it has to have written.")
@judging_options
def verify(
    file: Path,
    start: str | None,
    input_file: Path | None,
    output_file: Path | None,
    looking: Looking,
) -> int:
    """Judge the receipt of a run in FILE, as of its own time: who signed it, which code that was, what it is about.

    The status is 1 when it is not about the input or output that is named, or when neither --like nor --expect names
    all the code: a receipt of unknown code proves nothing.
    """
    if (input_file is None) != (output_file is None):
        raise click.UsageError("--input and --output are compared together")
    kept = _object(read_named(file, most_bytes=_MAX_KEPT_BYTES), file)
    run = asyncio.run(_verified(kept, start, looking.inspector))
    seen = seen_at_start(run)
    looking.require(seen)
    is_approved = looking.knows(seen)
    is_about = None
    if input_file is not None and output_file is not None:
        salt = decode_url(kept.get("salt"))
        if salt is None or len(salt) != SALT_BYTES:
            raise InvalidInput(f"{file} has no salt", hint="sealspace runner call --receipt FILE keeps one")
        is_about = run.is_about(salt=salt, input=_data(input_file), output=_data(output_file))
    _print(run, is_approved=is_approved, is_about=is_about)
    return 0 if is_approved and is_about is not False else 1


async def _verified(kept: dict[str, Json], start: str | None, inspector: BoundVerifier) -> VerifiedRun:
    if start is None:
        document = _canonical(kept["start"]) if "start" in kept else b""
    elif "://" in start:
        document = await start_of(start)
    else:
        document = read_named(Path(start), most_bytes=MAX_PUBLISHED_BYTES)
    if not document:
        raise InvalidInput("the runner's start document is missing", hint="name it: --start FILE or --start URL")
    return await verify_run(_canonical(kept.get("receipt", kept)), document, inspector)


def seen_at_start(run: VerifiedRun) -> Seen:
    """Return the runner as it was at its start, to be compared as one that is seen now."""
    start = run.start
    published = Published(nonce=b"", statement=start.statement, quote=start.quote, event_log=start.event_log)
    return Seen(url="", published=published, verified=run.runner, seen_at=parse_rfc3339(str(run.stated["at"])))


def _print(run: VerifiedRun, *, is_approved: bool, is_about: bool | None) -> None:
    stated = run.stated
    failed = "" if stated["code"] is None else f": {stated['code']}"
    shown = {
        "holds": "the receipt is signed by the key that the runner's quote names",
        "code": "all of it as approved" if is_approved else "not approved: name it with --like or --expect",
        "runner": stated["runner"],
        "MRTD": run.runner.evidence.mrtd.hex(),
        "program": stated["program"],
        "project": stated["project"] or "called by its hash",
        "status": f"{stated['status']}{failed}",
        "secrets": stated["secrets"],
        "contacted": hosts_words(stated),
        "at": stated["at"],
        "data": None if is_about is None else f"{'exactly this' if is_about else 'another'} input and output",
    }
    print_found({**stated, "codeApproved": is_approved, "isAboutData": is_about}, facts(shown))


def _object(data: bytes, file: Path) -> dict[str, Json]:
    try:
        return parse_json(data, max_bytes=_MAX_KEPT_BYTES)
    except InvalidJson:
        raise StatementInvalid(
            f"{file} holds no receipt of a run", hint="sealspace runner call URL PROGRAM --receipt FILE keeps one"
        ) from None


def _canonical(value: Json) -> bytes:
    try:
        return canonical_bytes(value)
    except InvalidCanonicalJson as error:
        raise StatementInvalid("what was kept is not what a runner writes") from error


def _data(path: Path) -> bytes:
    return read_named(path, most_bytes=_MAX_DATA_BYTES)
