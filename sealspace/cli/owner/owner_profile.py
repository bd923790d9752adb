"""Files that store an owner's profile, session, key and grants.

All have mode 0600.

    ~/.sealspace/profile.json   node, owner, key file, requirements on the node; no secret
      session.json              the session of the last login, with its private key; after a login
                                with a recovery phrase this is the owner's own key, which is
                                deleted by `logout` or the first command after the end
      visit.json                until when the owner has listed the reads by others
      wallet.key                the wallet's private key as 64 hex digits (default path)
      grants/<cid>.json         grants made on this machine, in portable form
      grants/<cid>.url          the backend address that such a grant was sent to
      received/<cid>.json       grants by others to the wallet

Example:
    async with owner_home().client() as client: ...

    @at_node
    async def _names(client: Client) -> tuple[str, ...]: ...
    names = _names()
"""

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import wraps
from pathlib import Path
from shlex import quote
from typing import Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

import click
import msgspec
from msgspec.structs import replace

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.clock_and_entropy import SystemClock
from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import is_wallet, principal_of, same_principal
from capabilities.signatures import WalletSigner
from capabilities.strict_json import JsonObject, parse_json
from encryption_network.canonical_json import canonical_bytes

from ...client import Client
from ...documents.node_evidence import NodePolicy, NodeRequirement
from ...errors import (
    DelegationRevoked,
    InvalidKeystore,
    InvalidPortableDelegation,
    InvalidSession,
    NodeEvidenceRefused,
    NotGranted,
    NotSignedIn,
    WrongPassword,
)
from ...private_files import file_fault, make_file, read_bounded, read_key, replace_file
from ...service.command_errors import KeyFileUnusable, NotThere
from ...session import Session, load_session, save_session
from ...wallets import MAX_KEYSTORE_BYTES, Wallet, parse_keystore, wallet_from_keystore
from ...wire.id_tokens import TRUST_VARIABLE, exchange_id_token
from ...wire.portable import (
    MAX_PORTABLE_BYTES,
    PortableDelegation,
    decode_portable,
    encode_portable,
)
from ...wire.token_line import TOKEN_VARIABLE, read_token, required_variable, token_of
from ..provided import node_evidence
from ..shared import FOLDER_NAME, for_team, shared
from ..terminal import ask_hidden, is_interactive, tell
from .node_terms import node_policy_json, parse_node_policy

_MAX_PROFILE_BYTES = 128 * 1024
_HINT = "log in again to write it anew: sealspace login URL, with your node's address as URL"
FIRST_LOGIN = (
    "sealspace login URL --new, with your node's address as URL, such as http://127.0.0.1:8000; if"
    " you have a wallet key, use --key-file FILE instead of --new"
)
_ACCEPTING = {
    "secret-origin": "--accept-operator-secret",
    "trust-roots": "--accept-root HEX",
    "node-policy": "--accept-node-policy",
    "key-providers": "--accept-key-provider PROVIDER",
}
"""Reason for refusing a node's evidence -> the option that accepts it."""

_FOR_TOKENS = ("sealspace run", "sealspace template", "sealspace secret get", "sealspace door")
"""Commands that a machine token may use (CL5)."""
_FOR_JOBS = ("sealspace runner grant",)
"""Commands that the token of a job may use (CL5)."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Profile(FrozenStruct, kw_only=True, rename="camel"):
    """The settings of an owner's last login."""

    node: str
    owner: str
    key_file: Path | None = None
    trust_root: Path | None = None
    collateral: Path | None = None
    node_policy: NodePolicy | None = None
    spaces: tuple[str, ...] = ()
    is_keystore: bool = msgspec.field(default=False, name="keystore")
    opens_browser: bool = True
    kind: Literal["key", "browser", "phrase"] = msgspec.field(default="key", name="wallet")

    def is_consistent(self) -> bool:
        """Return whether the kind of wallet fits the key file and the owner."""
        if (self.kind == "key") != (self.key_file is not None):
            return False
        # A browser wallet has an Ethereum address. A recovery phrase makes a key (did:key).
        if is_wallet(principal_of(self.owner)):
            return self.kind != "phrase"
        return self.kind != "browser"

    def wallet(self) -> Wallet | None:
        """Open the owner's wallet.

        This asks for the password of a keystore if needed. The owner of a recovery phrase has no
        wallet: the session's key is the owner's.
        """
        if self.kind == "phrase":
            return None
        if self.key_file is None:
            # Imported here: only browser wallets need the server. It starts with the first
            # signature.
            from .wallet_page import BrowserWallet

            return BrowserWallet(principal_of(self.owner), self.node, opens=self.opens_browser)
        if self.is_keystore:
            return open_keystore(self.key_file)
        return read_wallet(self.key_file)


