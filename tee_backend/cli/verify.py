"""The command `sealspace verify`, for receipts, audit exports and node evidence."""

import asyncio
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import click
from click.core import ParameterSource

from capabilities.audit_export import EXPORT_TYPE, MAX_ENTRY_BYTES, verify_export
from capabilities.capability_errors import AuditChainBroken, InvalidJson
from capabilities.clock_and_entropy import SystemClock
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json, JsonObject, parse_json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson
from encryption_network.receipt import RECEIPT_TYPE
from sealspace.apps.runners import start_of
from sealspace.cli.exit_status import FAILED, PARTLY_CHECKED
from sealspace.cli.options.paths import (
    FILE_OR_DASH,
    FOLDER,
    file_option,
    read_named,
    require_readable,
)
from sealspace.cli.owner.node_terms import Accepted, accepting_options, gathering
from sealspace.cli.shared import is_shared
from sealspace.cli.terminal import (
    facts,
    flag_option,
    print_error,
    print_json,
    print_result,
    repeatable_option,
    tell,
    time_text,
)
from sealspace.client import Client
from sealspace.documents.node_evidence import MAX_ATTESTATION_BYTES, parse_node_attestation
from sealspace.documents.published import MAX_PUBLISHED_BYTES
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import InvalidInput, NodeEvidenceRefused, StatementInvalid
from sealspace.service.command_errors import AuditRefuted
from sealspace.service.term_files import read_node_policy
from sealspace.wire.transport import TransportSettings

from ..attestation.receipt_check import documents_in, judge_with, verify_release
from ..attestation.trust_files import read_collateral_file, read_trust_root
from .granting import BackendVerifier
from .grants import hosts_words
from .node_judging import as_json, ask_node, in_words, node_verifier
from .provided_receipts import VerifiedRun, run_receipts, startup_evidence

# The evidence of a node, or the receipt of a run together with the runner's startup document.
_MAX_DOCUMENT_BYTES = max(MAX_ATTESTATION_BYTES, MAX_PUBLISHED_BYTES + 2 * MAX_STATEMENT_BYTES)
_MAX_DATA_BYTES = 10_000_000


class _Options(NamedTuple):
    node_did: str | None
    evidence: Path | None
    trust_root: Path | None
    collateral: Path | None
    start: str | None
    input_file: Path | None
    output_file: Path | None
    expect: tuple[str, ...]
    like: Path | None
    policy: Path | None
    nonce: str | None
    plain_http: bool
    accepted: Accepted

    def require_node_did(self) -> str:
        """Return the DID of the document's expected signer (RC16).

        It is the value of `--node-did`.
        """
        if self.node_did is None:
            raise click.UsageError(
                "missing option --node-did DID: the node whose signature is required"
            )
        return self.node_did


_options = gathering(
    "options",
    _Options,
    click.option(
        "--node-did",
        metavar="DID",
        help="For receipts and audit exports: DID of the node whose signature is required.",
    ),
    click.option(
        "--evidence",
        type=FOLDER,
        help="For receipts: folder with the evidence for the receipt; by default `../documents`,"
        " relative to the receipt's folder.",
    ),
    file_option("--trust-root", help="Root certificate; by default Intel's."),
    click.option(
        "--collateral",
        metavar="FILE|DIR",
        type=click.Path(path_type=Path, exists=True),
        help="For receipts: file with current collateral, to judge the code again, as of now."
        " For run receipts and nodes: folder of collateral to use instead of Intel's service.",
    ),
    click.option(
        "--start",
        metavar="FILE|URL",
        help="For run receipts: the runner's startup document, if FILE does not contain one.",
    ),
    file_option("--input", "input_file", help="For run receipts: file with the input of the run."),
    file_option(
        "--output", "output_file", help="For run receipts: file with the output of the run."
    ),
    repeatable_option(
        "--expect",
        metavar="TEXT",
        help="For run receipts: require this code or key provider, as `backend show --expect` does;"
        " repeatable.",
    ),
    file_option(
        "--like",
        help="For run receipts: check the code against a file that `backend show --json` wrote.",
    ),
    file_option("--policy", help="For nodes: JSON policy that lists the approved code."),
    click.option(
        "--nonce", help="Nonce that was sent in the request, if FILE contains a node's response."
    ),
    flag_option("--plain-http", help="For nodes: allow unencrypted http:// to another machine."),
    accepting_options,
)


