"""`sealspace runner generate`: secrets that a runner makes, and that nobody sees."""

from collections.abc import Sequence

import click

from encryption_network.policy import Policy
from sealspace.apps.backends import Seen, require_like
from sealspace.apps.descriptions import in_plain_words
from sealspace.apps.runners import start_of
from sealspace.cli.errors import AlreadyThere, RunFailed
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.secret import scope_option
from sealspace.cli.terminal import print_found, words
from sealspace.client import Client
from sealspace.documents.generated_secrets import generation_body
from sealspace.errors import BackendError, InvalidInput, StatementInvalid

from ..runner.calls.generated_secrets import verify_generated
from ..runner.calls.run_receipts import VerifiedRun
from .backend_grant import confirm_shown
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
@at_node
async def generate(
    client: Client, url: str, looking: Looking, names: tuple[str, ...], scope: str | None, yes: bool
) -> None:
    """Have the runner at URL make secrets whose values nobody sees, and print their names.

    A name begins with PROTECTED_. TYPE is hex32 (the default), hex16, hex64, ed25519, ed25519_seed, password, or
    password:N with N from 8 to 256. They are sealed to your network `protected`, which is made with a policy that lets
    nobody open anything in person; where you take that away, each opening leaves a receipt. What is there is kept.
    """
    wanted = _wanted(names)
    generation_body(client.session.owner, scope, wanted)  # a wrong name waits for no quote
    seen = await looking.look(url)
    policy = looking.policy(seen, ttl_s=_JUDGED_TTL_S)
    confirm_shown(in_plain_words(seen, policy), yes=yes or looking.knows(seen), err=True)
    made = await client.runners.generate(
        seen, wanted, scope=scope, accept=looking.accept, pin=looking.pin, wallet=owner_home().wallet()
    )
    if made.statement is None:
        raise RunFailed(f"{made.code}: {made.message}", hint="spec/runner.md says what each code means")
    try:
        start = await start_of(url)
        run = await verify_generated(made.statement, start, looking.inspector, authorization=made.authorization)
        _require_made_by(run, seen, policy, made.generated)
    except (BackendError, StatementInvalid):
        unsafe = ", ".join(made.generated) or "nothing, for it made nothing"
        words(f"what was seen did not make them: delete {unsafe}")
        raise
    print_found({"generated": made.generated, "existing": made.existing}, made.generated)
    if made.code is not None:
        raise RunFailed(f"{made.code}: {made.message}", hint="the same command again makes what is missing")
    if made.existing:
        raise AlreadyThere(
            f"there already, and kept: {', '.join(made.existing)}", hint=f"sealspace secret delete {made.existing[0]}"
        )


def _require_made_by(run: VerifiedRun, seen: Seen, policy: Policy, generated: Sequence[str]) -> None:
    """Refuse secrets that other code made than was seen: it may have had the runner's key (RN149)."""
    require_like(seen_at_start(run), policy)
    stated = run.stated["secrets"]
    names = [one.get("name") for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []
    if run.stated["runner"] != seen.did or names != list(generated):
        raise StatementInvalid("the runner states other secrets than it names")


def _wanted(names: Sequence[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for text in names:
        name, _, kind = text.partition(":")
        if name in wanted:
            raise InvalidInput(f"{name} is named twice", hint="once each")
        wanted[name] = kind or _DEFAULT_TYPE
    return wanted
