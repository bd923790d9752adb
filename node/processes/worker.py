"""A worker process, which serves HTTP requests.

It accepts connections on the supervisor's socket. No other worker depends on its state. On SIGTERM
it accepts no more connections, finishes requests in progress and ends.
"""

import asyncio
import signal
import socket
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from sealspace.service.command_errors import NodeError
from spaces.store.lmdb.engine import connect_lmdb

from ..housekeeping.schedule import housekeeping
from ..http.app import build_app
from ..http.connection_counts import ConnectionCounts
from ..http.listener import start_listener
from ..logs import describe, log_event, log_warning
from ..storage.stores import shared_store
from .event_loop import loop_factory
from .launch import Launch, receive_launch, report_ready, report_refusal
from .open_files import own_files
from .start import claim_store, load_collateral, report_restore_wait


def main() -> int:
    """Run a worker process until SIGTERM."""
    factory = loop_factory()  # imports uvloop while waiting for the settings
    launch = receive_launch()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_work(launch))
    except NodeError as error:
        report_refusal(error)
        return 1
    except Exception as error:
        # May be temporary, so the supervisor restarts this process. Logged without a traceback,
        # which would contain the message.
        log_warning("worker-failed", **describe(error))
        return 1
    return 0


async def _work(launch: Launch) -> None:
    """Open the store, listen on the supervisor's sockets, and serve until SIGTERM.

    Raises:
        NodeError: this process cannot serve the store, or the collateral is refused.
    """
    config = launch.config
    is_first = launch.worker == 0  # the first worker does what one process does for the node
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    store = shared_store(config) if config.is_shared else connect_lmdb(config.data)
    metrics = None
    if launch.metrics_folder:
        from ..metrics.worker_metrics import WorkerMetrics  # not loaded where metrics are off

        metrics = WorkerMetrics(launch.metrics_folder, launch.process)
    try:
        services = await claim_store(
            config,
            store=store,
            keyring=Keyring(launch.secret),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            again=launch.again,
            counter=metrics,
        )
        if is_first:
            await load_collateral(services)
            if not launch.again:
                await report_restore_wait(services)
        # Fewer connections than the settings allow, if the process may open only few files (H11).
        http = msgspec.structs.replace(config.http, max_connections=own_files(config).connections)
        with socket.socket(fileno=launch.listen_fd) as bound:
            listener = await start_listener(
                build_app(services),
                bound,
                http,
                counts=None if launch.counts_fd < 0 else ConnectionCounts(launch.counts_fd),
                worker=launch.worker,
            )
            listeners = [listener]
            if launch.sms_fd >= 0:
                from ..http.routes.sms_routes import SMS_SERVED  # not loaded where it is off

                listeners.append(
                    await start_listener(
                        build_app(services, SMS_SERVED),
                        socket.socket(fileno=launch.sms_fd),
                        http,
                    )
                )
            recording: AbstractAsyncContextManager[None] = nullcontext()
            if metrics is not None:
                recording = metrics.recording(services, listener, reads_store=is_first)
            async with housekeeping(services), recording:
                loop_class = type(asyncio.get_running_loop())
                loop_library = loop_class.__module__.partition(".")[0]  # "uvloop" or "asyncio"
                log_event("worker-started", event_loop=loop_library)
                report_ready()
                await stopped.wait()
                await asyncio.gather(*[listener.stop() for listener in listeners])
    finally:
        await store.close()
