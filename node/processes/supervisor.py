"""The supervisor, which starts and restarts a node's processes.

`sealspace serve` runs one supervisor, one storekeeper, one keeper of SQL processes and N workers.

- With a database (`store.url`) there are neither a storekeeper nor SQL databases; workers are
  launched once the secret is read.
- The socket is bound once and inherited, so replacing a worker costs neither the port nor other
  workers' connections. The counters by which workers share connections (`acceptor`) are inherited
  too.
- Processes are started by exec, not by fork, with a clean environment. Workers import their modules
  while the storekeeper opens the store. When it is ready, they get their settings, which start
  their work.
- SIGTERM or SIGINT: workers finish requests in progress within `http.drain_s`, then the storekeeper
  and the keeper of SQL processes end. Processes still running two seconds later are killed. A
  second signal kills at once.
"""

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from sys import maxsize

import msgspec

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.own_packages import PACKAGES, Clash, hidden_by, overlapping_distribution
from sealspace.service.clock_check import check_clock
from sealspace.service.command_errors import ForeignDistribution, ProcessFailed, StoreMisused
from sealspace.service.listening_socket import bind_socket, console_url, url_of
from serving.service_manager import MANAGER_READY, MANAGER_STOPPING, report_to_manager

from ..config.checks import is_local, serves_console
from ..config.loading import child_environment
from ..config.tree import Config, Secret
from ..http.connection_counts import ConnectionCounts
from ..logs import configure_logs, log_event, log_warning, tell_operator
from .keeper_launch import READY, SQL_SOCKET, KeeperLaunch
from .launch import REFUSED, Launch, StartRefusal, own_program
from .open_files import allow_open_files

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_STEADY_S = 30.0  # a process that ran this long is restarted without delay

# Imports create only permanent objects, so the collector is off until `receive_launch`: it takes a
# sixth of their time.
_CODE = "import gc; gc.disable(); from node.processes.{} import main; sys.exit(main())"

# glibc returns the end of its heap as soon as 128 KiB of it are free and requests it again a moment
# later: some 500 pages for an upload of 10 MiB. So blocks of up to 2 MiB are taken from the heap,
# which keeps 4 MiB of freed memory. Once set, both are fixed: otherwise glibc raises them to 32 and
# 64 MiB. Other C libraries ignore both variables.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}


