"""The commands `sealspace recovery create`, `check` and `use`."""

from pathlib import Path

import click

from capabilities.principals import same_principal
from capabilities.signatures import WalletSigner

from ...errors import InvalidInput
from ...printable import printable
from ...service.command_errors import AlreadyThere
from ...wallets import wallet_from_key
from ...wire.transport import Transport
from ..options.durations import expires_option
from ..options.given_shares import (
    files_argument,
    node_for,
    owner_for,
    owner_option,
    passphrase_for,
    passphrase_option,
    read_passphrase,
    read_shares,
)
from ..options.made_shares import (
    folder_option,
    require_empty,
    require_possible,
    shares_option,
    threshold_option,
    write_shares,
)
from ..owner.node_terms import Demand, demand_options
from ..owner.owner_profile import (
    OwnerHome,
    Profile,
    owner_home,
    read_wallet,
    uses_machine_token,
)
from ..provided import node_evidence
from ..shared import shared
from ..terminal import facts, flag_option, print_result, tell
from .login import print_login, sign_in_and_keep, with_node_policy

# --- create ---------------------------------------------------------------------------------------


@click.command(
    epilog="Give each file to another person, and delete the folder. Later, try the shares with"
    " `sealspace recovery check FILE…`. New shares do not end old ones: every set that was ever"
    " made still gives the key, and the key of a wallet cannot be replaced."
)
@shares_option
@threshold_option
@folder_option(required=True)
@passphrase_option
@flag_option("--print", "prints", help="Also print the shares, with their words.")
def create(
    shares: int, threshold: int, folder: Path, passphrase_file: Path | None, prints: bool
) -> None:
    """Split the key of your wallet into shares, and write them to files.

    The threshold says how many shares give the key. Fewer give no information about it. With a
    passphrase, the shares give the key only together with it, and nobody can recover the key
    without it.
    """
    require_possible(shares, threshold)
    passphrase = "" if passphrase_file is None else read_passphrase(passphrase_file)
    require_empty(folder)
    profile, wallet = _open_own_wallet()
    written = write_shares(
        folder,
        wallet.secret,
        owner=wallet.did,
        node=profile.node,
        shares=shares,
        threshold=threshold,
        passphrase=passphrase,
    )
    document: dict[str, object] = {
        "owner": wallet.did,
        "files": written.paths,
        "threshold": threshold,
        "created": written.sheets[0].created,
    }
    if prints:
        document["words"] = [" ".join(sheet.share.words) for sheet in written.sheets]
        lines = "\n".join(written.texts).split("\n")
    else:
        lines = list(written.paths)
    print_result(document, lines)
    tell(
        f"any {threshold} of these {shares} files give the key of {wallet.did}",
        "give each file to another person, then delete the folder",
        "shares that were made before still give the key, too",
    )
    if passphrase:
        tell("the passphrase is in none of the files: without it, the key cannot be recovered")
    tell("to try the shares: sealspace recovery check FILE…")


def _open_own_wallet() -> tuple[Profile, WalletSigner]:
    """Return the last login and its wallet, whose key is in a file or keystore.

    Raises:
        InvalidInput: the login is by a recovery phrase, or by a wallet in the browser.
    """
    uses_machine_token()  # refuses one (CL5): only the owner may split the key
    profile = owner_home().profile()
    if profile.kind == "phrase":
        raise InvalidInput(
            "you log in with a recovery phrase, which is the backup of your key",
            hint="keep the phrase; shares are made of a wallet's key in a file or keystore",
        )
    wallet = owner_home().wallet() if profile.kind == "key" else None
    if not isinstance(wallet, WalletSigner):
        raise InvalidInput(
            "the key is in your browser's wallet, which sealspace cannot read",
            hint="make a backup with the wallet itself",
        )
    return profile, wallet


# --- check and use --------------------------------------------------------------------------------