class KeptGrant(NamedTuple):
    """A grant that was made on this machine.

    The address of the backend is included if it is known.
    """

    url: str | None
    portable: PortableDelegation

    def is_for(self, target: str) -> bool:
        """Return whether a backend received the grant, or a job received it for the backend.

        `target` is the backend's DID, or its address without a slash at the end.
        """
        if self.portable.delegate_did == target:
            return True
        if self.url is not None and self.url.rstrip("/") == target:
            return True
        from ...giving.words.runs import run_grant_of  # imported here to keep the start fast

        run = run_grant_of(self.portable)
        return run is not None and run.statement.refresh_for == target


class LiveLogin(NamedTuple):
    """The settings and the unexpired session of the last login."""

    profile: Profile
    session: Session


@frozen
class OwnerHome:
    """The folder that contains an owner's files.

    The default is ~/.sealspace.
    """

    folder: Path
    node: str | None = None

    @property
    def default_key_file(self) -> Path:
        """The default path of the wallet's key file."""
        return self.folder / "wallet.key"

    def profile(self) -> Profile:
        """Read the settings of the last login."""
        path = self.folder / "profile.json"
        self._require_own()
        try:
            value = parse_json(
                read_bounded(path, most_bytes=_MAX_PROFILE_BYTES), max_bytes=_MAX_PROFILE_BYTES
            )
        except FileNotFoundError:
            raise self._no_profile() from None
        except (OSError, InvalidJson) as error:
            raise NotSignedIn(f"{path} cannot be read: {error.args[-1]}", hint=_HINT) from None
        stored_policy = value.pop("nodePolicy", None)
        node_policy = None if stored_policy is None else parse_node_policy(stored_policy)
        # An unreadable policy must not count as no policy: the node would go unchecked.
        if stored_policy is not None and node_policy is None:
            raise NotSignedIn(f"the node policy in {path} cannot be read", hint=_HINT)
        try:
            # The hook makes paths of texts.
            profile = msgspec.convert(value, Profile, dec_hook=lambda kind, text: kind(text))
        except msgspec.ValidationError:
            profile = None
        if profile is None or not profile.is_consistent():
            raise NotSignedIn(f"{path} does not contain valid login settings", hint=_HINT)
        # A key file inside the folder is stored as a relative path, so the folder can be copied.
        if profile.key_file is not None:
            profile = replace(profile, key_file=self.folder.absolute() / profile.key_file)
        return replace(profile, node_policy=node_policy)

    def _no_profile(self) -> NotSignedIn:
        """Return the error for a missing profile."""
        if self.folder.name != FOLDER_NAME and not self.folder.exists():
            return NotSignedIn(
                f"the folder {self.folder} does not exist",
                hint="correct --home or SEALSPACE_HOME; or, to log in with a new folder:"
                " sealspace login URL --new",
            )
        # Suggest --new on the first login, when there is no key yet.
        hint = "sealspace login URL" if self.default_key_file.exists() else FIRST_LOGIN
        return NotSignedIn("not logged in on this machine", hint=hint)

    def is_of_another_home(self, path: Path | None) -> bool:
        """Return whether a key file is in the folder of another login.

        This happens when a folder is copied whose profile names the key by its absolute path.
        """
        if path is None:
            return False
        folder = path.parent
        is_home = folder.name == FOLDER_NAME or (folder / "profile.json").exists()
        return is_home and folder.resolve() != self.folder.resolve()

    def session(self) -> Session:
        """Read the session of the last login.

        The session may have expired.
        """
        uses_machine_token()  # raises if a command for owners runs with a machine token (CL5)
        profile = self.profile()
        reason = "the session of the last login cannot be read"
        try:
            session = load_session(self.folder / "session.json")
            # They differ if a login was interrupted after it wrote the first of the two files.
            if same_principal(session.owner, profile.owner):
                return session
            reason = "the last login was not completed"
        except FileNotFoundError:
            reason = "not logged in on this machine"
        except InvalidSession as error:
            # A hint of its own says how to correct the file, which other users can access.
            if error.hint != error.default_hint:
                raise NotSignedIn(error.message, hint=error.hint) from None
        except OSError:
            pass  # `reason` says that it cannot be read
        raise NotSignedIn(reason, hint=_again(profile))

    def live_session(self) -> LiveLogin:
        """Read the settings and the session of the last login.

        A session that has ended is rejected. The key of a recovery phrase is deleted then, because
        it has no end at the node.
        """
        profile = self.profile()
        session = self.session()
        if has_ended(session):
            if session.did == session.owner:
                self.forget_session()
            raise NotSignedIn("the session of the last login has ended", hint=_again(profile))
        return LiveLogin(profile=profile, session=session)

    def keep(self, profile: Profile, session: Session) -> None:
        """Store the profile and the session of a login.

        They replace those of the previous login.
        """
        key_file = profile.key_file
        own = self.folder.absolute()
        if key_file is not None and key_file.is_relative_to(own):
            key_file = key_file.relative_to(own)
        # The node policy has a JSON form of its own.
        plain = replace(profile, key_file=key_file, node_policy=None)
        value: JsonObject = msgspec.to_builtins(plain, enc_hook=str) | {
            "v": 1,
            "nodePolicy": (
                None if profile.node_policy is None else node_policy_json(profile.node_policy)
            ),
            "spaces": list(profile.spaces),
        }
        try:
            data = canonical_bytes(value)
        except UnicodeEncodeError:
            raise KeyFileUnusable(
                "the name of the key file is not valid Unicode", hint="rename the file"
            ) from None
        self._make_folder(self.folder)
        with self._lock():
            save_session(session, self.folder / "session.json")
            replace_file(self.folder / "profile.json", data)

    def keep_session(self, session: Session) -> None:
        """Store the session without losing grants added by other commands."""
        with self._lock():
            stored = self.session()
            if stored.did != session.did:
                raise NotSignedIn(
                    "another login has replaced this session", hint="run the command again"
                )
            for grant in stored.grants:
                session = session.with_grant(grant)
            save_session(session, self.folder / "session.json")

    def forget_session(self) -> None:
        """Delete the session and its private key.

        The settings are kept for the next login.
        """
        with self._lock():
            (self.folder / "session.json").unlink(missing_ok=True)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Yield a client with the stored session.

        The node must satisfy the stored node policy. A machine token counts before the session, and
        needs no folder.
        """
        if uses_machine_token():
            if TOKEN_VARIABLE not in os.environ:
                # The token is kept there, so that a command with several clients exchanges only
                # once (CL5).
                os.environ[TOKEN_VARIABLE] = await exchange_id_token(self.node)
            async with Client.from_environment(self.node) as client:
                yield client
            return
        profile, session = self.live_session()
        async with opened(profile, self.node or profile.node, session) as client:
            if profile.node_policy is not None:
                # The client itself checks the node before it sends a token. This check comes before
                # the node's first answer is used, too.
                await client.node_evidence()
            acting_for = for_team() or _nobody_else
            acting = client
            try:
                async with acting_for(self, client) as acting:
                    yield acting
            except DelegationRevoked as error:
                if acting is client:  # the session for a team has a next step of its own
                    error.step = (
                        f"{_again(profile)}, which keeps the grants that are still in force; if"
                        " that does not help, ask the owner for a new grant"
                    )
                raise

    def wallet(self) -> Wallet | None:
        """Open the wallet of the last login.

        None means that the session's key is the owner's own, and signs everything.
        """
        profile = self.profile()
        if self.is_of_another_home(profile.key_file):
            tell(f"warning: the wallet key is in the folder of another login: {profile.key_file}")
        with self.naming_other_keys(profile):
            wallet = profile.wallet()
        if wallet is not None and wallet.did != profile.owner:
            raise KeyFileUnusable(
                f"you are logged in as {profile.owner}, but {profile.key_file} contains the key of"
                f" {wallet.did}",
                hint="put the former key file back; or log in as the new key's owner, who cannot"
                f" read the former owner's secrets: {_again(profile)}",
            )
        return wallet

    @contextmanager
    def naming_other_keys(self, profile: Profile) -> Iterator[None]:
        """Name the keys in the folder if the file of the wallet's key is missing.

        `profile.owner` is the owner of the last login.
        """
        try:
            yield
        except KeyFileUnusable as error:
            if profile.key_file is None or profile.key_file.exists():
                raise
            for path in sorted(self.folder.glob("*")):
                did = _did_of_key_file(path)
                if did is None:
                    continue
                whose = "the key of your last login" if did == profile.owner else f"a key of {did}"
                error.step = (
                    f"{whose} is in {path}; to use it: sealspace login --key-file"
                    f" {quote(str(path))}"
                )
                if did == profile.owner:
                    break
            raise

    # --- grants -----------------------------------------------------------------------------------

    def keep_grant(self, portable: PortableDelegation, *, url: str | None = None) -> Path:
        """Store a grant in a file, and return the file's path.

        The file can be sent to the recipient.
        """
        # The address first: if only the grant were written, it would look like one to a DID.
        if url is not None:
            self._keep("grants", f"{portable.cid}.url", url.encode())
        return self._keep("grants", f"{portable.cid}.json", encode_portable(portable))

    def grants(self) -> tuple[KeptGrant, ...]:
        """Return the grants that were made on this machine.

        Unreadable files are skipped.
        """
        kept_grants = []
        for path, portable in self._portables("grants"):
            url = None
            address = path.with_suffix(".url")
            try:
                if address.exists():
                    data = read_bounded(address, most_bytes=_MAX_PROFILE_BYTES)
                    url = data.decode("utf-8", "replace")
            except OSError:
                continue
            kept_grants.append(KeptGrant(url, portable))
        return tuple(kept_grants)

    def grants_to(self, target: str) -> tuple[KeptGrant, ...]:
        """Return the grants that a backend received, and the job grants for it.

        `target` is the backend's address or DID.
        """
        target = target.rstrip("/")
        return tuple(grant for grant in self.grants() if grant.is_for(target))

    def keep_received(self, portable: PortableDelegation) -> None:
        """Store a received grant for use in later sessions."""
        self._keep("received", f"{portable.cid}.json", encode_portable(portable))

    def received(self) -> tuple[PortableDelegation, ...]:
        """Return the stored grants that the owner received.

        Unreadable files are skipped.
        """
        return tuple(portable for _, portable in self._portables("received"))

    def _portables(self, folder: str) -> Iterator[tuple[Path, PortableDelegation]]:
        """Yield the grants in the files of a folder, and skip unreadable files."""
        for path in sorted((self.folder / folder).glob("*.json")):
            try:
                portable = decode_portable(read_bounded(path, most_bytes=MAX_PORTABLE_BYTES))
            except (OSError, InvalidPortableDelegation):
                continue
            yield path, portable

    def forget_received(self, cid: str) -> None:
        """Delete a stored grant that the owner received."""
        (self.folder / "received" / f"{cid}.json").unlink(missing_ok=True)

    def _keep(self, folder: str, name: str, data: bytes) -> Path:
        path = self.folder / folder / name
        self._make_folder(path.parent)
        replace_file(path, data)
        return path

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_own()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock the folder against changes by other commands."""
        # The kernel releases the lock of a command that is killed.
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _require_own(self) -> None:
        """Reject a folder that another user can write to."""
        # Another user could replace the profile, which names the trusted root certificate.
        try:
            status = self.folder.stat()
        except OSError:
            return  # no folder: reading its files reports that
        is_own = status.st_uid in (0, os.geteuid())
        is_writable_by_others = stat.S_IMODE(status.st_mode) & 0o022
        if not is_own or is_writable_by_others:
            raise KeyFileUnusable(
                f"other users can write to the folder {self.folder}",
                hint=f"chmod 700 {quote(str(self.folder))}, or use another folder with --home",
            )


