"""The storekeeper, the only process that writes the store.

The supervisor starts it. It gets no root secret, because everything it writes was sealed or is
public.
"""

from sealspace.service.command_errors import StoreMisused
from spaces.space_errors import SpaceError, StartRefused, StoreLocked
from spaces.store.lmdb.storekeeper import run_storekeeper

from ..logs import describe, log_warning
from ..storage.stores import start_refused
from .event_loop import loop_factory
from .launch import Launch, receive_launch, report_ready, report_refusal


def main() -> int:
    """Run the storekeeper process until SIGTERM."""
    factory = loop_factory()  # imports uvloop while waiting for the settings
    launch = receive_launch()
    metrics = None
    if launch.metrics_folder:
        from ..metrics.storekeeper_metrics import (
            StorekeeperMetrics,  # not loaded where metrics are off
        )

        metrics = StorekeeperMetrics(launch.metrics_folder, launch.process)

    def ready() -> None:
        if metrics is not None:
            metrics.start()
        report_ready()

    try:
        return run_storekeeper(
            launch.config.data,
            max_bytes=launch.config.store.max_bytes,
            ready=ready,
            observer=metrics,
            loop_factory=factory,
        )
    except SpaceError as error:
        report_refusal(_refusal(error, launch))
        return 1
    except OSError as error:
        # May be temporary, so the supervisor restarts this process. Logged without a traceback,
        # which would contain the message.
        log_warning("storekeeper-failed", **describe(error))
        return 1


def _refusal(error: SpaceError, launch: Launch) -> StoreMisused:
    data = launch.config.data
    if isinstance(error, StoreLocked):
        return StoreMisused(
            f"another node is using the data folder {data}",
            hint="stop the other node, or use another folder with --data",
        )
    if isinstance(error, StartRefused):
        return start_refused(launch.config, error)
    return StoreMisused(
        f"the store in {data} cannot be opened: {error}",
        hint=f"check it: sealspace doctor --data {data}",
    )
