"""The commands `attest record` and `attest replay`: proofs that others can judge again.

Linux only: `attest record` reads the name of the processor from `/proc`. Elsewhere it is left out.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock, SystemEntropy, time_text
from capabilities.strict_json import JsonObject
from sealspace.cli.exit_status import FAILED
from sealspace.cli.options.paths import FOLDER, NEW_FOLDER, file_option
from sealspace.cli.terminal import (
    confirm,
    print_error,
    print_lines,
    print_result,
    tell,
    yes_option,
)
from sealspace.errors import CollateralNeeded
from sealspace.private_files import file_fault, read_foreign
from sealspace.service.command_errors import ConfigurationError

from ..attestation.attestation_errors import AttestationError, CollateralUnusable
from ..attestation.certificates import PlatformCa
from ..attestation.inspection import CollateralFolder, FetchedCollateral
from ..attestation.quote import parse_quote
from ..attestation.record import (
    NOT_COVERED,
    RECORD_FILE,
    Recorded,
    Replayed,
    identifying_parts,
    replay_record,
    write_record,
)
from ..attestation.report_data import REPORT_DATA_BYTES
from ..attestation.trust_files import read_collateral_file, read_trust_root
from ..evidence.dstack import DstackSource
from ..evidence.evidence_errors import EvidenceSourceError
from ..evidence.simulated import SimulatedSource
from ..evidence.source import EvidenceSource, Quoted
from ..evidence.tsm import TsmSource

_MAX_COMPOSE_CHARS = 64 * 1024
_CPU_INFO = Path("/proc/cpuinfo")


@click.command(
    epilog="Example: `sealspace attest record proof` on a TDX machine; then `sealspace attest"
    " replay proof` anywhere.",
)
@click.argument("folder", metavar="DIR", type=NEW_FOLDER)
@click.option(
    "--source",
    "kind",
    type=click.Choice(["dstack", "tsm"]),
    default="dstack",
    show_default=True,
    help="Source of the quote: a guest agent, or the kernel.",
)
@file_option("--answer", help="Use this kept answer of a guest agent instead of a new quote.")
@click.option(
    "--simulate",
    "platform_folder",
    type=FOLDER,
    help="Use the simulated platform in this folder, which proves nothing.",
)
@click.option(
    "--collateral", type=FOLDER, help="Folder of collateral; by default Intel's service is asked."
)
@file_option("--trust-root", help="Root certificate; by default Intel's.")
@yes_option
def record(
    folder: Path,
    kind: str,
    answer: Path | None,
    platform_folder: Path | None,
    collateral: Path | None,
    trust_root: Path | None,
    yes: bool,
) -> int:
    """Keep a quote with everything that is needed to judge it again, in the new folder DIR.

    The quote is kept whole, because it is signed. What in it identifies the machine is listed, and
    you are asked before anything is written. The verdict is kept too, whether the quote is accepted
    or not.
    """
    root = read_trust_root(trust_root)
    if folder.exists():
        raise ConfigurationError(f"{folder} already exists", hint="name a new folder")
    if answer is not None:
        report_data = None  # a kept quote has the report data that was asked for then
        quoted = _read_kept_answer(answer)
    else:
        report_data = SystemEntropy().token(REPORT_DATA_BYTES)
        quoted = _request_quote(kind, platform_folder, report_data)
    try:
        parsed = parse_quote(quoted.quote)
    except AttestationError as error:
        raise ConfigurationError(
            f"the platform made no TDX quote: {error.detail}", hint="sealspace doctor"
        ) from None
    document = _fetch_collateral(collateral, parsed.platform.fmspc, parsed.platform.ca)
    tell("these parts of the record identify the machine, and cannot be removed:")
    parts = identifying_parts(parsed, quoted.event_log)
    tell(*(f"  {name}: {text}" for name, text in parts.items()))
    confirm(f"keep them in {folder}?", yes=yes)
    recorded = Recorded(
        quote=quoted.quote,
        collateral=document,
        event_log=quoted.event_log,
        report_data=report_data,
        at=SystemClock.now(),
        facts=_unproven_facts(kind, answer, platform_folder),
    )
    try:
        verdict = write_record(folder, recorded, root=root)
    except OSError as error:
        reason, step = file_fault(folder, error.errno)
        raise ConfigurationError(f"cannot write {folder}: {reason}", hint=step) from None
    print_result(
        {"folder": str(folder), "verdict": verdict, "identifying": {**parts}},
        (f"recorded in {folder}", *_verdict_lines("now", verdict)),
    )
    if verdict["accepted"] is True:
        return 0
    print_error(
        "the quote in the record is refused",
        f"do not grant secrets to this machine; `sealspace attest replay {folder}` judges it again",
    )
    return FAILED


def _request_quote(kind: str, platform_folder: Path | None, report_data: bytes) -> Quoted:
    """Return a new quote of the platform with its event log.

    Raises:
        ConfigurationError: the platform returns no quote.
    """
    source: EvidenceSource
    try:
        if platform_folder is not None:
            source = SimulatedSource.load(platform_folder, compose="services: {}")
        elif kind == "tsm":
            source = TsmSource()
        else:
            source = DstackSource.find()
        return source.quote(report_data)
    except EvidenceSourceError as error:
        raise ConfigurationError(
            f"the platform returned no quote: {error.detail}", hint=error.hint
        ) from None


def _read_kept_answer(file: Path) -> Quoted:
    """Read the quote and the event log in a kept answer of a guest agent.

    Raises:
        ConfigurationError: the file cannot be read, or has no quote.
        MeasurementRefused: the file is not an answer of a guest agent.
    """
    # Imported here: the answer may describe an image, whose parser is not needed otherwise.
    from ..evidence.dstack import MAX_ANSWER_BYTES
    from ..measuring.guest_answer import parse_guest_answer

    try:
        data = read_foreign(file, most_bytes=MAX_ANSWER_BYTES)
    except OSError as error:
        reason, step = file_fault(file, error.errno)
        raise ConfigurationError(f"cannot read {file}: {reason}", hint=step) from None
    answer = parse_guest_answer(data)
    if answer.quote is None:
        raise ConfigurationError(
            f"{file} has no quote", hint="keep the whole answer of the guest agent"
        )
    return Quoted(answer.quote.raw, answer.log)


def _fetch_collateral(folder: Path | None, fmspc: bytes, ca: PlatformCa) -> bytes:
    """Return the collateral document for a platform family.

    It comes from a folder, or from Intel's service if there is no folder.

    Raises:
        CollateralNeeded: there is none.
    """
    provider = FetchedCollateral() if folder is None else CollateralFolder(folder)
    try:
        collateral = asyncio.run(provider.collateral(fmspc, ca))
    except CollateralUnusable as error:
        raise CollateralNeeded(
            f"there is no collateral for platform family {fmspc.hex()}: {error.code}",
            problem=error.code,
        ) from None
    return collateral.raw


def _unproven_facts(kind: str, answer: Path | None, platform_folder: Path | None) -> dict[str, str]:
    """Return unproven statements about this machine and the source of the quote."""
    # A kept answer may be of another machine, so nothing is said about this one.
    if answer is not None:
        return {"source": "kept answer of a guest agent"}
    system = os.uname()
    facts = {
        "source": kind if platform_folder is None else "simulated",
        "kernel": f"{system.sysname} {system.release}",
        "architecture": system.machine,
    }
    processor = _read_processor_name()
    if processor is not None:
        facts["processor"] = processor
    return facts


def _read_processor_name() -> str | None:
    """Return the name of the processor, at most 100 characters; None if it is not known."""
    try:
        with _CPU_INFO.open(encoding="utf-8") as stream:
            lines = stream.read(16 * 1024).splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, text = line.partition(":")
        if name.strip() == "model name":
            return text.strip()[:100]
    return None


# --- replay ---------------------------------------------------------------------------------------


@click.command(
    epilog="Example: `sealspace attest replay proof`; for a simulated machine, which proves"
    " nothing, add `--trust-root tee/root-ca.pem`.",
)
@click.argument("folder", metavar="DIR", type=FOLDER)
@file_option("--trust-root", help="Root certificate that you trust; by default Intel's.")
@file_option("--collateral", help="Newer collateral, to judge the quote as of now.")
def replay(folder: Path, trust_root: Path | None, collateral: Path | None) -> int:
    """Judge the record in DIR again, for the time of the record and for now.

    Nothing is requested. The status is 0 if the verdict of the record is reproduced, whatever the
    verdict for now is: collateral ends after 30 days. It is 1 if another verdict follows from the
    files, and 12 if a file of the record was changed.
    """
    root = read_trust_root(trust_root)
    newer = None if collateral is None else read_collateral_file(collateral)
    replayed = replay_record(folder, root=root, now=SystemClock.now(), collateral=newer)
    print_result(_replay_json(replayed), _replay_lines(replayed))
    if not replayed.is_reproduced:
        print_lines(
            f"sealspace: the verdict in {folder / RECORD_FILE} does not follow from the files",
            "next: if the machine is simulated, add its root: --trust-root FILE; else do not rely"
            " on this record",
            err=True,
        )
        return FAILED
    return 0


def _replay_json(replayed: Replayed) -> JsonObject:
    return {
        "at": time_text(replayed.at),
        "reproduced": replayed.is_reproduced,
        "recorded": replayed.recorded,
        "then": replayed.then,
        "now": replayed.now,
        "facts": {**replayed.facts},
        "identifying": {**replayed.identifying},
        "notCovered": list(NOT_COVERED),
    }


def _replay_lines(replayed: Replayed) -> Iterator[str]:
    yield f"recorded       {time_text(replayed.at)}"
    yield from _verdict_lines("then", replayed.then)
    comparison = "as recorded" if replayed.is_reproduced else "NOT as recorded"
    yield f"verdict        {comparison}"
    yield from _verdict_lines("now", replayed.now)
    for name, text in replayed.facts.items():
        yield f"unproven       {name}: {text}"
    for name, text in replayed.identifying.items():
        yield f"identifies     {name}: {text}"
    for change in NOT_COVERED:
        yield f"not covered    {change}"


def _verdict_lines(when: str, verdict: JsonObject) -> Iterator[str]:
    """Yield a verdict for a person: the result, the failed checks, the state of the platform."""
    checks = verdict["checks"]
    assert isinstance(checks, dict)
    line = f"{when:<14} {'accepted' if verdict['accepted'] is True else 'refused'}"
    failed_checks = [f"{name} ({code})" for name, code in checks.items() if code != "ok"]
    if failed_checks:
        line += f": {', '.join(failed_checks)}"
    yield line
    facts = verdict["facts"]
    if isinstance(facts, dict) and facts:
        yield f"               platform {facts['tcbStatus']}, number {facts['evaluationNumber']}"