@click.command(
    epilog="Examples: `sealspace receipts list --out kept`, then `sealspace verify"
    " kept/receipts/….json --node-did DID`; `sealspace verify receipt.json --like approved.json"
    " --input in.txt --output out.txt` for a file of `sealspace runner call --receipt`;"
    " `sealspace verify audit.jsonl --node-did DID`; `sealspace verify https://node.example"
    " --policy approved.json`.",
)
@_options
@click.argument("source", metavar="FILE|URL")
def verify(source: str, options: _Options) -> int:
    """Verify the document in FILE, or the code of the node at URL.

    All checks run on this machine. FILE is a receipt, the receipt of a run, an export of the audit
    chain (- for standard input), or a node's answer at /attestation. Options for another type are
    refused. The status is 1 if the code would be refused today or is not approved, or if the
    receipt of a run is not about the named input and output. It is 17 if the receipt of a run is
    valid, but --input and --output are missing: the receipt then says nothing about your data.
    """
    if "://" in source:
        _require_fitting("node", _NODE - {"nonce"})
        client = Client(source, settings=TransportSettings(allow_plain_http=options.plain_http))
        return asyncio.run(_verify_node(client, options))
    path = FILE_OR_DASH.convert(source, None, None)
    with click.open_file(source, "rb") as stream:
        first = stream.readline(_MAX_DOCUMENT_BYTES + 1)
        # An export has many lines and may be long, so it is not read whole.
        if _members(first).get("type") == EXPORT_TYPE:
            _require_fitting("export of the audit chain", {"node_did"})
            return _verify_audit_export(first, stream, options)
        data = first + stream.read(_MAX_DOCUMENT_BYTES + 1 - len(first))
    members = _members(data)
    if members.get("type") == RECEIPT_TYPE:
        _require_fitting("receipt", {"node_did", "evidence", "trust_root", "collateral"})
        return _verify_receipt(data, path, options)
    if "receipt" in members or members.get("type") == run_receipts().RECEIPT_TYPE:
        _require_fitting("receipt of a run", _RUN)
        return _verify_program_run(members, path, options)
    if "report_data_label" in members or members.get("mode") == "classic":
        _require_fitting("node's evidence", _NODE - {"plain_http"})
        return asyncio.run(_verify_node(data, options))
    raise StatementInvalid(
        f"{path} is not a receipt, an export of the audit chain, or evidence of a node",
        hint="sealspace verify --help lists what can be verified",
    )


_RUN = {"start", "input_file", "output_file", "expect", "like", "trust_root", "collateral"}
_NODE = {
    "policy",
    "nonce",
    "trust_root",
    "collateral",
    "plain_http",
    "operator_secret",
    "release_roots",
    "node_policy",
    "key_providers",
}


def _members(data: bytes) -> JsonObject:
    """Return the members of a JSON object; none if the data is not one."""
    try:
        return parse_json(data, max_bytes=_MAX_DOCUMENT_BYTES)
    except InvalidJson:
        return {}


def _require_fitting(kind: str, names: set[str]) -> None:
    """Refuse command-line options that do not apply to this document type."""
    context = click.get_current_context()
    for parameter in context.command.params:
        is_option = isinstance(parameter, click.Option) and not is_shared(parameter)
        name = parameter.name or ""
        is_used = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if is_option and is_used and name not in names:
            raise click.UsageError(f"{parameter.opts[0]} does not apply to a {kind}")


# --- the audit chain ------------------------------------------------------------------------------


def _verify_audit_export(first: bytes, stream: IO[bytes], options: _Options) -> int:
    """Verify an export of the audit chain, whose first line was read from the stream already."""
    # A line is read with its line break and one byte more, so that a longer entry is refused by its
    # size.
    following = iter(lambda: stream.readline(MAX_ENTRY_BYTES + 2), b"")
    lines = chain([first], following)
    try:
        verified = verify_export(lines, node_did=options.require_node_did())
    except AuditChainBroken as error:
        raise AuditRefuted(
            f"the audit chain is not valid: {error}", hint="export it again"
        ) from error
    print_json(
        {
            "store": verified.store_id.hex(),
            "after": verified.after,
            "number": verified.number,
            "hash": verified.hash.hex(),
            "heads": verified.heads,
        }
    )
    tell(f"entries {verified.after + 1} to {verified.number} of the audit chain: valid")
    return 0


