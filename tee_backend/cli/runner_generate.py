"""`sealspace runner generate`: secrets that a runner makes, and that nobody sees."""

from collections.abc import Sequence

import click

from capabilities.strict_json import Json
from sealspace.apps.backends import Seen, require_like
from sealspace.apps.descriptions import in_plain_words
from sealspace.apps.runners import Generation, start_of
from sealspace.cli.errors import AlreadyThere, RunFailed
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.secret import scope_option
from sealspace.cli.terminal import print_found, print_lines, words
from sealspace.client import Client
from sealspace.documents.generated_secrets import generation_body
from sealspace.errors import BackendError, InvalidInput, StatementInvalid

from ..runner.calls.generated_secrets import verify_generated
from .backend_grant import confirm_seen
from .backend_show import Looking, looking_options
from .verify import seen_at_start

_DEFAULT_TYPE = "hex32"
_JUDGED_TTL_S = 600.0


@click.command(
    "generate",
    epilog="Examples: `sealspace runner generate https://runner.example PROTECTED_KEY`, then `sealspace runner grant "
    "https://runner.example --secret PROTECTED_KEY --program DID/NAME`; `PROTECTED_PIN:password:12` names a type. It "
    "does not ask where `--like` or `--expect` name all the code, as in `sealspace backend grant`.",
)
@scope_option
@click.option("--yes", is_flag=True, help="Do not ask; what was seen makes them, whatever it is.")
@looking_options
@click.argument("names", metavar="NAME[:TYPE]…", nargs=-1, required=True)
def generate(url: str, looking: Looking, names: tuple[str, ...], scope: str | None, yes: bool) -> None:
    """Have the runner at URL make secrets whose values nobody sees, and print their names.

    A name begins with PROTECTED_. TYPE is hex32 (the default), hex16, hex64, ed25519, ed25519_seed, password, or
    password:N with N from 8 to 256. They are sealed to your network `protected`, which is made with a policy that lets
    nobody open anything in person; where you take that away, each opening leaves a receipt. What is there is kept.
    """
    wanted = _wanted(names)
    generation_body(owner_home().profile().owner, scope, wanted)  # a wrong name waits for no quote
    made = _generate(url, looking, wanted, scope=scope, yes=yes)
    shown: dict[str, Json] = {"generated": list(made.generated), "existing": list(made.existing)}
    print_found(shown, made.generated)
    if made.code is not None:
        raise RunFailed(f"{made.code}: {made.message}", hint="the same command again makes what is missing")
    if made.existing:
        raise AlreadyThere(
            f"there already, and kept: {', '.join(made.existing)}", hint=f"sealspace secret delete {made.existing[0]}"
        )


@at_node
async def _generate(
    client: Client, url: str, looking: Looking, wanted: dict[str, str], *, scope: str | None, yes: bool
) -> Generation:
    seen = await looking.look(url)
    policy = looking.policy(seen, ttl_s=_JUDGED_TTL_S)
    # A confirmation is never requested for what is not shown.
    print_lines(*in_plain_words(seen, policy), err=True)
    if not (yes or looking.knows(seen)):
        confirm_seen()
    wallet = owner_home().wallet()
    made = await client.runners.generate(
        seen, wanted, scope=scope, accept=looking.accept, pin=looking.pin, wallet=wallet
    )
    if made.statement is None:
        raise RunFailed(f"{made.code}: {made.message}", hint="spec/runner.md says what each code means")
    try:
        await _require_made_by(seen, looking, made, made.statement)
    except (BackendError, StatementInvalid):
        words(f"what was seen did not make them: delete {_listed(made.generated)}")
        raise
    return made


async def _require_made_by(seen: Seen, looking: Looking, made: Generation, statement: bytes) -> None:
    """Refuse secrets that other code made than was seen: it may have had the runner's key (RN149)."""
    start = await start_of(seen.url)
    run = await verify_generated(statement, start, looking.inspector, authorization=made.authorization)
    require_like(seen_at_start(run), looking.policy(seen, ttl_s=_JUDGED_TTL_S))
    stated = run.stated["secrets"]
    names = [one.get("name") for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []
    if run.stated["runner"] != seen.did or names != list(made.generated):
        raise StatementInvalid("the runner states other secrets than it names")


def _wanted(names: Sequence[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for text in names:
        name, _, kind = text.partition(":")
        if name in wanted:
            raise InvalidInput(f"{name} is named twice", hint="once each")
        wanted[name] = kind or _DEFAULT_TYPE
    return wanted


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing, for it made nothing"
