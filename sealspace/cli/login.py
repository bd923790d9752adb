"""`sealspace login`, `logout`, `whoami` and `status`: a session at a node, signed in to with a
wallet, and ended."""

import asyncio
import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import WalletSigner
from capabilities.strict_json import Json
from encryption_network.policy import Policy

from ..client import Client, SignIn
from ..errors import InvalidInput, NotSignedIn, SealspaceError, SpacesNotHosted
from ..printable import printable
from ..session import Session
from ..wallets import Wallet
from ..wire.transport import Transport
from .command_errors import KeyFileUnusable
from .grant_list import take_up_received
from .lazy import provided
from .network import OWNER_ABILITIES
from .node_terms import Demand, demand_options, gathering
from .owner_profile import (
    PASSWORD_VARIABLE,
    OwnerHome,
    Profile,
    at_node,
    has_ended,
    opened,
    owner_home,
    write_wallet,
)
from .paths import FILE, NEW_FILE, require_readable
from .shared import NODE_VARIABLE, shared
from .term_files import read_node_policy
from .terminal import (
    facts,
    optional_time,
    print_found,
    print_lines,
    time_text,
    watched,
    what_happened,
    words,
)


@dataclass(frozen=True, slots=True)
class WalletOptions:
    """What the options say of the wallet."""

    key_file: Path | None
    keystore: Path | None
    is_new: bool
    in_browser: bool
    no_open: bool

    @property
    def is_key(self) -> bool:
        """Whether they name a key, or a new one."""
        return self.is_new or self.key_file is not None or self.keystore is not None

    def __post_init__(self) -> None:
        """Refuse more than one wallet, and a file that is not there."""
        if self.keystore is not None and (self.is_new or self.key_file is not None):
            raise click.UsageError("--keystore names the key: leave --new and --key-file out")
        if self.in_browser and self.is_key:
            raise click.UsageError(
                "--browser asks the wallet there: leave --new, --key-file and --keystore out"
            )
        if self.key_file is not None and not self.is_new:
            require_readable(
                self.key_file, hint="add --new to make one there, or name the file with your key"
            )


@click.command(
    epilog=(
        "Examples: `sealspace login http://127.0.0.1:8000 --new` makes a key and signs in; later"
        " `sealspace login` signs in again. `sealspace login URL --browser` asks the wallet in a"
        " browser instead, and keeps no key here. With `--require-node-evidence --node-policy"
        " approved.json` no token leaves this machine, now or later, unless the node proves that it"
        " runs that code; `sealspace verify URL` prints such a policy."
    )
)
@click.argument("url", metavar="[URL]", required=False)
@gathering(
    "named",
    WalletOptions,
    click.option(
        "--key-file",
        type=NEW_FILE,
        help=(
            "The wallet's private key as 64 hex digits, mode 0600; by default that of the last"
            " login, or wallet.key in the owner's folder."
        ),
    ),
    click.option(
        "--keystore",
        type=FILE,
        help=(
            "A Web3 keystore of version 3 instead; its password is asked for, or is in"
            f" {PASSWORD_VARIABLE}."
        ),
    ),
    click.option(
        "--new",
        "is_new",
        is_flag=True,
        help="Make the key file, with a new key; keep a copy of it.",
    ),
    click.option(
        "--browser",
        "in_browser",
        is_flag=True,
        help=(
            "Ask the wallet in a browser, in a page on this machine whose address is printed, now"
            " and in later commands that need its signature; no key is kept here."
        ),
    ),
    click.option(
        "--no-open", is_flag=True, help="Print the address of that page only; open no browser."
    ),
)
@click.option(
    "--space",
    "spaces",
    metavar="NAME",
    multiple=True,
    help="A space of yours to use beside the default one; repeatable.",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0.01, max=30),
    default=7.0,
    show_default=True,
    help="Days until the session ends.",
)
@demand_options
def login(
    url: str | None, spaces: tuple[str, ...], days: float, named: WalletOptions, demand: Demand
) -> None:
    """Sign in to the node at URL as an owner; the session is kept for the commands that follow.

    URL is remembered; without it, and without --node, the node of the last login is meant. The
    wallet signs, and the owner's space for secrets and encryption network are there afterwards.
    """
    place = owner_home()
    before = Profile(node="", owner="", key_file=place.default_key_file.absolute())
    with suppress(NotSignedIn):
        before = place.profile()
    node = url or shared().node or before.node
    if not node:
        raise click.UsageError(f"name the node: sealspace login URL, or set {NODE_VARIABLE}")
    Transport(node)  # refuses what is no address, before anything is made or asked for
    planned = Profile(
        node=node, owner="", trust_root=demand.trust_root, collateral=demand.collateral
    )
    planned = _planned(place, before, named, _demanded(before, demand, planned))
    wallet, secret = _opened(planned, before, is_new=named.is_new)
    known = before.spaces if before.owner == wallet.did else ()
    profile = replace(planned, owner=wallet.did, spaces=tuple(dict.fromkeys((*known, *spaces))))

    def keep_key() -> None:
        if profile.key_file is not None and secret is not None:
            write_wallet(profile.key_file, secret)

    try:
        session, profile = asyncio.run(_sign_in(profile, wallet, ttl_s=days * 86_400))
    except SpacesNotHosted as refusal:
        # The operator may admit this owner: the key is kept, for another one would not be the owner
        # that is admitted.
        keep_key()
        again = " --browser" if profile.key_file is None else ""
        refusal.step = (
            f"ask the operator to admit {wallet.did}, then: sealspace login {node}{again}"
        )
        raise
    keep_key()  # first: what fails in between leaves the key, which the next `--new` takes
    place.keep(profile, session)
    if place.received():
        take_up_received()
    _describe(profile, session, is_new=secret is not None)