@click.command(
    epilog="Example: `sealspace recovery check share-1-of-5.txt share-3-of-5.txt -` asks for the"
    " words of a third share. With all files of a set, each of them is checked."
)
@files_argument
@owner_option
@passphrase_option
def check(files: tuple[Path, ...], owner: str | None, passphrase_file: Path | None) -> None:
    """Check that shares give the key of their owner.

    Nothing is written, and no node is contacted. With `-`, the words are typed on the terminal, or
    each line of standard input is a share.
    """
    recovery = read_shares(files)
    expected = owner_for(recovery, owner)
    # Raises if the shares do not give the key of this owner.
    recovery.key(owner=expected, passphrase=passphrase_for(recovery, passphrase_file))
    sheet = recovery.sheet
    print_result(
        {"owner": expected, "given": len(recovery), "recovers": True},
        facts(
            {
                "owner": expected,
                "shares given": len(recovery),
                "made": None if sheet is None else sheet.created,
                "result": "they give the owner's key",
            }
        ),
    )


@click.command(
    epilog="Example: `sealspace recovery use share-1-of-5.txt share-3-of-5.txt share-4-of-5.txt`."
    " If the node has a new address, add `--node URL`."
)
@files_argument
@owner_option
@passphrase_option
@expires_option("7d", "How long the session lasts, at most 30d.", most_days=30)
@demand_options
def use(
    files: tuple[Path, ...],
    owner: str | None,
    passphrase_file: Path | None,
    ttl_s: float,
    demand: Demand,
) -> None:
    """Recover the key of a wallet from shares, and sign in with it.

    The key is compared with the owner's DID before anything is written. Then it is stored as the
    wallet's key, and the session as `sealspace login` stores it. With `-`, the words are typed on
    the terminal, or each line of standard input is a share. A folder that another owner uses is
    refused.
    """
    home = owner_home()
    last_profile = _read_last_profile(home)
    if demand.trust_root is not None:
        node_evidence().read_trust_root(demand.trust_root)  # rejects a file that is not a root
    recovery = read_shares(files)
    expected = owner_for(recovery, owner)
    if last_profile.owner:
        _require_same_owner(f"the folder {home.folder} is that of", last_profile.owner, expected)
    key = recovery.key(owner=expected, passphrase=passphrase_for(recovery, passphrase_file))
    wallet = wallet_from_key(key)
    key_file = home.default_key_file.absolute()
    if key_file.exists():
        did_in_file = read_wallet(key_file).did
        _require_same_owner(f"{key_file} contains the key of", did_in_file, wallet.did)
    node = node_for(recovery, shared().node)
    Transport(node)  # rejects an invalid address
    planned = Profile(
        node=node,
        owner=wallet.did,
        key_file=key_file,
        trust_root=demand.trust_root,
        collateral=demand.collateral,
        spaces=last_profile.spaces,
    )
    tell(f"the shares give the key of {wallet.did}", f"signing in at {printable(node)}")
    session, profile = sign_in_and_keep(
        with_node_policy(last_profile, demand, planned),
        wallet,
        new_secret=None if key_file.exists() else key,
        ttl_s=ttl_s,
    )
    print_login(profile, session)
    tell(f"the wallet's key is in {profile.key_file}")


def _read_last_profile(home: OwnerHome) -> Profile:
    """Read the settings of the last login; without one, return empty settings."""
    if (home.folder / "profile.json").exists():
        return home.profile()  # unreadable settings are refused: they may be another owner's
    return Profile(node="", owner="", key_file=home.default_key_file.absolute())


def _require_same_owner(belongs_to: str, present_owner: str, expected_owner: str) -> None:
    """Refuse to overwrite what belongs to another owner (RV11).

    `belongs_to` begins the message; the present owner follows.
    """
    if not same_principal(present_owner, expected_owner):
        raise AlreadyThere(
            f"{belongs_to} {present_owner}",
            hint="recover into a new folder: add --home DIR",
        )