class NodeProcess:
    """A child process of the supervisor.

    It imports from the same places as its parent and nowhere else. The current directory is left
    out, because a folder there named `spaces` would be imported as ours.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.command = name.partition("-")[0]
        self.ready = self.launched = False
        self.failures = 0
        self.due_at = 0.0
        self.status_fd = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self.unread = b""

    @property
    def running(self) -> bool:
        """Return whether the process was started and has not been reaped."""
        return self._process is not None

    def spawn(self, *, pass_fds: list[int]) -> None:
        """Start the child process, which then waits for its settings."""
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter with our own code
            # The code reads no argument. This one shows in `ps` which process it is.
            own_program(_CODE.format(self.command), self.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            env=_MALLOC | child_environment(),  # what the operator sets takes precedence
            # Ctrl-C then signals only the supervisor, which stops the others in order
            process_group=0,
        )
        assert self._process.stdout is not None  # stdout=PIPE
        self.status_fd = self._process.stdout.fileno()
        self._started_at = time.monotonic()

    def send(self, launch: Launch | KeeperLaunch) -> None:
        """Send the waiting child process its settings."""
        self.launched = True
        assert self._process is not None and self._process.stdin is not None  # stdin=PIPE
        with suppress(BrokenPipeError):  # it has ended, which its status pipe reports
            self._process.stdin.write(msgspec.json.encode(launch) + b"\n")
            self._process.stdin.flush()

    def reap(self) -> int:
        """Reap the ended process and schedule its restart.

        A process that ran for long is restarted at once. Otherwise each further failure doubles the
        delay.

        Return the exit status.
        """
        assert self._process is not None
        # The `with` closes the pipes. What the process has not read of its settings is lost.
        with suppress(BrokenPipeError), self._process as process:
            status = process.wait()
        now_s = time.monotonic()
        if now_s - self._started_at > _STEADY_S:
            self.failures = 0
            self.due_at = now_s
        else:
            delay_s = min(_FIRST_DELAY_S * 2**self.failures, _LONGEST_DELAY_S)
            self.failures += 1
            self.due_at = now_s + delay_s
        self._process = None
        self.ready = self.launched = False
        self.unread = b""
        return status

    def signal(self, number: int) -> None:
        """Send a signal if the process is running."""
        if self._process is not None:
            self._process.send_signal(number)

    def join(self, deadline: float) -> bool:
        """Wait for the process to end, at most until the deadline.

        Return whether the process ended.
        """
        if self._process is not None:
            try:
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
            self.reap()
        return True


_START_TRIES = 3  # before the first `listening on`; afterwards there is no limit
_KILL_AFTER_DRAIN_S = 2.0
_READ_BYTES = 65_536
_POLL_S = 0.05
_DISK_CHECK_S = 30.0
_SQL_BACKLOG = 64


def serve(config: Config) -> int:
    """Run the node until a signal stops it.

    Return the exit status.
    """
    # A worker that lacks a library would be restarted again and again.
    if config.store.url is not None:
        _require_library("asyncpg")
    if config.objects.url is not None:
        _require_library("obstore")
    configure_logs(config.log.level, is_json=config.log.format == "json")
    files = allow_open_files(config)  # H11; the processes inherit the limit
    with (
        bind_socket(config.http.host, config.http.port) as bound,
        nullcontext() if config.sms.listen is None else bind_socket(*config.sms.address) as sms,
        _receive_signals() as woken,
    ):
        supervisor = Supervisor(config, bound, woken, sms, open_files=files.limit)
        try:
            supervisor.start()
            supervisor.supervise()
        finally:
            supervisor.stop()
    return 0


def _require_library(name: str) -> None:
    """Raise ModuleNotFoundError if a library is not installed."""
    if find_spec(name) is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Supervisor:
    """The supervisor of a node's processes."""

    def __init__(
        self,
        config: Config,
        bound: socket.socket,
        woken: socket.socket,
        sms: socket.socket | None,
        *,
        open_files: int,
    ) -> None:
        self._config = config
        self._open_files = open_files
        self._bound = bound
        self._sms = sms
        self._woken = woken
        self._selector = selectors.DefaultSelector()
        self._selector.register(woken, selectors.EVENT_READ, None)
        self._announced = False
        self._stopped_by = "error"
        workers = config.http.workers or os.cpu_count() or 1
        self._storekeeper = NodeProcess("storekeeper")
        self._workers = tuple(NodeProcess(f"worker-{index}") for index in range(workers))
        self._counts = ConnectionCounts.of(workers) if workers > 1 else None
        self._sqlkeeper = NodeProcess("sqlkeeper")
        self._sql_socket: socket.socket | None = None  # bound once the storekeeper has the folder
        self._children = (
            self._workers
            if config.is_shared
            else (self._storekeeper, self._sqlkeeper, *self._workers)
        )
        self._metrics = None
        if config.metrics.listen is not None:
            from ..metrics.supervisor_metrics import (
                SupervisorMetrics,  # not loaded where metrics are off
            )

            self._metrics = SupervisorMetrics(config, [child.name for child in self._children])

    def start(self) -> None:
        """Start all processes and run the startup checks."""
        check_clock(SystemClock())  # a wrong clock would accept documents that have ended (AT17)
        refuse_foreign_package()  # before a process fails to import what it hides
        if self._metrics is not None:
            self._metrics.start()
        for worker in self._workers:  # first, because their imports take longest
            self._spawn(worker)
        if not self._config.is_shared:
            self._spawn(self._storekeeper)
        # The keeper of SQL processes is started later (`_spawn_due`): its socket is not bound yet.
        # The processes import their modules during the following checks.
        refuse_foreign_distribution()
        self._load_secret()
        if self._config.store.url is not None:
            _refuse_pooling(self._config.store.url)
            self._storekeeper.ready = True  # a database needs no storekeeper
        self._send_settings()

    def supervise(self) -> None:
        """Handle events of the child processes until a signal arrives."""
        needed_bytes = report_disk(self._config.data, maxsize)
        while not self._is_told_to_stop():
            self._bind_sql_socket()
            self._spawn_due()
            self._send_settings()
            needed_bytes = report_disk(self._config.data, needed_bytes)

    def _is_told_to_stop(self) -> bool:
        """Handle the next events, and return whether one of them was a signal."""
        for key, _ in self._selector.select(self._wait_s()):
            if key.fileobj is not self._woken:
                process: NodeProcess = key.data
                self._read_status(process)
                continue
            received = _received_signals(self._woken)
            if received:
                self._stopped_by = signal.Signals(received[0]).name
                return True
        return False

    def _wait_s(self) -> float:
        """Return the time until the disk is checked or a process is started again, seconds."""
        waits_s = [_DISK_CHECK_S]
        for child in self._children:
            if not child.running and self._can_start(child):
                waits_s.append(child.due_at - time.monotonic())
        return max(0.0, min(waits_s))

    def _spawn_due(self) -> None:
        """Start the child processes that are not running and whose start is due."""
        for child in self._children:
            is_due = not child.running and child.due_at <= time.monotonic()
            if is_due and self._can_start(child):
                self._spawn(child)

    def stop(self) -> None:
        """Stop all processes of the node, the workers first.

        The storekeeper, which has the store open, ends last.
        """
        began_s = time.monotonic()
        report_to_manager(MANAGER_STOPPING)
        if self._announced:
            log_event("node-stopping", reason=self._stopped_by, drain_s=self._config.http.drain_s)
        # Connections that are not accepted yet are refused now instead of after the drain.
        self._bound.close()
        if self._sms is not None:
            self._sms.close()
        # Workers have the time for the drain and two seconds more. The other processes then have
        # two seconds more than that, or from now if the workers took longer.
        deadline = time.monotonic() + self._config.http.drain_s
        forced = False
        for children in (self._workers, (self._storekeeper, self._sqlkeeper)):
            deadline = max(deadline, time.monotonic()) + _KILL_AFTER_DRAIN_S
            if _end_processes(children, deadline, hurry=self._woken):
                forced = True
        if self._metrics is not None:
            self._metrics.stop()
        self._selector.close()
        if self._sql_socket is not None:
            Path(self._sql_socket.getsockname()).unlink(missing_ok=True)
            self._sql_socket.close()
        if self._announced:  # otherwise the error that prevented the start is reported
            log_event(
                "node-stopped",
                reason=self._stopped_by,
                took_s=round(time.monotonic() - began_s, 3),
                forced=forced,
            )

    def _load_secret(self) -> None:
        from ..platform.root_secret import (  # platforms and their formats: nothing else needs them
            load_root_secret,
            secret_origin,
        )

        self._secret = load_root_secret(self._config, SystemEntropy(), on_made=_report_new_secret)
        # The secret itself is sent in `Launch.secret`, to workers only. These settings tell them
        # where it comes from, which they state in the node's evidence.
        self._child_config = msgspec.structs.replace(
            self._config, secret=Secret(platform=secret_origin(self._config) == "platform")
        )

    def _can_start(self, child: NodeProcess) -> bool:
        """Return whether a process can run: the keeper of SQL processes needs its socket."""
        return child is not self._sqlkeeper or self._sql_socket is not None

    def _bind_sql_socket(self) -> None:
        """Bind the socket of the keeper of SQL processes, once the storekeeper is ready.

        The storekeeper has the lock on the data folder then, so a socket that is found there was
        left by a node that has ended. The socket outlives its keeper: workers that connect while
        the keeper is started again wait.
        """
        if self._sql_socket is not None or not self._storekeeper.ready or self._config.is_shared:
            return
        from spaces.store.lmdb.engine import socket_path_for  # the workers are already starting

        path = socket_path_for(self._config.data, SQL_SOCKET)
        path.unlink(missing_ok=True)
        self._sql_socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sql_socket.bind(str(path))
        path.chmod(0o600)
        self._sql_socket.listen(_SQL_BACKLOG)

    def _spawn(self, child: NodeProcess) -> None:
        """Start a process with the sockets and the table that it inherits."""
        optional: tuple[ConnectionCounts | socket.socket | None, ...]
        if child is self._storekeeper:
            optional = ()
        elif child is self._sqlkeeper:
            optional = (self._sql_socket,)
        else:
            optional = (self._bound, self._counts, self._sms)
        inherited = [resource for resource in optional if resource is not None]
        child.spawn(pass_fds=[resource.fileno() for resource in inherited])
        self._selector.register(child.status_fd, selectors.EVENT_READ, child)

    def _send_settings(self) -> None:
        """Send each waiting child process its settings.

        Workers get their settings once the storekeeper is ready.
        """
        for child in self._children:
            if not child.running or child.launched:
                continue
            if child is self._storekeeper:
                child.send(self._base_settings(child))
            elif child is self._sqlkeeper:
                child.send(self._sqlkeeper_settings())
            elif self._storekeeper.ready:
                child.send(self._worker_settings(child))

    def _base_settings(self, child: NodeProcess) -> Launch:
        """Return the settings that the storekeeper and the workers have in common."""
        folder = "" if self._metrics is None else self._metrics.folder
        return Launch(config=self._child_config, process=child.name, metrics_folder=folder)

    def _sqlkeeper_settings(self) -> KeeperLaunch:
        from spaces.sql.database_rows import DATABASES_FOLDER  # the workers are already starting

        assert self._sql_socket is not None  # see `_can_start`
        return KeeperLaunch(
            folder=str(self._config.data / DATABASES_FOLDER),
            listen_fd=self._sql_socket.fileno(),
            processes=self._config.sql.processes,
        )

    def _worker_settings(self, worker: NodeProcess) -> Launch:
        return msgspec.structs.replace(
            self._base_settings(worker),
            secret=self._secret,
            listen_fd=self._bound.fileno(),
            counts_fd=-1 if self._counts is None else self._counts.fileno(),
            sms_fd=-1 if self._sms is None else self._sms.fileno(),
            worker=self._workers.index(worker),
            again=self._announced,
        )

    def _read_status(self, child: NodeProcess) -> None:
        """Read what a child process reports: that it is ready, why it refuses to start, its end."""
        received = os.read(child.status_fd, _READ_BYTES)
        if not received:  # the process has closed its end of the pipe
            self._handle_end(child)
            return
        *lines, child.unread = (child.unread + received).split(b"\n")
        for line in lines:
            if line == READY:
                child.ready = True
                if not self._announced and all(worker.ready for worker in self._workers):
                    self._announce()
            elif line.startswith(REFUSED):
                refusal = msgspec.json.decode(line.removeprefix(REFUSED), type=StartRefusal)
                raise ProcessFailed(refusal.text, hint=refusal.hint, code=refusal.code)

    def _announce(self) -> None:
        """Report that the node is ready: to the operator, the log and the service manager."""
        self._announced = True
        self._tell_addresses()
        log_event("node-ready", workers=len(self._workers), open_files=self._open_files)
        report_to_manager(MANAGER_READY)

    def _tell_addresses(self) -> None:
        """Tell the operator where the node listens, and who may sign up there."""
        url = url_of(self._bound)
        http = self._config.http
        tell_operator(f"listening on {url}")
        if self._sms is not None:
            tell_operator(f"iExec's clients push secrets to {url_of(self._sms)}")
        if serves_console(http):
            tell_operator(f"console: open {console_url(url)} in a browser on this machine")
        if self._config.hosting.mode == "auto" and not is_local(http):
            tell_operator(
                "everyone who can reach this node may sign up (hosting.mode = auto); to choose who"
                " may, start it with --hosting permit, then: sealspace admin owners add DID",
                level="warning",
            )

    def _handle_end(self, child: NodeProcess) -> None:
        """Reap a child process that has ended.

        Raises:
            ProcessFailed: it ended several times before the node was ready.
        """
        self._selector.unregister(child.status_fd)
        status = child.reap()
        if self._counts is not None and child in self._workers:
            self._counts.withdraw(self._workers.index(child))
        if self._metrics is not None:
            self._metrics.ended(child.name)
        log_warning("process-ended", process=child.name, status=status)
        if not self._announced and child.failures >= _START_TRIES:
            raise ProcessFailed(
                f"the {child.name} exited {child.failures} times before it was ready, last with"
                f" status {status}",
                hint="see the messages above; sealspace doctor checks the data folder",
            )


