"""The commands `sealspace login`, `logout`, `whoami` and `status`."""

import asyncio
import dataclasses
import re
import sys
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

import click
from msgspec.structs import replace

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.frozen import frozen
from capabilities.signatures import WalletSigner
from encryption_network.policy import Policy

from ...client import Client, SignIn
from ...errors import NodeFailure, NotSignedIn, SealspaceError, SpacesNotHosted, StoreFull
from ...printable import printable
from ...service.command_errors import KeyFileUnusable
from ...service.term_files import read_node_policy
from ...session import SECRETS_SPACE, Session, key_session
from ...wallets import Wallet, seed_from_phrase
from ...wire.node_answers import json_object
from ...wire.transport import Request, Transport
from ..options.durations import expires_option
from ..options.paths import NEW_FILE, file_option, require_readable
from ..owner.chosen_team import chosen_team
from ..owner.node_terms import Demand, demand_options, gathering
from ..owner.owner_profile import (
    PASSWORD_VARIABLE,
    OwnerHome,
    Profile,
    at_node,
    has_ended,
    opened,
    owner_home,
    write_wallet,
)
from ..provided import node_evidence
from ..share.grant_list import accept_received_again
from ..share.network import OWNER_ABILITIES
from ..share.visits import ReadsByOthers, reads_by_others
from ..shared import NODE_VARIABLE, shared
from ..terminal import (
    ask_hidden,
    confirm,
    facts,
    flag_option,
    optional_time,
    print_lines,
    print_result,
    repeatable_option,
    tell,
    what_happened,
)
from ..use.project import find_project

_MAX_PHRASE_BYTES = 256
_CONSOLE_PAGE = re.compile(r"(\w+://[^/?#]+)/console(?:[/?#].*)?")
"""Address of a page of the console; its first group is the node's."""


@frozen
class WalletOptions:
    """The options of `sealspace login` that select a wallet."""

    key_file: Path | None
    keystore: Path | None
    is_new: bool
    in_browser: bool
    phrase: bool
    no_open: bool

    @property
    def is_key(self) -> bool:
        """Whether the options select a local key as the wallet."""
        return self.is_new or self.key_file is not None or self.keystore is not None

    def __post_init__(self) -> None:
        """Reject contradictory wallet options and an unreadable key file."""
        if self.keystore is not None and (self.is_new or self.key_file is not None):
            raise click.UsageError("--keystore cannot be combined with --new or --key-file")
        wallets = [self.phrase, self.in_browser, self.is_key]
        if wallets.count(True) > 1:
            raise click.UsageError(
                "--browser and --phrase cannot be combined with each other, or with --new,"
                " --key-file or --keystore"
            )
        if self.key_file is not None and not self.is_new:
            require_readable(
                self.key_file,
                hint="add --new to create this key file, or name your key file with --key-file",
            )


