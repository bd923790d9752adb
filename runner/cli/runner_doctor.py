"""The command `sealspace runner doctor`, which diagnoses a runner's installation.

It has the options of `sealspace runner serve`, and finds what would stop the runner or a call.
"""

import asyncio
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from cryptography import x509
from cryptography.x509 import ExtensionNotFound

from capabilities.clock_and_entropy import SystemClock
from sealspace.cli.diagnosis import (
    Diagnosis,
    DoctorWarning,
    all_diagnosed,
    diagnosed,
    print_diagnoses,
    problem_diagnosis,
)
from sealspace.cli.machine_checks import clock, disk, node_diagnoses, python
from sealspace.cli.shared import shared
from sealspace.cli.terminal import time_text
from sealspace.errors import ProvenanceInvalid, SealspaceError
from sealspace.service.command_errors import ConfigurationError, StoreMisused
from sealspace.service.listening_socket import bind_socket, server_tls
from sealspace.session import key_session
from serving.confinement.landlock import landlock_version
from serving.listener import ConnectionLimits
from tee_backend.backend.key import KeyFile, backend_seed
from tee_backend.backend_errors import FolderOfAnother, FolderUnusable
from tee_backend.cli.quote_sources import key_source, platform_errors
from tee_backend.evidence.source import EvidenceSource

from ..calls.journal import RowSealer
from ..calls.journal_copies import (
    JOURNAL_NAME,
    SPARE_BYTES,
    check_journal,
    file_bytes,
    require_key,
    runner_of,
    stopped_runner,
)
from ..calls.ledger import MOST_DONE_BYTES
from ..calls.task_stages import MAX_DATASET_BYTES, MAX_RESULT_BYTES
from ..guest.executor import Executor
from ..tasks.folders import require_memory
from .runner_serve import DEFAULT_TASK_FOLDER, OTHER_FILES, bases_of, platform_of, roots_of
from .serve_options import require_settings, serve_options

RUNNER_BYTES = 366 << 20
"""Memory of a runner without children: 75 MiB measured, a template of 35 MiB, and 256 MiB of
compiled programs (RN167)."""
CHILD_BYTES = 26 << 20
"""Measured memory of a child that has run a small program."""

_PROBE = bytes(64)
_SOON_S = 14 * 86_400.0
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SETUID, _SETGID, _KILL = 7, 6, 5
_UNPRIVILEGED = "children have this user's uid, so that only the filter of system calls separates"


@click.command(
    context_settings={"show_default": True},
    epilog="Example: replace `serve` by `doctor` in the command that starts the runner. The"
    " runner may be running.",
)
@serve_options
def doctor(**options: Any) -> int:
    """Check what a runner with these options needs.

    Checks Python, clock, settings, key, evidence, data folder, journal, disk, memory, child
    processes, Python bases, trusted roots, task folder, node, TLS, grants, prices and ports. The
    exit status is 1 if a check fails. Nothing is changed. Start it as the user who runs the runner.
    """
    return print_diagnoses(_diagnoses(SimpleNamespace(**options)))


def _diagnoses(options: SimpleNamespace) -> Iterator[Diagnosis]:
    """Yield the result of each check; `options` has the options of the command, by their names."""
    yield diagnosed("python", python)
    yield diagnosed("clock", clock)
    yield from all_diagnosed("settings", lambda: _check_settings(options), _require_node)
    yield from disk(options.folder, _disk_shortage)
    if options.folder.is_dir():
        with stopped_runner(options.folder) as is_stopped:
            yield from _check_data_folder(options, is_running=not is_stopped)
    else:
        yield from _check_platform(options)
        yield Diagnosis(name="journal", severity="ok", text="will be created by the first start")
        yield from _check_ports(options, is_running=False)
    yield diagnosed("memory", lambda: _check_memory(options))
    yield diagnosed("files", _check_open_files)
    yield diagnosed("children", _check_children)
    yield diagnosed("python-bases", lambda: _check_bases(options))
    yield diagnosed("trusted-roots", lambda: _check_roots(options))
    yield diagnosed("tasks", lambda: _check_tasks(options))
    if shared().node is not None:
        yield from asyncio.run(node_diagnoses(str(shared().node)))
    yield diagnosed("tls", lambda: _check_tls(options))
    yield diagnosed("prices", lambda: _describe_prices(options))