def refuse_foreign_package() -> None:
    """Refuse to start if another package would be imported in place of one of sealspace's."""
    _refuse(hidden_by(*PACKAGES))


def refuse_foreign_distribution() -> None:
    """Refuse to start if another distribution provides one of sealspace's packages.

    Otherwise part of the running code might be from that distribution
    (spec/decisions/0001-flat-packages.md).
    """
    _refuse(overlapping_distribution())


def _refuse(clash: Clash | None) -> None:
    if clash is not None:
        raise ForeignDistribution(clash.text, hint=clash.hint)


def _refuse_pooling(url: str) -> None:
    """Refuse to start behind a database proxy in transaction pooling mode.

    Behind such a proxy, workers would fail at random.
    """
    import asyncio  # large modules, imported while the workers import theirs

    from spaces.space_errors import StoreUnavailable
    from spaces.store.postgres.requirements import POOLED, examine

    with suppress(StoreUnavailable):  # workers retry, and report that the database is unavailable
        if POOLED in asyncio.run(examine(url)):
            raise StoreMisused(POOLED.text, hint=POOLED.next_step)


@contextmanager
def _receive_signals() -> Iterator[socket.socket]:
    """Turn SIGTERM and SIGINT into bytes on the yielded socket, until the block ends.

    One `select` can then wait for signals and everything else. The handlers do nothing; the signal
    itself writes to the wakeup socket.
    """
    woken, wakeup = socket.socketpair()
    woken.setblocking(False)
    wakeup.setblocking(False)
    former_fd = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    former_handlers = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        former_handlers[number] = signal.signal(number, lambda *_: None)
    try:
        yield woken
    finally:
        for number, handler in former_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_fd)
        woken.close()
        wakeup.close()