@click.command(
    epilog="Examples: `sealspace login http://127.0.0.1:8000 --new` creates a key and signs in;"
    " later, `sealspace login` signs in again. `sealspace login URL --browser` signs with the"
    " wallet in your browser and stores no key on this machine. With `--require-node-evidence"
    " --node-policy approved.json`, no command sends a token before the node has proved that it"
    " runs that code; `sealspace verify URL` prints such a policy."
)
@click.argument("url", required=False)
@gathering(
    "wallet_options",
    WalletOptions,
    click.option(
        "--key-file",
        type=NEW_FILE,
        help="File with the wallet's private key: 64 hex digits, mode 0600. Default: the file that"
        " the last login used, or wallet.key in the owner's folder.",
    ),
    file_option(
        "--keystore",
        help="Web3 keystore (version 3) to use instead of a key file. The password is read from"
        f" {PASSWORD_VARIABLE}; if it is not set, the command asks for the password.",
    ),
    flag_option(
        "--new",
        "is_new",
        help="Create a key, and write the key to the key file. Keep a backup of this file.",
    ),
    flag_option(
        "--browser",
        "in_browser",
        help="Sign with the wallet in your browser, on a local page whose address is printed. So do"
        " later commands that need the wallet's signature. No key is stored.",
    ),
    flag_option(
        "--phrase",
        help="Sign in with the recovery phrase that you made in the console. The command asks"
        " for the phrase, or reads one line of standard input. The key made from the phrase is"
        " deleted by `sealspace logout`, and by the first command after the session ends.",
    ),
    flag_option(
        "--no-open",
        help="With --browser, only print the page's address; do not open a browser.",
    ),
)
@repeatable_option(
    "--space",
    "spaces",
    metavar="NAME",
    help="Sign in to your space NAME in addition to the default space; repeatable.",
)
@expires_option("7d", "How long the session lasts, at most 30d.", most_days=30, former="--days")
@demand_options
def login(
    url: str | None,
    spaces: tuple[str, ...],
    ttl_s: float,
    wallet_options: WalletOptions,
    demand: Demand,
) -> None:
    """Sign in to the node at URL as an owner.

    The session is stored for later commands. Without URL and --node, this signs in to the node of
    the last login. The wallet signs a message. The owner of a recovery phrase signs with the
    phrase's key. The owner's secrets space and encryption network are created if they do not exist
    yet.
    """
    home = owner_home()
    before = Profile(node="", owner="", key_file=home.default_key_file.absolute())
    with suppress(NotSignedIn):
        before = home.profile()
    node = url or shared().node or before.node
    if not node:
        raise click.UsageError(f"specify the node: sealspace login URL, or set {NODE_VARIABLE}")
    if (page := _CONSOLE_PAGE.fullmatch(node)) is not None:
        node = page[1]
        tell(f"this is the address of the console; the command uses the node {node}")
    Transport(node)  # rejects an invalid address before a key is created or a question is asked
    if demand.trust_root is not None:
        node_evidence().read_trust_root(demand.trust_root)  # rejects a file that is not a root
    planned = Profile(
        node=node, owner="", trust_root=demand.trust_root, collateral=demand.collateral
    )
    planned = _with_wallet(home, before, wallet_options, with_node_policy(before, demand, planned))
    opened_wallet = _open_wallet(planned, before, is_new=wallet_options.is_new)
    wallet = opened_wallet.wallet
    new_secret = opened_wallet.new_secret
    if before.owner == wallet.did:
        spaces = (*before.spaces, *spaces)
    profile = replace(planned, owner=wallet.did, spaces=tuple(dict.fromkeys(spaces)))

    session, profile = sign_in_and_keep(profile, wallet, new_secret=new_secret, ttl_s=ttl_s)
    print_login(profile, session)
    if new_secret is not None:
        tell(
            f"the wallet's key is in {profile.key_file}: keep a backup of this file, because"
            " secrets cannot be recovered without the key"
        )
        tell("next: sealspace secret put NAME")


class LoggedIn(NamedTuple):
    """The session of a login, and the settings that belong to it."""

    session: Session
    profile: Profile


def sign_in_and_keep(
    profile: Profile, wallet: Wallet | Session, *, new_secret: bytes | None, ttl_s: float
) -> LoggedIn:
    """Sign in to a node, and store the session and the profile in the owner's folder.

    Args:
        profile: the settings of this login; the node answers for `profile.node_policy`.
        wallet: the wallet, or for a recovery phrase a session of the owner's own key.
        new_secret: a private key to write to `profile.key_file`, which does not exist yet.
        ttl_s: lifetime of the session, seconds.
    """
    home = owner_home()

    def keep_key() -> None:
        """Write a new wallet's key to its file."""
        if profile.key_file is not None and new_secret is not None:
            write_wallet(profile.key_file, new_secret)

    try:
        logged_in = asyncio.run(_sign_in(profile, wallet, ttl_s=ttl_s))
    except SpacesNotHosted as refusal:
        # Keep the key: the operator may admit this owner, and a new key would be another owner.
        keep_key()
        again = "" if profile.kind == "key" else f" --{profile.kind}"
        refusal.step = (
            f"ask the operator to admit {wallet.did}, then: sealspace login {profile.node}{again}"
        )
        raise
    keep_key()  # first: if the next step fails, a second login uses this key
    home.keep(logged_in.profile, logged_in.session)
    if home.received():
        accept_received_again()
    return logged_in