def _check_data_folder(options: SimpleNamespace, *, is_running: bool) -> Iterator[Diagnosis]:
    """Check the data folder of a runner, and what is in it."""
    folder_diagnosis = diagnosed("folder", lambda: _check_folder_is_private(options.folder))
    yield folder_diagnosis
    yield from _check_platform(options)
    if is_running:
        yield Diagnosis(name="journal", severity="ok", text="a running runner uses it")
    elif folder_diagnosis.severity != "ok":
        # SQLite could leave files of this user, which the runner cannot open.
        yield Diagnosis(
            name="journal",
            severity="skipped",
            text="the folder is not that of this user",
            next_step=folder_diagnosis.next_step,
        )
    else:
        yield diagnosed("journal", lambda: _check_stopped_journal(options))
    yield diagnosed("grants", lambda: _count_grants(options.folder))
    yield from _check_ports(options, is_running=is_running)


def _check_settings(options: SimpleNamespace) -> str:
    try:
        require_settings(options)
    except click.UsageError as error:
        raise ConfigurationError(error.format_message(), hint="leave the option out") from None
    return "valid"


def _require_node() -> str:
    if shared().node is None:
        raise ConfigurationError(
            "no node is named, where owners make their grants",
            hint="add --node URL, as for sealspace runner serve",
        )
    return "valid"


# --- key and evidence -----------------------------------------------------------------------------


def _check_platform(options: SimpleNamespace) -> Iterator[Diagnosis]:
    """Check the source of quotes and of the runner's key."""
    try:
        with platform_errors(options.platform_folder):
            source = platform_of(options).source
    except click.UsageError as error:
        missing_option = ConfigurationError(
            error.format_message(), hint="sealspace runner serve --help"
        )
        yield problem_diagnosis("evidence", missing_option)
        return
    except SealspaceError as error:
        yield problem_diagnosis("evidence", error)
        return
    yield diagnosed("evidence", lambda: _check_quotes(options, source))
    yield diagnosed("key", lambda: _check_key(options, source))


def _check_quotes(options: SimpleNamespace, source: EvidenceSource) -> str:
    with platform_errors(options.platform_folder):
        quoted = source.quote(_PROBE)
    log = "an event log" if quoted.event_log is not None else "no event log"
    return f"the platform made a quote of {len(quoted.quote):,} bytes, with {log}"


def _check_key(options: SimpleNamespace, source: EvidenceSource) -> str:
    """Check that the runner's key is available, and is that of the data folder.

    A missing key file is not made.

    Raises:
        FolderOfAnother: the data folder belongs to a runner with another key.
    """
    keys = key_source(options.key_kind, options.folder, source)
    folder_did = runner_of(options.folder)
    if isinstance(keys, KeyFile) and not keys.path.exists():
        if folder_did is not None:
            raise FolderOfAnother(
                f"{keys.path} is missing, and the data folder belongs to {folder_did}",
                hint=f"restore the file from a copy: {keys.path}",
            )
        return f"{keys.path} will be created by the first start"
    with platform_errors(options.platform_folder):
        key_did = key_session(backend_seed(keys)).did
    if folder_did not in (None, key_did):
        raise FolderOfAnother(
            f"the key belongs to {key_did}, but the data folder belongs to {folder_did}",
            hint="use the key that the runner had before, or a new data folder",
        )
    return f"the runner is {key_did}"


# --- the data folder ------------------------------------------------------------------------------


def _check_folder_is_private(folder: Path) -> str:
    status = folder.stat()
    is_own = status.st_uid == os.geteuid()
    is_open_to_others = bool(status.st_mode & 0o077)
    if not is_own or is_open_to_others:
        raise FolderUnusable(
            f"{folder} belongs to another user, or other users can read it",
            hint=f"run the command as the runner's user, or: chmod 700 {folder}",
        )
    return f"only this user can read {folder}"


