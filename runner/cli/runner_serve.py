"""The command `sealspace runner serve`.

The runner needs a real or a simulated trust domain.
"""

import asyncio
import ctypes
import gc
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from aiohttp import web

from capabilities.limits import counted_address, forwarded_client, is_in_networks
from sealspace.cli.options.paths import read_named
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_lines
from sealspace.client import Client, TransportSettings
from sealspace.documents.trusted_roots import MAX_TRUSTED_ROOT_BYTES, named_root
from sealspace.errors import BackendAnswerInvalid, ProvenanceInvalid
from sealspace.service.command_errors import ConfigurationError
from sealspace.service.listening_socket import bind_socket, server_tls, url_of
from serving.listener import ConnectionLimits, listening
from serving.open_files import raise_file_limit
from serving.outbound import Outbound
from serving.service_manager import MANAGER_READY, MANAGER_STOPPING, report_to_manager
from tee_backend.backend import Backend
from tee_backend.backend.key import backend_seed
from tee_backend.backend.publishing import BackendSurface, SurfaceRequest
from tee_backend.cli.quote_sources import (
    ProvingPlatform,
    choose_platform,
    key_source,
    platform_errors,
    read_compose,
)

from ..calls.calls import Calls
from ..calls.identity import begin, manifest_of
from ..calls.journal import Journal
from ..calls.journal_copies import JOURNAL_NAME
from ..calls.prices import Price
from ..calls.published_programs import PublishedPrograms
from ..calls.secret_tags import SecretTagKey, StorageKey
from ..calls.service import Runner
from ..calls.task_stages import TaskStages
from ..guest.executor import Executor
from ..guest.python_bases import read_bases
from ..http.routes import mounted
from ..tasks.folders import prepare_root
from .serve_options import MOST_CHILDREN, require_settings, serve_options

DEFAULT_TASK_FOLDER = Path("/dev/shm")  # noqa: S108  # each task has a new folder of its own below
# Pipes of 128 children, up to 16 for each, and the connections and files of running programs.
OTHER_FILES = 3456
_MOST_ROOTS = 4
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 256 * 1024
# During a call, the event loop reacquires the interpreter lock up to ten times. By default each of
# them may take 5 ms while another thread encodes or hashes a program's output.
_SWITCH_S = 0.0005


@click.command(
    context_settings={"show_default": True},
    epilog="Example: `sealspace backend simulate tee`, then `sealspace runner serve --simulate tee"
    " --node http://127.0.0.1:8000 --data runner --key file`.",
)
@serve_options
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
    with platform_errors(options["platform_folder"]):
        asyncio.run(_serve(node, SimpleNamespace(**options)))