# --- receipts -------------------------------------------------------------------------------------


def _verify_receipt(data: bytes, path: Path, options: _Options) -> int:
    """Verify a key-release receipt and the documents named in it.

    Everything must be valid at the time in the receipt.
    """
    node_did = options.require_node_did()
    root = read_trust_root(options.trust_root)
    # `receipts list --out` saves receipts and documents in two folders, side by side.
    folder = options.evidence or path.absolute().parent.parent / "documents"
    if options.collateral is not None:
        require_readable(options.collateral)
    release = verify_release(data, documents_in(folder), root=root, node_did=node_did)
    receipt = release.receipt
    number = len(release.policies)
    at = time_text(receipt.at)
    result: dict[str, object] = {
        "node": receipt.node,
        "network": receipt.network,
        "invoker": receipt.invoker,
        "ground": receipt.ground,
        "machine": receipt.machine or None,
        "at": at,
        "policies": number,
    }
    refusals_today: dict[str, str | None] = {}
    if options.collateral is not None:
        refusals_today = judge_with(
            release, read_collateral_file(options.collateral), root=root, now=SystemClock.now()
        )
        result["today"] = refusals_today
    text_by_label = {
        "valid": "the node signed the receipt, and the documents prove the release",
        "node": receipt.node,
        "network": receipt.network,
        "to": receipt.invoker,
        "why": f"machine token {receipt.machine}" if receipt.machine else receipt.ground,
        "time": at,
        "under": "1 policy" if number == 1 else f"{number} policies",
        "today": [
            f"policy {digest}: {refusal or 'satisfied'}"
            for digest, refusal in refusals_today.items()
        ],
    }
    print_result(result, facts(text_by_label))
    return 1 if any(refusals_today.values()) else 0


# --- runs -----------------------------------------------------------------------------------------


def _verify_program_run(document: JsonObject, path: Path, options: _Options) -> int:
    """Verify the receipt of a program run.

    Everything must be valid at the time in the receipt. The receipt of unknown code proves nothing.
    So the status is 1 unless --like or --expect names all the code. Without input and output, a
    valid receipt says nothing about the data at hand, so the status is then 17 (RN74).
    """
    if (options.input_file is None) != (options.output_file is None):
        raise click.UsageError("--input and --output must be given together")
    verifier = BackendVerifier(
        expect=options.expect,
        like=options.like,
        trust_root=options.trust_root,
        collateral=_folder(options.collateral),
    )
    receipts = run_receipts()
    receipt = _canonical(document.get("receipt", document))
    start = _start(document, options)
    run = asyncio.run(receipts.verify_run(receipt, start, verifier.inspector))
    seen = startup_evidence(run)
    verifier.require(seen)
    is_approved = verifier.names_all_code(seen)
    is_about = _is_about_given(run, document, path, options)
    result = {
        **run.stated,
        "codeApproved": is_approved,
        "isAboutData": is_about,
        "notCompared": ["input", "output"] if is_about is None else [],
    }
    print_result(result, facts(_run_facts(run, is_approved=is_approved, is_about=is_about)))
    if not is_approved or is_about is False:
        return FAILED
    if is_about is None:
        print_error(
            "the receipt is valid, but was not compared with your input and output",
            "add --input FILE --output FILE",
        )
        return PARTLY_CHECKED
    return 0


def _is_about_given(
    run: VerifiedRun, document: JsonObject, path: Path, options: _Options
) -> bool | None:
    """Return whether a run was about the given input and output; None: none were given."""
    if options.input_file is None or options.output_file is None:
        return None
    salt = decode_url(document.get("salt"))
    if salt is None or len(salt) != run_receipts().SALT_BYTES:
        raise InvalidInput(
            f"cannot compare the input and output with the receipt: {path} contains no salt",
            hint="use a file that `sealspace runner call --receipt FILE` wrote",
        )
    return run.is_about(
        salt=salt,
        input=read_named(options.input_file, most_bytes=_MAX_DATA_BYTES),
        output=read_named(options.output_file, most_bytes=_MAX_DATA_BYTES),
    )


