"""The command `sealspace runner serve`.

The runner needs a real or a simulated trust domain.
"""

import asyncio
import ctypes
import gc
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from aiohttp import web

from capabilities.limits import counted_address, forwarded_client, is_in_networks
from sealspace.cli.options.paths import FOLDER, NEW_FOLDER, file_option
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_lines, repeatable_option
from sealspace.client import Client, TransportSettings
from sealspace.errors import BackendAnswerInvalid
from sealspace.service.command_errors import ConfigurationError
from sealspace.service.listening_socket import bind_socket, server_tls, url_of
from sealspace.service.open_files import raise_file_limit
from tee_backend.backend import Backend
from tee_backend.backend.key import backend_seed
from tee_backend.backend.publishing import BackendSurface, SurfaceRequest
from tee_backend.cli.quote_sources import (
    KEY_KINDS,
    QUOTE_KINDS,
    key_source,
    platform_errors,
    quote_source,
    read_compose,
)
from tee_backend.evidence.source import EvidenceSource
from tee_backend.listener import ConnectionLimits, listening
from tee_backend.outbound import Outbound

from ..calls.grant_judging import can_judge_patterns
from ..calls.journal import Journal
from ..calls.prices import Price
from ..calls.published_programs import PublishedPrograms
from ..calls.secret_tags import SecretTagKey, StorageKey
from ..calls.service import Runner, begin, manifest_of
from ..calls.task_stages import TaskStages
from ..guest.executor import Executor
from ..guest.runs import Limits
from ..http.routes import mounted
from ..tasks.folders import prepare_root
from .run_grants import limit_options

_MEMORY = Path("/dev/shm")  # noqa: S108  # each task has a new folder of its own below
_JOURNAL = "journal.sqlite"
_MOST_CHILDREN = 128
# Pipes of 128 children, up to 16 for each, and the connections and files of running programs.
_OTHER_FILES = 3456
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 256 * 1024
# During a call, the event loop reacquires the interpreter lock up to ten times. By default each of
# them may take 5 ms while another thread encodes or hashes a program's output.
_SWITCH_S = 0.0005
_PRICE = click.IntRange(0, 10**9)
# As browsers write an origin (RN235): any other spelling would never match.
_ORIGIN = re.compile(
    r"(?=.{1,253}$)(?:https://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?!:443$)"
    r"|http://(?:localhost|127\.0\.0\.1|\[::1\])(?!:80$))(?::[1-9][0-9]{0,4})?"
)


def _origin(text: str) -> str:
    if _ORIGIN.fullmatch(text) is None:
        raise click.BadParameter(
            "use the form https://app.example or http://127.0.0.1:3000, in lower case, without a"
            " path, and without the default port"
        )
    return text


def _network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(
            "use an address such as 10.0.0.7, or a network such as 10.0.0.0/24"
        ) from None
    return text


@click.command(
    context_settings={"show_default": True},
    epilog="Example: `sealspace backend simulate tee`, then `sealspace runner serve --simulate tee"
    " --node http://127.0.0.1:8000 --data runner --key file`.",
)
@click.option(
    "--data",
    "folder",
    required=True,
    type=NEW_FOLDER,
    help="Folder for grants, receipts and used tokens. Two runners must not share a folder.",
)
@click.option(
    "--key",
    "key_kind",
    type=click.Choice(KEY_KINDS),
    default="platform",
    help="Source of the runner's key: the platform's key service, or a file in the data folder.",
)
@click.option("--name", default="Runner", help="Display name of the runner.")
@click.option(
    "--children",
    type=click.IntRange(1, _MOST_CHILDREN),
    default=2,
    help="Maximum number of programs that run at the same time for callers with a key or an"
    " account. For other callers, up to half this number (at least one) may run in addition.",
)
@limit_options(Limits)
@click.option("--price-call", type=_PRICE, default=0, help="Price per run, in micro-units.")
@click.option(
    "--price-instructions",
    type=_PRICE,
    default=0,
    help="Price per million instructions, in micro-units.",
)
@click.option(
    "--price-second", type=_PRICE, default=0, help="Price per full second of a run, in micro-units."
)
@file_option(
    "--tls-certificate",
    help="TLS certificate (PEM). Without a certificate, remote calls with API keys are refused.",
)
@file_option("--tls-key", help="Private key of the TLS certificate (PEM, without a password).")
@file_option(
    "--loopback-ca",
    help="For trials, only with --simulate: send all requests of programs to this machine, and"
    " accept certificates issued by the authority in FILE.",
)
@click.option(
    "--simulate",
    "platform_folder",
    type=NEW_FOLDER,
    help="Folder of a simulated platform; by default the real platform is used.",
)
@click.option(
    "--evidence",
    "--quotes",
    "quotes",
    type=click.Choice(QUOTE_KINDS),
    default="dstack",
    help="Source of quotes: a guest agent, the kernel, or the platform in the --simulate folder.",
)
@file_option(
    "--compose",
    "compose_file",
    help="Compose file to publish. With --simulate, this file is also measured as the runner's"
    " code.",
)
@repeatable_option(
    "--call-origin",
    "origins",
    metavar="ORIGIN",
    type=_origin,
    help="Origin of web pages that may call programs with API keys, such as https://app.example."
    " Can be repeated.",
)
@click.option(
    "--task-dir",
    "task_folder",
    type=FOLDER,
    help="Folder on tmpfs for the files of tasks. Without it, the runner runs no tasks; with"
    " --simulate, the default is /dev/shm.",
)
@repeatable_option(
    "--trusted-proxy",
    "proxies",
    metavar="ADDRESS",
    type=_network,
    help="Address or network of a proxy whose X-Forwarded-For header names the client. Can be"
    " repeated. Limits per client address count all clients of any other proxy as one.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Port; 0: any free port.")