def _disk_shortage(folder: Path) -> tuple[str, str]:
    """Return what is wrong with the free space of the journal's disk, and the next step.

    Both texts are empty if there is enough.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes >= SPARE_BYTES:
        return "", ""
    text = f"the disk of {folder} has only {free_bytes >> 20} MiB free; a full disk stops a runner"
    return text, "free disk space"


def _check_stopped_journal(options: SimpleNamespace) -> str:
    """Check that the journal of a stopped runner is whole, opens with the key, and may grow."""
    journal = options.folder / JOURNAL_NAME
    if not journal.exists():
        return "will be created by the first start"
    check_journal(journal)
    key_text = _check_journal_key(options, journal)
    size_bytes = file_bytes(journal)
    free_bytes = shutil.disk_usage(options.folder).free
    growth_bytes = max(0, MOST_DONE_BYTES - size_bytes)
    if free_bytes < growth_bytes:
        raise DoctorWarning(
            f"answers of calls may take {growth_bytes >> 20} MiB more, and the disk has"
            f" {free_bytes >> 20} MiB free",
            hint="free disk space",
        )
    return f"whole, {size_bytes:,} bytes; {key_text}"


def _check_journal_key(options: SimpleNamespace, journal: Path) -> str:
    """Check that the runner's key opens the rows of the journal, if there is a key.

    Returns:
        What was found, for a person.
    Raises:
        FolderDamaged: the key does not open a row.
    """
    try:
        with platform_errors(options.platform_folder):
            source = platform_of(options).source
            keys = key_source(options.key_kind, options.folder, source)
            if isinstance(keys, KeyFile) and not keys.path.exists():
                return "there is no key to open it with"
            seed = backend_seed(keys)
    except (SealspaceError, click.UsageError):
        return "not opened, because there is no key"  # the check of the key says why
    require_key(journal, RowSealer(seed))
    return "the runner's key opens it"


def _count_grants(folder: Path) -> str:
    grants_folder = folder / "grants"
    usable_count = len([*grants_folder.glob("*.json")])
    damaged_count = len([*grants_folder.glob("*.unreadable")])
    if damaged_count:
        raise DoctorWarning(
            f"{damaged_count} of {usable_count + damaged_count} grants are damaged, and are not"
            " used",
            hint=f"ask their owners to grant again, and remove {grants_folder}/*.unreadable",
        )
    return f"{usable_count} grants; the runner fetches those that it lacks from its node"


def _check_ports(options: SimpleNamespace, *, is_running: bool) -> Iterator[Diagnosis]:
    """Check that the runner can listen on its addresses."""
    if is_running:
        yield Diagnosis(name="ports", severity="ok", text="a running runner uses the data folder")
        return
    yield diagnosed("ports", lambda: _try_ports(options))


def _try_ports(options: SimpleNamespace) -> str:
    """Listen on each address of the runner for a moment."""
    addresses = [(options.host, options.port)]
    if options.metrics_at is not None:
        addresses.append((options.metrics_at.host, options.metrics_at.port))
    names = []
    for host, port in addresses:
        listener = bind_socket(host, port, hint="stop that process, or choose another port")
        listener.close()
        names.append(f"{host} port {port}")
    return f"{', '.join(names)} can be used"


# --- memory, child processes and tasks ------------------------------------------------------------


def memory_needed(children: int, program_mb: int) -> int:
    """Return the bytes that a runner needs when all its children run the largest programs.

    Args:
        children: the value of the option --children, for callers with a key or an account. Half
            this number, at least one, may run for other callers in addition.
        program_mb: most memory of a program in MiB.
    """
    most_children = children + max(children // 2, 1)
    return RUNNER_BYTES + most_children * (CHILD_BYTES + (program_mb << 20))


def _check_memory(options: SimpleNamespace) -> str:
    """Check that the memory is enough for the largest runs of all children."""
    limit_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limited_by = "this machine"
    if _CGROUP_LIMIT.exists():
        cgroup_limit = _CGROUP_LIMIT.read_text("ascii").strip()  # a number, or "max"
        if cgroup_limit.isdecimal() and int(cgroup_limit) < limit_bytes:
            limit_bytes = int(cgroup_limit)
            limited_by = "the container"
    needed_bytes = memory_needed(options.children, options.limits.max_memory_mb)
    sizes = (
        f"{limited_by} has {limit_bytes >> 20} MiB, and the runner needs up to {needed_bytes >> 20}"
    )
    if needed_bytes > limit_bytes:
        raise DoctorWarning(
            f"{sizes} MiB: a program may be ended for want of memory",
            hint="use more memory, fewer --children, or a lower --max-memory-mb",
        )
    return f"{sizes} MiB"


def _check_open_files() -> str:
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = ConnectionLimits().max_connections + OTHER_FILES
    is_unlimited = hard_limit in (resource.RLIM_INFINITY, -1)
    if not is_unlimited and hard_limit < needed:
        raise DoctorWarning(
            f"the runner may open only {hard_limit} files, and a busy one needs {needed}",
            hint="raise the hard limit (systemd: LimitNOFILE=, compose: ulimits.nofile, shell:"
            " ulimit -Hn)",
        )
    return f"up to {needed} open files"


def _check_children() -> str:
    """Start a child process, which installs its filters of system calls."""
    is_root = os.geteuid() == 0
    # As root, the runner gives each child a uid of its own, and kills it.
    if is_root and not _has_capabilities(_SETUID, _SETGID, _KILL):
        raise StoreMisused(
            "the runner is root without the capabilities to give children users of their own",
            hint="add the capabilities SETUID, SETGID and KILL, or run it as another user",
        )
    try:
        asyncio.run(_start_and_end_child())
    except RuntimeError as error:
        raise StoreMisused(
            "no child process starts",
            hint="allow the runner to install seccomp filters, and, as root, to change the uid of"
            " child processes",
        ) from error
    if is_root:
        return "start; each has a uid of its own"
    return f"start; {_UNPRIVILEGED} them"


async def _start_and_end_child() -> None:
    async with Executor(children=1, spare=1):
        pass


def _has_capabilities(*numbers: int) -> bool:
    """Return whether this process has all of these capabilities; True if that is not known."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            effective = int(value, 16)
            return all(effective >> number & 1 for number in numbers)
    return True