def _run_facts(run: VerifiedRun, *, is_approved: bool, is_about: bool | None) -> dict[str, object]:
    """Return what is shown of a valid receipt of a run.

    Args:
        run: the verified run.
        is_approved: whether all the code of the runner is approved.
        is_about: whether the receipt is about the given input and output; None: none were given.
    """
    stated = run.stated
    not_compared = None
    if is_about is None:
        not_compared = "input and output: this receipt may be about other data"
    code = "not approved; name the approved code with --like or --expect"
    if is_approved:
        code = "completely approved"
    failed = "" if stated["code"] is None else f": {stated['code']}"
    return {
        # The first line, so that those who read no further do not take the data for proven.
        "not compared": not_compared,
        "valid": "the receipt is signed by the key that the runner's quote names",
        "code": code,
        "runner": stated["runner"],
        "MRTD": run.runner.evidence.mrtd.hex(),
        "program": stated["program"],
        "project": stated["project"] or "none; called by hash",
        "built from": run.build and f"{run.build.words}, as the owner of the secrets verified it",
        "status": f"{stated['status']}{failed}",
        "secrets": stated["secrets"],
        "storage": stated.get("storage"),
        "contacted": hosts_words(stated),
        "at": stated["at"],
        "data": _describe_data(is_about),
    }


def _describe_data(is_about: bool | None) -> str | None:
    """Say whether a run was about the data that was given; None if none was compared."""
    if is_about is None:
        return None
    if is_about:
        return "exactly this input and output"
    return "different input and output"


def _start(receipt: JsonObject, options: _Options) -> bytes:
    """Return the runner's startup document, from the option `--start` or beside the receipt."""
    if options.start is None:
        document = _canonical(receipt["start"]) if "start" in receipt else b""
    elif "://" in options.start:
        document = asyncio.run(start_of(options.start))
    else:
        document = read_named(Path(options.start), most_bytes=MAX_PUBLISHED_BYTES)
    if not document:
        raise InvalidInput(
            "the runner's startup document is missing",
            hint="add --start URL (the runner's address) or --start FILE (its startup document)",
        )
    return document


def _canonical(value: Json) -> bytes:
    try:
        return canonical_bytes(value)
    except InvalidCanonicalJson as error:
        raise StatementInvalid(
            "the receipt is malformed: one of the values has no canonical JSON form"
        ) from error


# --- nodes ----------------------------------------------------------------------------------------


async def _verify_node(source: Client | bytes, options: _Options) -> int:
    """Verify a node's live or saved evidence.

    Args:
        source: a client of the node, or the node's answer to an earlier request.
        options: the options of the command.
    Returns:
        Exit status 0 for approved code, else 1.
    """
    approved_code = None if options.policy is None else read_node_policy(options.policy)
    if isinstance(source, bytes) and options.nonce is None:
        raise click.UsageError(
            "missing option --nonce TEXT: the nonce that was sent in the request"
        )
    lines: list[str] = []
    reason = None
    description: JsonObject = {}
    verifier = node_verifier(trust_root=options.trust_root, collateral=_folder(options.collateral))
    try:
        if isinstance(source, bytes):
            attestation = parse_node_attestation(source, nonce=str(options.nonce))
        else:
            async with source:
                attestation = await ask_node(source)
        now = SystemClock.now()
        evidence = await verifier.examine(attestation, now=now)
        description = as_json(attestation.statement, evidence)
        lines.append("ok       the quote is genuine, and names this node and nonce")
        lines += [f"         {line}" for line in in_words(attestation.statement, evidence)]
        if approved_code is None:  # refused below, like code that is not approved
            raise NodeEvidenceRefused(
                "measurement", "no approved code was specified", hint="add --policy FILE"
            )
        await verifier.verify(attestation, options.accepted.policy(approved_code), now=now)
        lines.append("ok       verdict: the node runs approved code")
    except NodeEvidenceRefused as refused:
        reason = refused.reason
        lines.append(f"wrong    verdict: refused ({reason}): {refused.detail}")
        lines.append(f"         next: {refused.step}")
    print_result({"approved": reason is None, "refused": reason} | description, lines)
    return 0 if reason is None else 1


def _folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise click.UsageError(f"--collateral must be a folder, but {path} is a file")
    return path
