"""`sealspace login`: sign in to a node as the owner of spaces and secrets, with a wallet."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from capabilities.abilities import DECRYPT, NETWORK_CREATE, READ_RECEIPTS, SET_POLICY
from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.signatures import WalletSigner
from capabilities.strict_json import Json
from encryption_network.policy import Policy

from ..client import Client, SignIn
from ..documents.node_evidence import NodePolicy
from ..errors import InvalidInput, NotSignedIn, SpacesNotHosted
from ..printable import printable
from ..session import Session
from ..wallets import Wallet
from ..wire.transport import Transport
from .errors import KeyFileUnusable
from .grant_use import take_up_received
from .lazy import provided
from .node_demand import demanding
from .node_terms import Demand, demand_options
from .owner_profile import OwnerHome, Profile, owner_home
from .paths import FILE, NEW_FILE, require_readable
from .shared import NODE_VARIABLE, shared
from .term_files import read_node_policy
from .terminal import optional_time, print_found, print_lines, time_text, watched, words
from .wallet_files import PASSWORD_VARIABLE, open_keystore, read_wallet, write_wallet

_NETWORK_ABILITIES: Final = (DECRYPT, NETWORK_CREATE, SET_POLICY, READ_RECEIPTS)


@click.command(
    epilog="Examples: `sealspace login http://127.0.0.1:8000 --new` makes a key and signs in; later `sealspace login` "
    "signs in again. `sealspace login URL --browser` asks the wallet in a browser instead, and keeps no key here. With "
    "`--require-node-evidence --node-policy approved.json` no token leaves this machine, now or later, unless the node "
    "proves that it runs that code; `sealspace verify URL` prints such a policy."
)
@click.argument("url", metavar="[URL]", required=False)
@click.option(
    "--key-file",
    type=NEW_FILE,
    help="The wallet's private key as 64 hex digits, mode 0600; by default that of the last login, or wallet.key in "
    "the owner's folder.",
)
@click.option(
    "--keystore",
    type=FILE,
    help=f"A Web3 keystore of version 3 instead; its password is asked for, or is in {PASSWORD_VARIABLE}.",
)
@click.option("--new", "is_new", is_flag=True, help="Make the key file, with a new key; keep a copy of it.")
@click.option(
    "--browser",
    "in_browser",
    is_flag=True,
    help="Ask the wallet in a browser, in a page on this machine whose address is printed, now and in later commands "
    "that need its signature; no key is kept here.",
)
@click.option("--no-open", is_flag=True, help="Print the address of that page only; open no browser.")
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
    url: str | None,
    key_file: Path | None,
    keystore: Path | None,
    is_new: bool,
    in_browser: bool,
    no_open: bool,
    spaces: tuple[str, ...],
    days: float,
    demand: Demand,
) -> None:
    """Sign in to the node at URL as an owner; the session is kept for the commands that follow.

    URL is remembered; without it, and without --node, the node of the last login is meant. The wallet signs, and the
    owner's space for secrets and encryption network are there afterwards.
    """
    named = _Named(key_file, keystore, is_new=is_new, in_browser=in_browser, no_open=no_open)
    named.require_one()
    place = owner_home()
    before = _before(place)
    node = _address(url, before)
    demand, policy = _demanded(before, node, demand)
    opened = _opened(place, before, node, named)
    profile = Profile(
        node=node,
        owner=opened.wallet.did,
        key_file=opened.path,
        is_keystore=opened.is_keystore,
        opens_browser=opened.opens_browser,
        trust_root=demand.trust_root,
        collateral=demand.collateral,
        node_policy=policy,
        spaces=_remembered_spaces(before, opened.wallet.did, spaces),
    )
    try:
        session, policy = asyncio.run(_sign_in(profile, opened.wallet, ttl_s=days * 86_400))
    except SpacesNotHosted as refusal:
        # The operator may admit this owner: the key is kept, for another one would not be the owner that is admitted.
        opened.keep_key()
        again = "" if opened.path is not None else " --browser"
        refusal.step = f"ask the operator to admit {opened.wallet.did}, then: sealspace login {node}{again}"
        raise
    profile = replace(profile, node_policy=policy)
    opened.keep_key()  # first: what fails in between leaves the key, which the next `--new` takes
    place.keep(profile, session)
    take_up_received()
    print_found(
        _as_json(profile, session),
        (f"logged in as {profile.owner}", f"at {profile.node}, {printable(str(session.node_id))}"),
    )
    _describe(profile, session, is_new=opened.secret is not None)


def _address(url: str | None, before: Profile | None) -> str:
    """Return the address of the node, which is one; nothing is made or asked for before that is known."""
    node = url or shared().node or (None if before is None else before.node)
    if node is None:
        raise click.UsageError(f"name the node: sealspace login URL, or set {NODE_VARIABLE}")
    Transport(node)
    return node


@dataclass(frozen=True, slots=True)
class _Named:
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

    def require_one(self) -> None:
        """Refuse more than one wallet, and a file that is not there."""
        if self.keystore is not None and (self.is_new or self.key_file is not None):
            raise click.UsageError("--keystore names the key: leave --new and --key-file out")
        if self.in_browser and self.is_key:
            raise click.UsageError("--browser asks the wallet there: leave --new, --key-file and --keystore out")
        if self.key_file is not None and not self.is_new:
            require_readable(self.key_file, hint="add --new to make one there, or name the file with your key")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A wallet; the file with its key, None in a browser; and the secret of a new one, which is not stored yet."""

    wallet: Wallet
    path: Path | None = None
    is_keystore: bool = False
    opens_browser: bool = True
    secret: bytes | None = field(default=None, repr=False)

    def keep_key(self) -> None:
        """Store a new key."""
        if self.path is not None and self.secret is not None:
            write_wallet(self.path, self.secret)