def _check_bases(options: SimpleNamespace) -> str:
    bases = bases_of(options)
    if not bases:
        return "none: programs in Python are refused"
    return ", ".join(f"{sha256[:16]}… of {len(data):,} bytes" for sha256, data in bases.items())


def _check_roots(options: SimpleNamespace) -> str:
    """Check that the trusted roots for build provenance can be read."""
    roots = roots_of(options)
    if not roots:
        return "none: grants to later builds of a repository are refused"
    # The library takes half a second and some memory, which only a runner with roots needs.
    from sealspace.apps.provenance import parse_trusted_root

    for sha256, document in roots.items():
        try:
            parse_trusted_root(document)
        except ProvenanceInvalid as error:
            raise ConfigurationError(f"{sha256[:16]}…: {error.message}", hint=error.step) from error
    return ", ".join(roots)


def _check_tasks(options: SimpleNamespace) -> str:
    """Check that tasks can be confined, and that their folder is in memory and large enough."""
    task_folder = options.task_folder
    if task_folder is None and options.platform_folder is not None:
        task_folder = DEFAULT_TASK_FOLDER
    if task_folder is None:
        return "off: the runner has no --task-dir"
    try:
        require_memory(task_folder)  # refuses a disk, and a machine with swap
    except (OSError, RuntimeError) as error:
        text, _, step = str(error).partition("; next: ")
        raise ConfigurationError(text, hint=step or "add --task-dir /dev/shm") from None
    if landlock_version() < 1:
        raise DoctorWarning(
            "this kernel has no Landlock, so tasks are refused",
            hint="use Linux 5.13 or later, with landlock in its list of security modules",
        )
    free_bytes = shutil.disk_usage(task_folder).free
    needed_bytes = MAX_DATASET_BYTES + 2 * MAX_RESULT_BYTES
    if free_bytes < needed_bytes:
        raise DoctorWarning(
            f"{task_folder} has {free_bytes >> 20} MiB free, and a task with the largest data set"
            f" needs {needed_bytes >> 20} MiB",
            hint="make it larger (compose: shm_size), or expect tasks to wait and to fail",
        )
    return f"{task_folder} is in memory, {free_bytes >> 20} MiB free"


# --- TLS and prices -------------------------------------------------------------------------------


def _check_tls(options: SimpleNamespace) -> str:
    """Check that the certificate has not ended, and does not end soon."""
    if server_tls(options.tls_certificate, options.tls_key) is None:
        return "off: API keys are refused from other machines"
    certificate = x509.load_pem_x509_certificate(options.tls_certificate.read_bytes())
    ends_at = certificate.not_valid_after_utc.timestamp()
    names = ", ".join(_certificate_names(certificate)) or "no name"
    now = SystemClock.now()
    if ends_at <= now:
        raise StoreMisused(
            f"the certificate of {names} ended at {time_text(ends_at)}",
            hint="get a new certificate, and restart the runner",
        )
    if ends_at <= now + _SOON_S:
        raise DoctorWarning(
            f"the certificate of {names} ends at {time_text(ends_at)}",
            hint="get a new certificate, and restart the runner",
        )
    return f"certificate of {names}, until {time_text(ends_at)}"


def _certificate_names(certificate: x509.Certificate) -> list[str]:
    """Return the hosts and addresses that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def _describe_prices(options: SimpleNamespace) -> str:
    has_prices = options.price_call or options.price_instructions or options.price_second
    if not has_prices:
        return "runs are free; owners with a grant can make API keys"
    return (
        f"{options.price_call} per call, {options.price_instructions} per million instructions,"
        f" {options.price_second} per second, in micro-units; callers need an account: sealspace"
        " runner credit"
    )