def _with_wallet(
    home: OwnerHome, before: Profile, options: WalletOptions, profile: Profile
) -> Profile:
    """Set the wallet in the login settings.

    The default is the wallet of the last login.
    """
    if options.in_browser:
        kind = "browser"
    elif options.phrase:
        kind = "phrase"
    else:
        kind = before.kind
    if not options.is_key and kind == "browser":
        opens = not options.no_open and (options.in_browser or before.opens_browser)
        return replace(profile, kind=kind, opens_browser=opens)
    if options.no_open:
        raise click.UsageError("--no-open needs --browser")
    if not options.is_key and kind == "phrase":
        return replace(profile, kind=kind)
    # From here on, the wallet is a key: `kind` of the new settings is "key" by default.
    if (file := options.keystore or options.key_file) is not None:
        return replace(profile, key_file=file.absolute(), is_keystore=options.keystore is not None)
    if options.is_new:
        return replace(profile, key_file=home.default_key_file.absolute())
    if home.is_of_another_home(before.key_file):
        tell(
            f"warning: the wallet key is in the folder of another login: {before.key_file}",
            "to use a different key: sealspace login --key-file FILE",
        )
    return replace(profile, key_file=before.key_file, is_keystore=before.is_keystore)


@frozen
class _OpenedWallet:
    """A wallet that signs in.

    Attributes:
        wallet: the wallet, or for a recovery phrase a session of the owner's own key.
        new_secret: the private key of a new wallet, which is not stored yet.
    """

    wallet: Wallet | Session
    new_secret: bytes | None = field(default=None, repr=False)


def _open_wallet(profile: Profile, before: Profile, *, is_new: bool) -> _OpenedWallet:
    """Open the wallet of the new login settings, or create it.

    `before` are the settings of the last login.
    """
    path = profile.key_file
    if path is None:
        # The person is going to be asked for a signature or a phrase. This would be in vain if the
        # node is down.
        asyncio.run(_require_answer(profile.node))
    if profile.kind == "browser":
        # Imported here: only browser wallets need the server.
        from ..owner.wallet_page import connect_browser

        wallet = connect_browser(
            profile.node, opens=profile.opens_browser, before=before.owner or None
        )
        return _OpenedWallet(wallet)
    if path is not None and is_new:
        if not path.exists():
            secret = SystemEntropy().token(32)
            return _OpenedWallet(WalletSigner(secret), new_secret=secret)
        if before.owner and before.key_file == path:
            raise KeyFileUnusable(
                f"{path} already exists", hint="omit --new to use the existing key"
            )
        # A login that the node refused, or that was interrupted, left this key.
        tell(f"using the existing key file {path}, which was never used to log in")
    with owner_home().naming_other_keys(replace(profile, owner=before.owner)):
        stored_wallet = profile.wallet()
    if stored_wallet is not None:
        return _OpenedWallet(stored_wallet)
    # Only the owner of a recovery phrase has no wallet.
    if sys.stdin.isatty():
        phrase = ask_hidden("recovery phrase")
    else:
        phrase = sys.stdin.buffer.readline(_MAX_PHRASE_BYTES).decode("utf-8", "replace")
    return _OpenedWallet(key_session(seed_from_phrase(phrase)))


async def _require_answer(node: str) -> None:
    """Check that a node answers."""
    async with Client(node) as client:
        await client.info()


def print_login(profile: Profile, session: Session) -> None:
    """Print who is signed in, and until when."""
    ends = optional_time(session.expires_at)
    print_result(
        {
            "owner": profile.owner,
            "node": session.node_id,
            "expiresAt": ends,
            "keyFile": None if profile.key_file is None else str(profile.key_file),
            "nodeEvidence": profile.node_policy is not None,
        },
        (f"logged in as {profile.owner}", f"at {profile.node}, {printable(str(session.node_id))}"),
    )
    if ends is not None:
        tell(f"until {ends}")
    if profile.node_policy is not None:
        tell("the node proved that it runs approved code; every later command checks this again")
    if profile.kind == "phrase":
        tell(
            f"the owner's key is in {owner_home().folder / 'session.json'}: whoever reads this file"
            " can act as you",
            "to delete the file: sealspace logout",
        )