@asynccontextmanager
async def _nobody_else(_home: OwnerHome, client: Client) -> AsyncIterator[Client]:
    """Yield a client as it is: it acts for the owner."""
    yield client


@asynccontextmanager
async def opened(
    profile: Profile, node: str, session: Session | None = None
) -> AsyncIterator[Client]:
    """Yield a client for a node.

    The node must satisfy the node policy in `profile`. If the node is refused, the error names the
    option of `login` that would accept it.
    """
    requirement = None
    if profile.node_policy is not None:
        verifier = node_evidence().node_verifier(
            trust_root=profile.trust_root, collateral=profile.collateral
        )
        requirement = NodeRequirement(verifier, profile.node_policy)
    try:
        async with Client(node, session=session, require_node_evidence=requirement) as client:
            yield client
    except NodeEvidenceRefused as refused:
        if (option := _ACCEPTING.get(refused.reason)) is not None:
            option = f"--require-node-evidence {option}"
            refused.step = f"use another node, or accept this: sealspace login {node} {option}"
        raise


def owner_home() -> OwnerHome:
    """Return the folder of the current owner.

    The options `--home` and `--node` select the folder.
    """
    return OwnerHome(shared().home_folder, node=shared().node)


def own_did() -> str:
    """Return the signed-in owner's DID, or an empty string."""
    with suppress(NotSignedIn, KeyFileUnusable):
        return owner_home().profile().owner
    return ""