def _planned(place: OwnerHome, before: Profile, named: WalletOptions, profile: Profile) -> Profile:
    """Return the profile with the wallet that is named, else with that of the last login."""
    if named.in_browser or (before.key_file is None and not named.is_key):
        opens = not named.no_open and (named.in_browser or before.opens_browser)
        return replace(profile, opens_browser=opens)
    if named.no_open:
        raise click.UsageError("--no-open is about the page of --browser")
    if (given := named.keystore or named.key_file) is not None:
        return replace(profile, key_file=given.absolute(), is_keystore=named.keystore is not None)
    if named.is_new:
        return replace(profile, key_file=place.default_key_file.absolute())
    if place.is_of_another_home(before.key_file):
        words(
            f"the wallet's key is taken from another home: {before.key_file}",
            "name the one that is meant: sealspace login --key-file FILE",
        )
    return replace(profile, key_file=before.key_file, is_keystore=before.is_keystore)


def _opened(profile: Profile, before: Profile, *, is_new: bool) -> tuple[Wallet, bytes | None]:
    """Open the wallet, or make one; returns with it the secret of a new one, which is not stored
    yet."""
    path = profile.key_file
    if path is None:
        from .wallet_page import connect_browser  # a server of pages, for owners with such a wallet

        # a node that does not answer is found out before a person is asked
        asyncio.run(_reach(profile.node))
        return (
            connect_browser(profile.node, opens=profile.opens_browser, before=before.owner or None),
            None,
        )
    if is_new and not path.exists():
        secret = SystemEntropy().token(32)
        return WalletSigner(secret), secret
    if is_new:  # what a login left that the node did not host
        if before.owner and before.key_file == path:
            raise KeyFileUnusable(f"{path} is there already", hint="leave --new out to use it")
        words(f"{path} is there already, and nobody has logged in with it: it is used")
    return profile.wallet(), None


async def _reach(node: str) -> None:
    async with Client(node) as client:
        await client.info()


def _describe(profile: Profile, session: Session, *, is_new: bool) -> None:
    ends = optional_time(session.expires_at)
    said: dict[str, Json] = {
        "owner": profile.owner,
        "node": session.node_id,
        "expiresAt": ends,
        "keyFile": None if profile.key_file is None else str(profile.key_file),
        "nodeEvidence": profile.node_policy is not None,
    }
    print_found(
        said,
        (f"logged in as {profile.owner}", f"at {profile.node}, {printable(str(session.node_id))}"),
    )
    if ends is not None:
        words(f"until {ends}")
    if profile.node_policy is not None:
        words("the node proved approved code, and has to before every later command")
    if is_new:
        words(
            f"the wallet's key is in {profile.key_file}: keep a copy, nothing is recovered"
            " without it"
        )
        words("next: sealspace secret put NAME")


def _demanded(before: Profile, demand: Demand, profile: Profile) -> Profile:
    """Return the profile with the policy that the node has to satisfy; without options, with that
    of the last login."""
    if demand.insists:
        file = demand.code_file
        code = (
            asyncio.run(_seen_code(profile.node, demand))
            if file is None
            else read_node_policy(file)
        )
        return replace(profile, node_policy=demand.accepted.policy(code))
    is_other_node = before.node.rstrip("/") != profile.node.rstrip("/")
    if demand.insists is False or is_other_node or before.node_policy is None:
        return profile
    # Signing in again, which the commands' hints suggest, must not drop what was demanded.
    return replace(
        profile,
        trust_root=profile.trust_root or before.trust_root,
        collateral=profile.collateral or before.collateral,
        node_policy=before.node_policy,
    )


