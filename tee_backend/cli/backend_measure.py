"""The command `sealspace backend measure`, and the comparison with a running backend."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capabilities.strict_json import JsonObject
from encryption_network.key_providers import parse_key_provider
from encryption_network.network_errors import PolicyError
from encryption_network.policy import REGISTERS
from sealspace.apps.backends import Seen
from sealspace.cli.exit_status import PARTLY_CHECKED
from sealspace.cli.options.paths import file_option
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_error, print_result, tell
from sealspace.errors import BackendNotExpected, InvalidInput
from sealspace.giving.words.policies import policy_words

from ..attestation.event_log_claims import (
    APP_ID_BYTES,
    INSTANCE_ID_BYTES,
    KeyProvider,
    KeyProviderName,
)

# The parser of compose files needs the extra `yaml`, so modules that use it are imported late.
if TYPE_CHECKING:
    from ..measuring.reference_values import Measured, Value

SOURCE = click.Path(path_type=Path, exists=True)
_MAX_STORAGE_CHARS = 64


@click.command(
    epilog="Examples: `sealspace backend measure app-compose.json --key-provider kms:HEX`;"
    " `sealspace backend measure published/ --json > approved.json`, then `sealspace backend grant"
    " URL --like approved.json`. A folder has the files app-compose.json (or compose.yaml), and"
    " optionally quote.json (the answer of a guest agent), firmware.fd or ovmf.fd, and"
    " measurement.tdx.cbor with checksums.txt.",
)
@click.argument("source", metavar="COMPOSE|FOLDER", type=SOURCE)
@file_option(
    "--quote",
    "answer",
    help="Answer of a guest agent to a request for a quote, with its event log.",
)
@file_option("--firmware", help="Firmware of the image, to compute MRTD.")
@click.option("--app-id", metavar="HEX", help="Application id, if a key service set it.")
@click.option("--key-provider", metavar="TEXT", help="Key provider that you expect: `kms:<hex>`.")
@click.option(
    "--instance-id", metavar="HEX", help="Id of one instance, to compute RTMR3 without a log."
)
@click.option(
    "--storage", metavar="TEXT", help="The log's entry about storage (`zfs`), to compute RTMR3."
)
def measure(
    source: Path,
    answer: Path | None,
    firmware: Path | None,
    app_id: str | None,
    key_provider: str | None,
    instance_id: str | None,
    storage: str | None,
) -> int:
    """Compute what a backend's quote has to show, from its files.

    Nothing is requested. For each value, the output says where it comes from: computed from files;
    from the image's published description; replayed from digests that the machine logged; or only
    quoted. Signatures of a quote are not verified here: `backend show` and `attest replay` do that.
    The status is 17 if a part of the code is not known, or known only from the quote.
    """
    from ..measuring.input_folder import read_inputs
    from ..measuring.reference_values import measure as compute_values
    from ..measuring.reference_values import measured_json

    if storage is not None and not 0 < len(storage) <= _MAX_STORAGE_CHARS:
        raise click.UsageError(f"--storage must have 1 to {_MAX_STORAGE_CHARS} characters")
    inputs = read_inputs(
        source,
        answer=answer,
        firmware=firmware,
        app_id=_parse_hex("--app-id", app_id, APP_ID_BYTES),
        key_provider=_parse_provider(key_provider),
        instance_id=_parse_instance_id(instance_id),
        storage=storage,
    )
    measured = compute_values(inputs)
    print_result(measured_json(measured), measured_lines(measured))
    if measured.missing:
        print_error(
            f"not known without faith: {', '.join(measured.missing)}",
            "add the files that give these values; the lines above say which",
        )
        return PARTLY_CHECKED
    if shared().as_json:
        return 0
    tell(
        "to grant only to this code: add --json > approved.json to this command, then:"
        " sealspace backend grant URL --like approved.json"
    )
    return 0


def _parse_instance_id(text: str | None) -> bytes | None:
    """Parse the option `--instance-id`; an empty text is an instance without an id."""
    if text == "":
        return b""
    return _parse_hex("--instance-id", text, INSTANCE_ID_BYTES)


def _parse_hex(option: str, text: str | None, size_bytes: int) -> bytes | None:
    """Parse an option in hex of a fixed size; None if it is not given.

    Raises:
        InvalidInput: the text is not hex, or has another size.
    """
    if text is None:
        return None
    value = b""
    with suppress(ValueError):
        value = bytes.fromhex(text)
    if len(value) != size_bytes:
        raise InvalidInput(
            f"{option} is not {2 * size_bytes} hex digits",
            hint="take it from the entry of that name in the event log",
        )
    return value


def _parse_provider(text: str | None) -> KeyProvider | None:
    """Parse the option `--key-provider`; None if it is not given.

    Raises:
        InvalidInput: it is not `kms:`, `tpm:` or `local-sgx:` with an id in hex.
    """
    if text is None:
        return None
    try:
        name, _, id_text = parse_key_provider(text).partition(":")
    except PolicyError as error:
        raise InvalidInput(
            f"--key-provider is not valid: {error.reason}", hint="write kms:<hex>"
        ) from None
    typed_names: dict[str, KeyProviderName] = {"kms": "kms", "tpm": "tpm", "local-sgx": "local-sgx"}
    return KeyProvider(name=typed_names[name], id=bytes.fromhex(id_text))


# --- output ---------------------------------------------------------------------------------------


def measured_lines(measured: "Measured") -> Iterator[str]:
    """Yield the description of reference values for a person."""
    yield from code_lines(measured)
    for value in measured.values:
        for text in value.texts or ("not computed",):
            yield f"{value.label:<14} {text}"
        source = f"{value.source}: " if value.texts else ""
        yield f"               {source}{value.origin}"
    for event in measured.events:
        yield f"entry          {event.name} {event.payload.hex() or '(empty)'}: {event.source}"
    if measured.policy is not None and not measured.missing:
        yield from (f"approve        {line}" for line in policy_words(measured.policy))
    yield f"sources        {measured.sources}"
    if measured.has_quote:
        yield "quote          compared, but its signatures were not verified here"
    for note in measured.notes:
        yield f"note           {note}"
    if measured.compose.lines:
        yield f"allow with     --allow {measured.compose.lines_digest}"


def code_lines(measured: "Measured") -> Iterator[str]:
    """Yield the name of the code, its images and their publishers."""
    compose = measured.compose
    publishers = ", ".join(compose.publishers)
    name = f'"{compose.name}", ' if compose.name else ""
    yield f"code           {name}images published at {publishers}"
    for image in compose.images:
        yield f"image          {image.service}: {image.reference}"
    if measured.os_image_hash:
        yield f"os image       {measured.os_image_hash}: compare it with the release"


# --- comparison -----------------------------------------------------------------------------------


def compared(measured: "Measured", seen: Seen) -> list[JsonObject]:
    """Compare reference values with a backend's verified evidence.

    Each result has a name, the values by files, the running value, the source, its origin, and
    whether they agree; None if there is no value by files.
    """
    evidence = seen.verified.evidence
    running: dict[str, str | None] = {
        "composeHash": None if evidence.compose_hash is None else evidence.compose_hash.hex(),
        "appId": None if evidence.app_id is None else evidence.app_id.hex(),
        "keyProvider": evidence.key_provider,
        **{name: getattr(evidence, name).hex() for name in REGISTERS},
    }
    results: list[JsonObject] = []
    for value in measured.values:
        results.append(
            {
                "name": value.name,
                "files": list(value.texts),
                "running": running[value.name],
                "source": value.source,
                "origin": value.origin,
                "agrees": _agrees(value, running[value.name]),
            }
        )
    return results


def _agrees(value: "Value", running: str | None) -> bool | None:
    """Return whether a value agrees with the running one; None: there is nothing to compare."""
    if not value.texts:
        return None
    # RTMR3 of another instance differs by its instance id, so it is compared only if all its
    # entries follow from files.
    if value.name == "rtmr3" and value.source != "computed":
        return None
    return running in value.texts


def compared_lines(results: list[JsonObject], *, is_full: bool) -> Iterator[str]:
    """Yield the comparison for a person.

    The two values are shown completely if `is_full`. Otherwise only those that differ are shown, by
    their first digits.
    """
    for result in results:
        agrees = result["agrees"]
        verdict = "not compared"
        if isinstance(agrees, bool):
            verdict = "same" if agrees else "DIFFERS"
        files = result["files"]
        by_files = str(files[0]) if isinstance(files, list) and files else "-"
        running = str(result["running"])
        both_values = ""
        if is_full:
            both_values = f"{by_files} by files, {running} running"
        elif agrees is False:
            both_values = f"{by_files[:16]}… by files, {running[:16]}… running"
        yield f"{result['name']!s:<14} {verdict} ({result['source']}) {both_values}".rstrip()


def require_same(results: list[JsonObject], source: Path) -> None:
    """Refuse a backend that differs from the files in a value that was compared.

    Raises:
        BackendNotExpected: a value differs.
    """
    differing_names = [str(result["name"]) for result in results if result["agrees"] is False]
    if differing_names:
        raise BackendNotExpected(
            f"the backend does not run the code in {source}: {', '.join(differing_names)} differ",
            hint="do not grant; if the operator changed the code, get the new files and read them",
        )