def with_node_policy(before: Profile, demand: Demand, profile: Profile) -> Profile:
    """Set the node policy in the login settings.

    The default is the policy of the last login.
    """
    if demand.insists:
        if demand.code_file is None:
            code = asyncio.run(_ask_to_approve_code(profile.node, demand))
        else:
            code = read_node_policy(demand.code_file)
        return replace(profile, node_policy=demand.accepted.policy(code))
    is_other_node = before.node.rstrip("/") != profile.node.rstrip("/")
    if demand.insists is False or is_other_node or before.node_policy is None:
        return profile
    # A plain `sealspace login`, which many hints suggest, must not drop the policy.
    return replace(
        profile,
        trust_root=profile.trust_root or before.trust_root,
        collateral=profile.collateral or before.collateral,
        node_policy=before.node_policy,
    )


async def _ask_to_approve_code(node: str, demand: Demand) -> Policy:
    """Ask the user to approve the code that the node runs.

    Returns a policy for exactly that code.
    """
    node_judging = node_evidence()
    verifier = node_judging.node_verifier(
        trust_root=demand.trust_root, collateral=demand.collateral
    )
    async with Client(node) as client:
        attestation = await node_judging.ask_node(client)
    facts = await verifier.examine(attestation, now=SystemClock.now())
    print_lines(*node_judging.in_words(attestation.statement, facts), err=True)
    confirm(
        "approve exactly this code?",
        hint="save the policy that `sealspace verify URL` prints, and add --node-policy FILE",
    )
    return node_judging.exact_code(facts)


def owner_sign_in(profile: Profile, ttl_s: float) -> SignIn:
    """Return the rights that an owner's sign-in asks for.

    One message has all of them, so that a person signs once.
    """
    return SignIn(
        ttl_s=ttl_s, network_abilities=OWNER_ABILITIES, spaces=profile.spaces, spaces_rights=True
    )


async def _sign_in(profile: Profile, wallet: Wallet | Session, *, ttl_s: float) -> LoggedIn:
    """Sign in to the node with a wallet, or with the owner's own key.

    If the profile has a node policy, the node's store id is added to the policy.
    """
    async with opened(profile, profile.node) as client:
        if isinstance(wallet, Session):
            assert wallet.seed is not None  # `_open_wallet` made the session from a seed
            session = await client.sign_in_with_key(
                wallet.seed, spaces=("default", SECRETS_SPACE, *profile.spaces)
            )
            # An owner's own key has no end at the node. The session ends on this machine alone.
            client.use(dataclasses.replace(session, ends_at=int(SystemClock.now() + ttl_s)))
        else:
            await client.sign_in(wallet, owner_sign_in(profile, ttl_s))
        await client.encryption.ensure_network()  # the stored session pins this network's key
        if (policy := profile.node_policy) is not None:
            store_id = (await client.node_evidence()).statement.store_id
            profile = replace(profile, node_policy=dataclasses.replace(policy, store_id=store_id))
        return LoggedIn(session=client.session, profile=profile)


# --- the session of the last login ----------------------------------------------------------------

_LABELS = {
    "expiresAt": "until",
    "nodeDid": "node DID",
    "keyFile": "key file",
    "demands": "requires",
    "standing": "state",
    "readsByOthers": "read by others",
}
"""JSON member -> label for a person."""
_WORKING = ("ok", "untried")


@click.command()
def logout() -> None:
    """End the session at the node, and delete the stored session.

    This command keeps the wallet's key, the grant files and the settings of the last login. To sign
    in again, run `sealspace login`.
    """
    home = owner_home()
    if not (home.folder / "session.json").exists():
        tell("not logged in: nothing to do")
        return
    session = home.session()
    try:
        # A session with an owner's own key has nothing to revoke: there is no sign-in at the node,
        # and its grants are those that others made to the key.
        if session.did != session.owner and not has_ended(session):
            _revoke()
    except SealspaceError as error:
        ends = optional_time(session.expires_at)
        tell(
            f"could not end the session at the node, which accepts the session until {ends}:"
            f" {what_happened(error)}"
        )
    home.forget_session()
    tell(f"logged out {session.owner}")