async def _serve(node: str, options: SimpleNamespace) -> None:
    """Serve the runner until this process gets SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sys.setswitchinterval(_SWITCH_S)
    with suppress(AttributeError):  # another libc than glibc
        # By default glibc raises this threshold when the first large answer is freed, and then
        # keeps the memory of later ones: 57 MiB of 81 in a measurement.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    require_settings(options)
    tls = server_tls(options.tls_certificate, options.tls_key)
    limits = ConnectionLimits()
    _allow_open_files(limits.max_connections + OTHER_FILES)  # before any child inherits the limit
    async with _open_application(node, options) as (app, calls):
        gc.freeze()  # garbage collections then skip what lives as long as the process
        bound = bind_socket(
            options.host, options.port, command=click.get_current_context().command_path
        )

        def counted_client(peer: str | None) -> str | None:
            """Return the client to which a connection counts; None: it is not counted."""
            # A proxy has the connections of many clients, so they do not count as those of one.
            if is_in_networks(peer, options.proxies):
                return None
            return counted_address(peer)

        async with listening(
            app, bound, limits, tls=tls, client_of=counted_client, drain_s=options.drain_s
        ):
            url = url_of(bound)
            if tls is not None:
                url = url.replace("http:", "https:", 1)
            with _serving_metrics(options, calls):
                print_lines(f"listening on {url}", err=True)
                report_to_manager(MANAGER_READY)
                await stopped.wait()
                report_to_manager(MANAGER_STOPPING)
                calls.begin_drain(options.drain_s)


@contextmanager
def _serving_metrics(options: SimpleNamespace, calls: Calls) -> Iterator[None]:
    """Serve metrics until the `with` block ends, if the operator asks for them."""
    if options.metrics_at is None:
        yield
        return
    # Imported only here: it takes memory, and most runners serve no metrics.
    from ..http.runner_metrics import RunnerMetrics, serving_metrics

    host, port = options.metrics_at
    bound = bind_socket(host, port, hint="set --metrics to another address or port")
    with serving_metrics(bound, host, RunnerMetrics(calls, options.folder)):
        print_lines(f"metrics at {url_of(bound)}/metrics", err=True)
        yield


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


def platform_of(options: SimpleNamespace) -> ProvingPlatform:
    """Choose the runner's source of quotes, and read the runner's compose file."""
    compose = read_compose(options.compose_file)
    return choose_platform(options.quotes, options.platform_folder, compose)


@asynccontextmanager
async def _open_application(
    node: str, options: SimpleNamespace
) -> AsyncIterator[tuple[web.Application, Calls]]:
    """Create the runner's web application and the object that runs its calls.

    Both are closed at the end of the `async with` block, with the runner's child processes.
    """
    platform = platform_of(options)
    source = platform.source
    folder = options.folder
    keys = key_source(options.key_kind, folder, source)
    async with (
        # Opened first: its lock ensures that one process uses the folder.
        Backend.open(node, source, folder=folder, keys=keys) as backend,
        Journal(folder / JOURNAL_NAME) as journal,
        # The node counts reads without a token by client address only (RN222).
        Client(
            node, settings=TransportSettings(user_agent=f"sealspace-runner ({backend.did})")
        ) as public,
        _make_executor(options) as executor,
    ):
        manifest = manifest_of(backend.did, options.name)
        try:
            identity = await begin(
                source, did=backend.did, manifest=manifest, compose=platform.compose
            )
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
            most=options.limits,
            tasks=_prepare_tasks(options, executor, programs),
            roots=roots_of(options),
        )
        app = web.Application()
        async with mounted(
            app,
            runner,
            folder=folder,
            seed=await asyncio.to_thread(backend_seed, keys),
            price=Price(
                call=options.price_call,
                million_instructions=options.price_instructions,
                second=options.price_second,
            ),
            workers=options.children,
            origins=options.origins,
            client_of=partial(_caller_of, options.proxies),
        ) as calls:
            BackendSurface(
                source,
                did=runner.did,
                manifest=manifest,
                compose=platform.compose,
                on_grant=runner.accept,
                client_of=partial(_client_of, options.proxies),
                signers=lambda: backend.signers,
            ).mount(app)
            # The runner also fetches grants from its node (AT61): a delivery may be refused while
            # others flood the runner.
            backend.watch(runner.check_found)
            yield app, calls


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


def _prepare_tasks(
    options: SimpleNamespace, executor: Executor, programs: PublishedPrograms
) -> TaskStages | None:
    """Check the folder for tasks, and return the object that runs tasks.

    Returns None if the runner runs no tasks: there is no folder, or the default folder cannot be
    used.
    """
    root = options.task_folder
    if root is None and options.platform_folder is not None:
        root = DEFAULT_TASK_FOLDER
    if root is None:
        return None
    try:
        prepare_root(root)
        return TaskStages(root.resolve(), executor, programs)
    except (OSError, RuntimeError) as error:
        if options.task_folder is None:
            return None
        raise ConfigurationError(str(error), hint="add --task-dir /dev/shm") from None


def bases_of(options: SimpleNamespace) -> dict[str, bytes]:
    """Read the Python bases of a runner, and return them by their SHA-256."""
    try:
        return read_bases(options.base_files)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot read the Python bases: {error}", hint="check each --python-base FILE"
        ) from error


def roots_of(options: SimpleNamespace) -> dict[str, bytes]:
    """Read the trusted roots of a runner, and return them by their SHA-256 (PV18)."""
    if not options.root_files:
        return {}
    if find_spec("sigstore") is None:
        raise ConfigurationError(
            "--trusted-root needs the extra `provenance`",
            hint="pip install 'sealspace[runner,provenance]'",
        )
    if len(options.root_files) > _MOST_ROOTS:
        raise ConfigurationError(
            f"at most {_MOST_ROOTS} trusted roots", hint="leave out the oldest --trusted-root FILE"
        )
    roots = {}
    for path in options.root_files:
        try:
            root = named_root(read_named(path, most_bytes=MAX_TRUSTED_ROOT_BYTES))
        except ProvenanceInvalid as error:
            raise ConfigurationError(f"{path}: {error.message}", hint=error.step) from error
        roots[root.sha256] = root.document
    return roots


def _make_executor(options: SimpleNamespace) -> Executor:
    """Create the object that runs programs in child processes."""
    spare = min(options.children + 1, MOST_CHILDREN)
    bases = bases_of(options)
    try:
        return Executor(
            children=options.children,
            spare=spare,
            outbound=Outbound(options.loopback_ca),
            bases=bases,
        )
    except OSError as error:  # the errors of `ssl` are OSErrors too
        raise ConfigurationError(
            f"{options.loopback_ca} does not contain a certificate",
            hint="pass a PEM file: --loopback-ca FILE",
        ) from error
