"""The command `sealspace door`, which serves secrets to clients of Vault and OpenBao."""

import asyncio
import ipaddress
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import click

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal, parse_principal
from sealspace.cli.options.durations import ttl_s_of
from sealspace.cli.options.paths import NEW_FILE, NEW_FOLDER, file_option
from sealspace.cli.owner.owner_profile import opened, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import flag_option, print_lines, repeatable_option, tell
from sealspace.cli.use.run_process import keep_out_of_core_dumps
from sealspace.client import Client
from sealspace.errors import InvalidInput
from sealspace.private_files import replace_file
from sealspace.service.command_errors import ConfigurationError
from sealspace.service.listening_socket import bind_socket, server_tls, url_of
from serving.listener import LIST_METHOD, ConnectionLimits, listening
from tee_backend.cli.quote_sources import KEY_KINDS, QUOTE_KINDS, platform_errors

from ..cache import Cache
from ..door import Door
from ..limits import MAX_CONNECTIONS
from ..locked_memory import lock_memory
from ..mounts import DEFAULT_MOUNT, Mount, mounts_of
from ..rendering import read_all, require_in_memory, write_files
from .door_backend import open_own_backend, require_owners

_PER_CLIENT = 128
_MAX_CACHE_S = 3600
_ROLE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,63})=(?P<trust>ba[a-z2-7]{20,100})")


def _stale_s(_context: click.Context, _option: click.Parameter, text: str | None) -> float:
    return 0.0 if text is None else ttl_s_of(text, option="--serve-stale", most_days=1)