@click.command()
def whoami() -> None:
    """Print the owner, the session's key and the node.

    The node is not contacted.
    """
    home = owner_home()
    _print(_who(home))
    home.live_session()  # fails if the session has ended


@click.command()
def status() -> None:
    """Check that the node answers and that the session is valid.

    The exit status is 0 if other commands can use the node and the session. Otherwise, this
    command fails with the same exit status as the other commands. The state is `degraded` if the
    node says that something does not work at the moment, such as large values on a full disk, and
    `not-ready` if the node cannot write, or was just restored. The reads by others are those since
    your last `sealspace receipts list`, or those of the last 30 days. In a project, this also shows
    what `sealspace run` passes.
    """
    document = _who(owner_home())
    try:
        if (project := find_project()) is not None:
            document |= {
                "project": project.path,
                "scope": project.scope or None,
                "passes": project.passes,
            }
        document["standing"], reads = _check_session()
        document["readsByOthers"] = None if reads is None else reads.words
    except NodeFailure as error:
        document["standing"] = f"not-ready: {error.text}"
        raise
    except SealspaceError as error:
        document["standing"] = error.code
        raise
    finally:
        # Printed after a failed check, too: the error message follows.
        _print(document)


def _who(home: OwnerHome) -> dict[str, object]:
    """Return what `whoami` shows without a request to the node."""
    profile, session = home.profile(), home.session()
    chosen = chosen_team(home)
    team = None
    if chosen is not None:
        team = chosen.name if chosen.did is None else f"{chosen.name} ({chosen.did})"
    return {
        "owner": session.owner,
        "team": team,
        "session": session.did,
        "expiresAt": optional_time(session.expires_at),
        "node": home.node or profile.node,
        "nodeDid": session.node_id,
        "demands": "nothing" if profile.node_policy is None else "proof of approved code",
        "keyFile": None if profile.key_file is None else str(profile.key_file),
    }


def _print(document: dict[str, object]) -> None:
    print_result(
        document, facts({_LABELS.get(name, name): value for name, value in document.items()})
    )


class _NodeState(NamedTuple):
    """The state of the node of the last login.

    Attributes:
        text: `ready`, or what the node cannot do at the moment.
        reads: the reads by others since the last visit; None if they are not known.
    """

    text: str
    reads: ReadsByOthers | None


@at_node
async def _check_session(client: Client) -> _NodeState:
    """Check that the node answers and that the session is still active."""
    await client.info()
    session = client.session
    # An owner's own key has no sign-in that could be revoked.
    is_own_key = session.did == session.owner
    if session.grants and not is_own_key:
        sign_in = session.grants[0]  # those that were added later follow
        word = (await client.delegations.status(sign_in.cid)).word
        if word != "active":
            raise NotSignedIn(
                f"the node says that the session of your last login is {word}",
                hint=f"sealspace login {client.url}",
            )
    async with Transport(client.url) as transport:
        state = await read_state(transport)
    try:
        return _NodeState(text=state, reads=await reads_by_others(client))
    except SealspaceError as error:
        # The state says already what the node cannot do.
        tell(f"warning: cannot count reads by others: {what_happened(error)}")
        return _NodeState(text=state, reads=None)


async def read_state(transport: Transport) -> str:
    """Return `ready`, or what the node cannot do at the moment, by its route `/readyz`.

    Raises NodeFailure if the node is not ready.
    """
    answer = await transport.exchange(Request("GET", "/readyz", serves_once=True))
    if answer.status not in (200, 503):
        return "ready"  # a node without this route
    document = json_object(answer)
    if "ready" not in document:
        return "ready"
    parts = [(name, state) for name, state in document.items() if isinstance(state, str)]
    text = "; ".join(f"{name}: {state}" for name, state in parts if state not in _WORKING)
    if document.get("ready") is False:
        refused = StoreFull if document.get("write") == "store-full" else NodeFailure
        raise refused(503, text, asked="the node is not ready")
    return text or "ready"


@at_node
async def _revoke(client: Client) -> None:
    """Revoke the sign-in of a session and the grants that were added to it."""
    # Revoke the sign-in last: it carries the right to revoke the other grants.
    for grant in reversed(client.session.grants):
        await client.delegations.revoke(grant.cid)