async def _seen_code(node: str, demand: Demand) -> Policy:
    """Show what the node runs, and return the policy for exactly that if the owner approves of
    it."""
    # needs the extra `verify`; not needed where nothing is demanded
    node_judging = provided("node-evidence")

    verifier = node_judging.node_verifier(
        trust_root=demand.trust_root, collateral=demand.collateral
    )
    async with Client(node) as client:
        attestation = await node_judging.ask_node(client)
    facts = await verifier.examine(attestation, now=SystemClock().now())
    print_lines(*node_judging.in_words(attestation.statement, facts), err=True)
    if not watched():
        raise InvalidInput(
            "nobody is here to approve what the node runs",
            hint="read it, keep the policy in a file, and name that: --node-policy FILE",
        )
    click.confirm("approve exactly this code?", abort=True, err=True)
    code: Policy = node_judging.exact_code(facts)
    return code


async def _sign_in(profile: Profile, wallet: Wallet, *, ttl_s: float) -> tuple[Session, Profile]:
    """Return the session, and the profile, whose demands are bound to the node's store from now
    on."""
    async with opened(profile, profile.node) as client:
        # All in one message: a person is asked once.
        asked = SignIn(
            ttl_s=ttl_s,
            network_abilities=OWNER_ABILITIES,
            spaces=profile.spaces,
            spaces_rights=True,
        )
        await client.sign_in(wallet, asked)
        # the stored session pins the network's key from now on
        await client.encryption.ensure_network()
        if (policy := profile.node_policy) is not None:
            store_id = (await client.node_evidence()).statement.store_id
            profile = replace(profile, node_policy=dataclasses.replace(policy, store_id=store_id))
        return client.session, profile


# --- the session of the last login ----------------------------------------------------------------

_WORDS: Final = {"expiresAt": "until", "nodeDid": "node DID", "keyFile": "key file"}
"""Member as JSON -> what a person reads."""


@click.command()
def logout() -> None:
    """End the session at the node, and remove it from this machine.

    The wallet's key and the files of grants stay, and so does what the login remembered: `sealspace
    login` signs in again.
    """
    home = owner_home()
    if not (home.folder / "session.json").exists():
        words("nobody is logged in on this machine: there is nothing to end")
        return
    session = home.session()
    ends = "" if session.expires_at is None else f", it ends at {time_text(session.expires_at)}"
    try:
        if not has_ended(session):
            _revoke()
    except SealspaceError as error:
        words(f"the node could not be told{ends}: {what_happened(error)}")
    home.forget_session()
    words(f"logged out {session.owner}")


@click.command()
def whoami() -> None:
    """Print the owner, the session's key and the node; no node is asked."""
    home = owner_home()
    profile, session = home.profile(), home.session()
    _print(_who(home, profile, session))
    if has_ended(session):
        raise NotSignedIn(
            "the session of the last login has ended", hint=f"sealspace login {profile.node}"
        )


@click.command()
def status() -> None:
    """Say whether the node answers, until when the session lasts, and what the login demands of the
    node.

    The exit status says whether commands would work: 0, or why they would not.
    """
    home = owner_home()
    said = _who(home, home.profile(), home.session())
    try:
        _ask()
        said["standing"] = "ready"
    except SealspaceError as error:
        said["standing"] = error.code
        raise
    finally:
        _print(said)


def _who(home: OwnerHome, profile: Profile, session: Session) -> dict[str, Json]:
    return {
        "owner": str(session.owner),
        "session": str(session.did),
        "expiresAt": optional_time(session.expires_at),
        "node": home.node or profile.node,
        "nodeDid": session.node_id,
        "demands": "nothing" if profile.node_policy is None else "proof of approved code",
        "keyFile": None if profile.key_file is None else str(profile.key_file),
    }


def _print(said: dict[str, Json]) -> None:
    print_found(said, facts({_WORDS.get(name, name): value for name, value in said.items()}))


@at_node
async def _ask(client: Client) -> None:
    """Ask a node as every command does: it answers, is the same one, and proves what is
    demanded."""
    await client.info()
    for grant in client.session.grants[:1]:  # the sign-in
        word = (await client.delegations.status(grant.cid)).word
        if word != "active":
            hint = f"sealspace login {client.url}"
            raise NotSignedIn(f"the session of the last login is {word} at the node", hint=hint)


@at_node
async def _revoke(client: Client) -> None:
    # the sign-in last: it carries the right to revoke the others
    for grant in reversed(client.session.grants):
        await client.delegations.revoke(grant.cid)