def report_disk(folder: Path, before_bytes: int) -> int:
    """Log a warning if the free disk space fell below a lower threshold than before.

    Args:
        folder: a folder on the disk.
        before_bytes: the result of the last call.

    Returns:
        The lowest threshold above the free space.
    """
    # Imported here: the workers are already starting.
    from spaces.store.durable import FREE_SPACE, free_space, low_space

    free_bytes, needed_bytes = free_space(folder)
    if needed_bytes < before_bytes:
        log_warning(
            "disk-nearly-full",
            free_bytes=free_bytes,
            needed_bytes=needed_bytes,
            text=f"{low_space(folder)}; next: {FREE_SPACE}",
        )
    return needed_bytes


def _received_signals(woken: socket.socket) -> bytes:
    """Return the numbers of the signals that arrived, one byte each."""
    try:
        return woken.recv(64)
    except BlockingIOError:
        return b""


def _end_processes(
    children: tuple[NodeProcess, ...], deadline: float, *, hurry: socket.socket
) -> bool:
    """End processes, and return whether one had to be killed.

    They are killed at the deadline, or as soon as a signal arrives at the socket `hurry`.
    """
    killed = False
    for child in children:
        child.signal(signal.SIGTERM)
    for child in children:
        while not child.join(min(deadline, time.monotonic() + _POLL_S)):
            if time.monotonic() >= deadline or _received_signals(hurry):
                child.signal(signal.SIGKILL)
                killed = True
    return killed


def _report_new_secret(path: Path) -> None:
    """Tell the operator to back up the new root secret.

    The secret cannot be recreated.
    """
    tell_operator(
        f"created the root secret in {path}: copy it to a safe place; without it nothing in this"
        " store can be decrypted",
        level="warning",
    )