def _opened(place: OwnerHome, before: Profile | None, node: str, named: _Named) -> _Opened:
    """Open the wallet that is named, else that of the last login; or make one."""
    was_in_browser = before is not None and before.key_file is None
    if named.in_browser or (was_in_browser and not named.is_key):
        opens = not named.no_open and (named.in_browser or before is None or before.opens_browser)
        return _Opened(wallet=_browser_wallet(node, before, opens=opens), opens_browser=opens)
    if named.no_open:
        raise click.UsageError("--no-open is about the page of --browser")
    path, is_keystore = _key_file(place, None if named.is_new else before, named.key_file, named.keystore)
    if named.is_new:
        wallet, secret = _new_wallet(path, before)
        return _Opened(wallet=wallet, path=path, secret=secret)
    return _Opened(wallet=open_keystore(path) if is_keystore else read_wallet(path), path=path, is_keystore=is_keystore)


def _browser_wallet(node: str, before: Profile | None, *, opens: bool) -> Wallet:
    """Ask a wallet in a browser for its account; a node that does not answer is found out before."""
    from .wallet_page import connect_browser  # a server of pages, for owners with such a wallet

    asyncio.run(_reach(node))
    return connect_browser(node, opens=opens, before=None if before is None else before.owner)


async def _reach(node: str) -> None:
    async with Client(node) as client:
        await client.info()


def _key_file(
    place: OwnerHome, before: Profile | None, key_file: Path | None, keystore: Path | None
) -> tuple[Path, bool]:
    """Return where the wallet's key is, and whether that is a keystore: what is named, else what served before."""
    named = keystore or key_file
    if named is not None:
        return named.absolute(), keystore is not None
    if before is None or before.key_file is None:
        return place.default_key_file.absolute(), False
    if place.is_of_another_home(before.key_file):
        words(
            f"the wallet's key is taken from another home: {before.key_file}",
            "name the one that is meant: sealspace login --key-file FILE",
        )
    return before.key_file, before.is_keystore


def _new_wallet(path: Path, before: Profile | None) -> tuple[WalletSigner, bytes | None]:
    """Return a new wallet and its secret, which is not stored yet; or the one of a file that no login has used.

    Such a file is what a login left that the node did not host.
    """
    if not path.exists():
        secret = SystemEntropy().token(32)
        return WalletSigner(secret), secret
    if before is not None and before.key_file == path:
        raise KeyFileUnusable(f"{path} is there already", hint="leave --new out to use it")
    wallet = read_wallet(path)
    words(f"{path} is there already, and nobody has logged in with it: it is used")
    return wallet, None


def _remembered_spaces(before: Profile | None, owner: str, spaces: tuple[str, ...]) -> tuple[str, ...]:
    known = before.spaces if before is not None and before.owner == owner else ()
    return tuple(dict.fromkeys((*known, *spaces)))


def _as_json(profile: Profile, session: Session) -> dict[str, Json]:
    return {
        "owner": profile.owner,
        "node": session.node_id,
        "expiresAt": optional_time(session.expires_at),
        "keyFile": None if profile.key_file is None else str(profile.key_file),
        "nodeEvidence": profile.node_policy is not None,
    }


def _describe(profile: Profile, session: Session, *, is_new: bool) -> None:
    if session.expires_at is not None:
        words(f"until {time_text(session.expires_at)}")
    if profile.node_policy is not None:
        words("the node proved approved code, and has to before every later command")
    if is_new:
        words(f"the wallet's key is in {profile.key_file}: keep a copy, nothing is recovered without it")
        words("next: sealspace secret put NAME")


def _before(home: OwnerHome) -> Profile | None:
    with suppress(NotSignedIn):
        return home.profile()
    return None


def _demanded(before: Profile | None, node: str, demand: Demand) -> tuple[Demand, NodePolicy | None]:
    """Return the demand with what the last login stored, and the policy that the node has to satisfy.

    The policy is None where nothing is demanded.
    """
    if demand.insists is False:
        return demand, None
    if demand.insists:
        code = read_node_policy(demand.code_file) if demand.code_file else asyncio.run(_seen_code(node, demand))
        return demand, demand.accepted.policy(code)
    if before is None or before.node.rstrip("/") != node.rstrip("/") or before.node_policy is None:
        return demand, None
    # Signing in again, which the commands' hints suggest, must not drop what was demanded.
    trust_root, collateral = demand.trust_root or before.trust_root, demand.collateral or before.collateral
    return replace(demand, trust_root=trust_root, collateral=collateral), before.node_policy


async def _seen_code(node: str, demand: Demand) -> Policy:
    """Show what the node runs, and return the policy for exactly that if the owner approves of it."""
    node_judging = provided("node-evidence")  # needs the extra `verify`; not needed where nothing is demanded

    async with node_judging.node_verifier(trust_root=demand.trust_root, collateral=demand.collateral) as verifier:
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


async def _sign_in(profile: Profile, wallet: Wallet, *, ttl_s: float) -> tuple[Session, NodePolicy | None]:
    """Return the session, and what is demanded from now on, bound to this store."""
    policy = profile.node_policy
    async with (
        demanding(profile.node, policy, trust_root=profile.trust_root, collateral=profile.collateral) as requirement,
        Client(profile.node, require_node_evidence=requirement) as client,
    ):
        # All in one message: a person is asked once.
        asked = SignIn(ttl_s=ttl_s, network_abilities=_NETWORK_ABILITIES, spaces=profile.spaces, spaces_rights=True)
        await client.sign_in(wallet, asked)
        await client.encryption.ensure_network()  # the stored session pins the network's key from now on
        if policy is not None:
            policy = replace(policy, store_id=(await client.node_evidence()).statement.store_id)
        return client.session, policy