def serve(**options: Any) -> None:
    """Run programs for callers until SIGTERM or SIGINT.

    The runner gives programs the secrets that were granted to them. Prints `listening on
    http://HOST:PORT` on standard error. Owners grant with `sealspace runner grant`, and developers
    publish with `sealspace project publish`. If runs have a price, callers need an account:
    `sealspace runner credit`.
    """
    node = shared().node
    if node is None:
        raise click.UsageError("missing option --node URL: the node where owners make their grants")
    given = SimpleNamespace(**options)
    with platform_errors(given.platform_folder):
        asyncio.run(_serve(node, given))


async def _serve(node: str, given: SimpleNamespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sys.setswitchinterval(_SWITCH_S)
    with suppress(AttributeError):  # another libc than glibc
        # By default glibc raises this threshold when the first large answer is freed, and then
        # keeps the memory of later ones: 57 MiB of 81 in a measurement.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    tls = server_tls(given.tls_certificate, given.tls_key)
    limits = ConnectionLimits()
    _allow_open_files(limits.max_connections + _OTHER_FILES)  # before any child inherits the limit
    async with _application(node, given) as app:
        gc.freeze()  # garbage collections then skip what lives as long as the process
        bound = bind_socket(
            given.host, given.port, command=click.get_current_context().command_path
        )

        def connected(peer: str | None) -> str | None:
            """Return the client by which a connection is counted."""
            # A proxy has the connections of many clients, so they do not count as those of one.
            if is_in_networks(peer, given.proxies):
                return None
            return counted_address(peer)

        async with listening(app, bound, limits, tls=tls, client_of=connected):
            url = url_of(bound)
            if tls is not None:
                url = url.replace("http:", "https:", 1)
            print_lines(f"listening on {url}", err=True)
            await stopped.wait()


def _allow_open_files(wanted: int) -> None:
    """Raise the limit of open files, and warn if a busy runner needs more (RN155)."""
    files = raise_file_limit(wanted)
    if files < wanted:
        print_lines(
            f"the runner may open only {files} files, and a busy one needs {wanted}; next: raise"
            " the hard limit of open files (systemd: LimitNOFILE=, compose: ulimits.nofile, shell:"
            " ulimit -Hn)",
            err=True,
        )


def _platform(given: SimpleNamespace) -> tuple[EvidenceSource, str | None]:
    """Choose the runner's source of quotes, and read the runner's compose file."""
    compose = read_compose(given.compose_file)
    if given.platform_folder is None and given.loopback_ca is not None:
        # Its certificates let this machine answer in the name of any host (RN111).
        raise click.UsageError(
            "--loopback-ca is allowed only with --simulate: on a real platform, the operator could"
            " impersonate any host"
        )
    return quote_source(given.quotes, given.platform_folder, compose)


@asynccontextmanager
async def _application(node: str, given: SimpleNamespace) -> AsyncIterator[web.Application]:
    """Create the runner's application and close it on exit.

    The runner's child processes are closed too.
    """
    source, compose = _platform(given)
    folder = given.folder
    keys = key_source(given.key_kind, folder, source)
    if not can_judge_patterns():  # RN210: such a runner would refuse the callers of some grants
        raise ConfigurationError(
            "cannot judge callers by the patterns in grants: the library google-re2 is missing",
            hint="run the runner with Python 3.11 to 3.14, after: pip install 'sealspace[runner]'",
        )
    async with (
        # Opened first: its lock ensures that one process uses the folder.
        Backend.open(node, source, folder=folder, keys=keys) as backend,
        Journal(folder / _JOURNAL) as journal,
        # The node counts reads without a token by client address only (RN222).
        Client(
            node, settings=TransportSettings(user_agent=f"sealspace-runner ({backend.did})")
        ) as public,
        _executor(given) as executor,
    ):
        manifest = manifest_of(backend.did, given.name)
        try:
            identity = await begin(source, did=backend.did, manifest=manifest, compose=compose)
        except BackendAnswerInvalid as error:
            raise ConfigurationError(
                f"cannot publish this runner: {error.message}", hint="choose a short --name"
            ) from None
        programs = PublishedPrograms(public, journal, backend)
        runner = Runner(
            backend=backend,
            programs=programs,
            executor=executor,
            journal=journal,
            identity=identity,
            tags=SecretTagKey.derive(keys),
            storage_key=StorageKey.derive(keys),
            most=given.limits,
            tasks=_tasks(given, executor, programs),
        )
        app = web.Application()
        async with mounted(
            app,
            runner,
            folder=folder,
            seed=await asyncio.to_thread(backend_seed, keys),
            price=Price(
                call=given.price_call,
                million_instructions=given.price_instructions,
                second=given.price_second,
            ),
            workers=given.children,
            origins=given.origins,
            client_of=partial(_caller_of, given.proxies),
        ):
            BackendSurface(
                source,
                did=runner.did,
                manifest=manifest,
                compose=compose,
                on_grant=runner.accept,
                client_of=partial(_client_of, given.proxies),
                signers=lambda: backend.signers,
            ).mount(app)
            # The runner also fetches grants from its node (AT61): a delivery may be refused while
            # others flood the runner.
            backend.watch(runner.check_found)
            yield app


def _client_of(proxies: Sequence[str], request: SurfaceRequest) -> str | None:
    """Return the client by which delivered grants are counted (AT63)."""
    forwarded = [value for name, value in request.headers if name.lower() == "x-forwarded-for"]
    real = request.header("x-real-ip") or ""
    return _counted_client(proxies, request.address, forwarded, real)


def _caller_of(proxies: Sequence[str], request: web.Request) -> str | None:
    """Return the client by which bodies and tokens of unknown payers are counted (RN67)."""
    forwarded = request.headers.getall("X-Forwarded-For", ())
    real = request.headers.get("X-Real-IP", "")
    return _counted_client(proxies, request.remote, forwarded, real)


def _counted_client(
    proxies: Sequence[str], address: str | None, forwarded: Sequence[str], real: str
) -> str | None:
    """Return the client behind the proxies that the operator names."""
    return counted_address(forwarded_client(address, forwarded, real, proxies=proxies))


def _tasks(
    given: SimpleNamespace, executor: Executor, programs: PublishedPrograms
) -> TaskStages | None:
    """Check the folder for tasks, and return what runs them.

    Returns None if there is no folder, or if the default folder cannot be used: then the runner
    runs no tasks.
    """
    root = given.task_folder
    if root is None and given.platform_folder is not None:
        root = _MEMORY
    if root is None:
        return None
    try:
        prepare_root(root)
        return TaskStages(root.resolve(), executor, programs)
    except (OSError, RuntimeError) as error:
        if given.task_folder is None:
            return None
        raise ConfigurationError(str(error), hint="add --task-dir /dev/shm") from None


def _executor(given: SimpleNamespace) -> Executor:
    """Return what runs programs in child processes."""
    spare = min(given.children + 1, _MOST_CHILDREN)
    try:
        return Executor(children=given.children, spare=spare, outbound=Outbound(given.loopback_ca))
    except OSError as error:  # the errors of `ssl` are OSErrors too
        raise ConfigurationError(
            f"{given.loopback_ca} does not contain a certificate",
            hint="pass a PEM file: --loopback-ca FILE",
        ) from error