def uses_machine_token() -> bool:
    """Return whether the running command uses a machine token instead of the owner's login (CL5).

    The token is in SEALSPACE_TOKEN, or the node makes it for the CI job with SEALSPACE_TRUST.

    Raises NotGranted if there is a token, but only an owner may use the command.
    """
    variables = [name for name in (TOKEN_VARIABLE, TRUST_VARIABLE) if name in os.environ]
    if not variables:
        return False
    allowed_commands: tuple[str, ...] = _FOR_TOKENS
    if TOKEN_VARIABLE in variables:
        line = required_variable(
            TOKEN_VARIABLE,
            hint="set it to the line that `sealspace token create` printed; or, to use your login,"
            " unset it",
        )
        session = read_token(line)
        if token_of(session) is None:  # the token of a job that refreshes grants
            allowed_commands = _FOR_JOBS
    if click.get_current_context().command_path not in allowed_commands:
        raise NotGranted(
            "a machine token cannot do this: only the owner can",
            hint=f"to use your login, run the command without {' and '.join(variables)}",
        )
    return True


def at_node(
    work: Callable[Concatenate[Client, Parameters], Awaitable[Result]],
) -> Callable[Parameters, Result]:
    """Decorate a coroutine function so that it receives a connected client.

    The client uses the owner's stored session, or the machine token in the environment.
    """

    @wraps(work)
    def with_client(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        async def connect_and_work() -> Result:
            async with owner_home().client() as client:
                return await work(client, *arguments, **keywords)

        return asyncio.run(connect_and_work())

    return with_client


def has_ended(session: Session) -> bool:
    """Return whether a session has expired."""
    return session.expires_at is not None and session.expires_at <= SystemClock.now()


def _again(profile: Profile) -> str:
    return f"sealspace login {profile.node}"


def dids_of(target: str) -> list[str]:
    """Return the DIDs of a backend.

    `target` is already a DID, or the address to which this machine's grants were made.
    """
    if target.startswith("did:"):
        return [target]
    return sorted({grant.portable.delegate_did for grant in known_grants(target)})


def known_grants(target: str) -> tuple[KeptGrant, ...]:
    """Return the locally recorded grants that a backend received.

    Raises NotThere if there are none.
    """
    grants = owner_home().grants_to(target)
    if not grants:
        raise NotThere(
            f"no grant to {target} was made on this machine",
            hint="list your grants to backends: sealspace backend list",
        )
    return grants


# --- wallet keys ----------------------------------------------------------------------------------

PASSWORD_VARIABLE = "SEALSPACE_KEYSTORE_PASSWORD"  # noqa: S105  # the name of a variable
_MAX_KEY_FILE_BYTES = 256


def read_wallet(path: Path) -> WalletSigner:
    """Read a wallet's private key from a file.

    The file contains 64 hex digits, with or without `0x`.
    """
    try:
        data = read_key(path, "key file", KeyFileUnusable, most_bytes=_MAX_KEY_FILE_BYTES)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise KeyFileUnusable(
            f"cannot read the wallet's key in {path}: {reason}",
            hint="to create a key, add --new; to use your own, add --key-file FILE or --keystore"
            " FILE",
        ) from None
    try:
        return WalletSigner(bytes.fromhex(data.decode("ascii").strip().removeprefix("0x")))
    except (ValueError, CapabilityError):
        raise KeyFileUnusable(
            f"{path} does not contain a wallet key",
            hint="write the private key as 64 hex digits, or use a Web3 keystore with --keystore"
            " FILE",
        ) from None


def _did_of_key_file(path: Path) -> str | None:
    """Return the DID of the wallet whose key is in a file, or None for other files."""
    with suppress(KeyFileUnusable, OSError):
        # A pipe would block the reader, and longer files contain no key.
        if path.is_file() and path.stat().st_size <= _MAX_KEY_FILE_BYTES:
            return read_wallet(path).did
    return None


def write_wallet(path: Path, secret: bytes) -> None:
    """Write a wallet's private key to a new file.

    The file has mode 0600.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_file(path, secret.hex().encode() + b"\n")
    except OSError as error:
        reason, _ = file_fault(path, error.errno)
        raise KeyFileUnusable(
            f"cannot create the key file {path}: {reason}",
            hint="to use an existing key, omit --new; to check the folder: ls -ld"
            f" {quote(str(path.parent))}",
        ) from None


def open_keystore(path: Path) -> WalletSigner:
    """Open a Web3 keystore file (version 3).

    The password comes from the environment or the terminal.
    """
    try:
        # A malformed file is refused before the password is asked for.
        parse_keystore(read_bounded(path, most_bytes=MAX_KEYSTORE_BYTES))
        password = os.environ.get(PASSWORD_VARIABLE)
        if password is None:
            if not is_interactive():
                raise KeyFileUnusable(
                    f"cannot ask for the password of the keystore {path}: this command"
                    " is not running in a terminal",
                    hint=f"set {PASSWORD_VARIABLE}",
                )
            password = ask_hidden(f"password of {path.name}")
        return wallet_from_keystore(path, password)
    except WrongPassword as error:
        raise KeyFileUnusable(f"wrong password for the keystore {path}", hint=error.hint) from None
    except InvalidKeystore as error:
        raise KeyFileUnusable(
            f"cannot open the keystore {path}: {error.message}",
            hint=f"if the file contains a plain key, use --key-file; otherwise {error.hint}",
        ) from None
    except OSError as error:
        reason, step = file_fault(path, error.errno)
        raise KeyFileUnusable(f"cannot read the keystore {path}: {reason}", hint=step) from None