def _roles(
    _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    trust_by_role = {}
    for text in texts:
        match = _ROLE.fullmatch(text)
        if match is None:
            raise click.BadParameter("use the form NAME=ID, with the id of a trust")
        trust_by_role[match["name"]] = match["trust"]
    return trust_by_role


def _owners(
    _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> frozenset[Principal]:
    owners = set()
    for text in texts:
        try:
            owners.add(parse_principal(text))
        except InvalidIdentifier:
            raise click.BadParameter(
                "use the DID of an owner, did:…; `sealspace whoami` prints it"
            ) from None
    return frozenset(owners)


@click.command(
    epilog="Examples: `sealspace door --token-file ~/.vault-token`, then `bao kv get"
    " secret/API_KEY`; `sealspace door --mount kv=json,scope=prod --role shop=bafkr4i… --node"
    " https://node.example`.",
)
@repeatable_option(
    "--mount",
    "mounts",
    metavar="NAME=FORM[,…]",
    help='A path at which secrets are read. FORM is flat (`{"value": …}`) or json (the object that'
    " the secret's text is). After it: scope=SCOPE, owner=DID, team=TEAM, kv=1. Can be repeated."
    f" Default: {DEFAULT_MOUNT}.",
)
@click.option(
    "--token-file",
    type=NEW_FILE,
    help="Write a token for your session, or for SEALSPACE_TOKEN, to this file, readable only by"
    " you. Without it, every caller logs in with a token of its own.",
)
@click.option(
    "--role",
    "roles",
    metavar="NAME=ID",
    multiple=True,
    callback=_roles,
    help="A name for a trust, as the role of logins with ID tokens. Its callers come before those"
    " that you did not name. Can be repeated.",
)
@click.option(
    "--allow",
    "allowed",
    metavar="OWNER",
    multiple=True,
    callback=_owners,
    help="DID of an owner whose machine tokens log in. With it, all others are refused, except"
    " those with a role of --role. Can be repeated. Default: everybody logs in, and those that you"
    " did not name have half of the places.",
)
@click.option(
    "--cache",
    "cache_s",
    type=click.IntRange(0, _MAX_CACHE_S),
    default=0,
    show_default=True,
    help="Seconds for which a value is served again without asking the node, also if its right was"
    " revoked.",
)
@click.option(
    "--serve-stale",
    "stale_s",
    metavar="TIME",
    callback=_stale_s,
    help="Serve values up to this age, with a warning, while the node does not answer. Default:"
    " never.",
)
@click.option(
    "--data",
    "folder",
    type=NEW_FOLDER,
    help="Run as a backend that proves its code to the node, and read what owners grant to it. Its"
    " grants and its key are kept in this folder. Needs --node, and mounts with owner=DID.",
)
@click.option(
    "--evidence",
    "quotes",
    type=click.Choice(QUOTE_KINDS),
    default="dstack",
    show_default=True,
    help="With --data: source of quotes: a guest agent, the kernel, or the platform in the"
    " --simulate folder.",
)
@click.option(
    "--simulate",
    "platform_folder",
    type=NEW_FOLDER,
    help="With --data: folder of a simulated platform; by default the real platform is used.",
)
@click.option(
    "--key",
    "key_kind",
    type=click.Choice(KEY_KINDS),
    default="platform",
    show_default=True,
    help="With --data: source of the door's key: the platform's key service, or a file in the data"
    " folder.",
)
@file_option("--compose", "compose_file", help="With --data: compose file to publish.")
@repeatable_option(
    "--secret",
    "secrets",
    metavar="NAME",
    help="With --data: a secret that the door asks owners for, NAME or SCOPE/NAME, as `sealspace"
    " backend grant` shows it. Can be repeated.",
)
@click.option(
    "--name", default="Door", show_default=True, help="With --data: display name for owners."
)
@flag_option(
    "--write",
    "is_writable",
    help="Let the token of --token-file write and delete secrets too, if it stands for your"
    " session.",
)
@click.option(
    "--render",
    "render_folder",
    type=NEW_FOLDER,
    help="Write all secrets of the mounts to files MOUNT/NAME in this folder, with mode 0400, and"
    " end. The folder has to be on a tmpfs. For init containers.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8200,
    show_default=True,
    help="Port; 0: any free port.",
)
@click.option(
    "--socket",
    "socket_path",
    type=NEW_FILE,
    help="Listen on this Unix socket, only for your user, instead of an address.",
)
@file_option("--tls-certificate", help="TLS certificate (PEM), needed beyond this machine.")
@file_option("--tls-key", help="Private key of the TLS certificate (PEM, without a password).")
def door(**options: Any) -> None:
    """Serve secrets to clients of Vault and OpenBao until SIGTERM or SIGINT.

    Programs that speak the API of Vault and OpenBao read secrets here. The door opens them on this
    machine; the node sees no value. Without --write it only reads. Prints `listening on
    http://HOST:PORT` on standard error.

    A caller's token stands for a grant: that of --token-file for your session, or for the machine
    token in SEALSPACE_TOKEN. Other callers log in at auth/approle with a machine token, or at
    auth/jwt and auth/kubernetes with an ID token, and read what these may read.

    With --data, the door is a backend in a trust domain: it publishes its evidence at its address.
    Owners run `sealspace backend grant URL`, and --token-file gets a token for their grants.
    """
    named_options = SimpleNamespace(**options)
    mounts = mounts_of(named_options.mounts or [DEFAULT_MOUNT])
    named_options.tls = server_tls(named_options.tls_certificate, named_options.tls_key)
    _require_private_address(named_options)
    keep_out_of_core_dumps()
    if named_options.folder is not None:
        require_owners(mounts, is_writable=named_options.is_writable)
    with platform_errors(named_options.platform_folder):
        _run(named_options, mounts)


def _run(options: SimpleNamespace, mounts: Mapping[str, Mount]) -> None:
    if options.render_folder is not None:
        require_in_memory(options.render_folder)
        asyncio.run(_render(options, mounts))
        return
    if not lock_memory():
        tell(
            "the memory of the door is not locked, so values may be written to a swap device; next:"
            " turn swap off, or raise the limit: ulimit -l unlimited"
        )
    asyncio.run(_serve(options, mounts))


async def _render(options: SimpleNamespace, mounts: Mapping[str, Mount]) -> None:
    """Write the secrets of the mounts to files."""
    folder: Path = options.render_folder
    async with AsyncExitStack() as stack:
        if options.folder is None:
            client = await stack.enter_async_context(owner_home().client())
            files = await read_all(client, mounts)
        else:
            client = await stack.enter_async_context(_client(options))
            own = await stack.enter_async_context(open_own_backend(_node(), options))
            files = await read_all(client, mounts, backend=own.backend)
    try:
        write_files(folder, files)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {error.filename}: {str(error.strerror).lower()}",
            hint="use a folder of your own: --render FOLDER",
        ) from None
    tell(f"wrote {len(files)} secrets below {folder}")


async def _serve(options: SimpleNamespace, mounts: Mapping[str, Mount]) -> None:
    """Serve the door until this process gets SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    clock = SystemClock()
    cache = Cache(fresh_s=options.cache_s, stale_s=options.stale_s, clock=clock)
    async with _client(options) as client, AsyncExitStack() as stack:
        await client.info()  # a wrong address, or another node than the session's, is an error now
        own = None
        if options.folder is not None:
            own = await stack.enter_async_context(open_own_backend(_node(), options))
            own.backend.watch()
        door_ = Door(
            client,
            mounts,
            cache=cache,
            roles=options.roles,
            allowed=options.allowed,
            clock=clock,
            entropy=SystemEntropy(),
            is_writable=options.is_writable,
            backend=None if own is None else own.backend,
        )
        with (
            _listening_socket(options) as (listener, address),
            _write_token_file(options.token_file, door_),
        ):
            limits = ConnectionLimits(
                max_connections=MAX_CONNECTIONS, connections_per_client=_PER_CLIENT
            )
            app = door_.application(
                list_method=LIST_METHOD,
                own_host=_host_without_tls(options),
                surface=None if own is None else own.surface,
            )
            async with listening(app, listener, limits, tls=options.tls, reads_list=True):
                print_lines(f"listening on {address}", err=True)
                tell(
                    f"after its right is revoked, a value is served for at most"
                    f" {cache.longest_s:.0f} s"
                )
                await stopped.wait()


def _node() -> str:
    """Return the address of the node, which a backend needs."""
    node = shared().node
    if node is None:
        raise click.UsageError("missing option --node URL: the node where owners make their grants")
    return node


@asynccontextmanager
async def _client(options: SimpleNamespace) -> AsyncIterator[Client]:
    """Yield a client of the node, with the session that the options ask for."""
    home = owner_home()
    # A backend has a session of its own, so this client has none.
    if options.folder is not None:
        async with Client(_node()) as client:
            yield client
        return
    # The token in the file stands for the user's session.
    if options.token_file is not None:
        async with home.client() as client:
            yield client
        return
    # Otherwise callers log in. Their node is the one that the options name, or that of the profile.
    has_profile = (home.folder / "profile.json").exists()
    if shared().given_node is not None or not has_profile:
        if home.node is None:
            raise click.UsageError("missing option --node URL, or --token-file FILE after a login")
        async with Client(home.node) as client:
            yield client
        return
    profile = home.profile()
    async with opened(profile, home.node or profile.node) as client:
        yield client


@contextmanager
def _write_token_file(path: Path | None, door_: Door) -> Iterator[None]:
    """Write the token for the door's own grant to a file, and remove the file at the end."""
    if path is None:
        yield
        return
    try:
        replace_file(path, door_.add_own_grant().encode())
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the token file {path}: {str(error.strerror).lower()}",
            hint="use a file in a folder of your own: --token-file FILE",
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _host_without_tls(options: SimpleNamespace) -> str | None:
    """Return the host of a TCP address that has no TLS (DR3)."""
    has_own_names = options.socket_path is not None or options.tls is not None
    return None if has_own_names else options.host


def _require_private_address(options: SimpleNamespace) -> None:
    """Refuse to send tokens and values beyond this machine in clear (DR2)."""
    if options.socket_path is not None or options.tls is not None:
        return
    try:
        is_loopback = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        is_loopback = options.host == "localhost"
    if not is_loopback:
        raise InvalidInput(
            f"the address {options.host} is not on this machine, and values would travel in clear",
            hint="add --tls-certificate FILE --tls-key FILE, or use --host 127.0.0.1",
        )


class _Listening(NamedTuple):
    """A listening socket, and its address for messages."""

    listener: socket.socket
    address: str


@contextmanager
def _listening_socket(options: SimpleNamespace) -> Iterator[_Listening]:
    """Yield the listening socket. A Unix socket is removed at the end."""
    if options.socket_path is None:
        listener = bind_socket(
            options.host, options.port, command=click.get_current_context().command_path
        )
        url = url_of(listener)
        if options.tls:
            url = url.replace("http:", "https:", 1)
        yield _Listening(listener, url)
        return
    path: Path = options.socket_path
    listener = _bind_unix_socket(path)
    try:
        yield _Listening(listener, f"unix://{path.absolute()}")
    finally:
        path.unlink(missing_ok=True)


def _bind_unix_socket(path: Path) -> socket.socket:
    """Bind a Unix socket to which only this user can connect.

    Raises:
        ConfigurationError: another process uses the path, or it cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Other users must not be able to connect, not even before a `chmod`.
    previous_umask = os.umask(0o177)
    try:
        with suppress(FileNotFoundError):
            _remove_dead_socket(path)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {path}: {(error.strerror or str(error)).lower()}",
            hint="use another path: --socket FILE",
        ) from None
    finally:
        os.umask(previous_umask)
    return listener


def _remove_dead_socket(path: Path) -> None:
    """Remove the socket of a door that was killed; one that answers is left."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
