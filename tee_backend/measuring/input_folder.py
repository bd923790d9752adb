"""A folder with the files from which reference values are computed.

Whoever runs an application publishes such a folder, and an owner computes the values again.

| file | required | contents |
|---|---|---|
| `app-compose.json`, or a compose file in YAML | one of them | the application |
| `quote.json` | no | the answer of a guest agent to a request for a quote |
| `firmware.fd`, `ovmf.fd` | no | the firmware of the image |
| `measurement.tdx.cbor`, `checksums.txt` | no, both or none | the description of the image |

Example:
    measured = measure(read_inputs(Path("published")))
"""

from os.path import lexists
from pathlib import Path

from sealspace.printable import printable
from sealspace.private_files import file_fault, read_foreign

from ..attestation.event_log_claims import KeyProvider
from ..evidence.dstack import MAX_ANSWER_BYTES
from .compose_files import MAX_COMPOSE_BYTES, ComposeFile, parse_compose
from .firmware import MAX_FIRMWARE_BYTES, FirmwareMrtd, firmware_mrtd
from .guest_answer import GuestAnswer, parse_guest_answer
from .image_description import (
    DOCUMENT_NAME,
    MAX_DESCRIPTION_BYTES,
    ImageDescription,
    parse_image_description,
)
from .measuring_errors import MeasurementRefused
from .reference_values import Inputs

COMPOSE_NAMES = (
    "app-compose.json",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
)
ANSWER_NAMES = ("quote.json",)
FIRMWARE_NAMES = ("firmware.fd", "ovmf.fd")
CHECKSUMS_NAME = "checksums.txt"


def read_inputs(
    source: Path,
    *,
    answer: Path | None = None,
    firmware: Path | None = None,
    app_id: bytes | None = None,
    key_provider: KeyProvider | None = None,
    instance_id: bytes | None = None,
    storage: str | None = None,
) -> Inputs:
    """Read the files in a folder, or one compose file.

    Args:
        source: the folder or the compose file.
        answer: a kept answer of a guest agent, instead of that in the folder.
        firmware: the firmware's file, instead of that in the folder.
        app_id: the app id; see `Inputs`.
        key_provider: see `Inputs`.
        instance_id: see `Inputs`.
        storage: see `Inputs`.
    Raises:
        MeasurementRefused: a file is missing, ambiguous, too long or malformed.
    """
    compose_path = source
    image = None
    if source.is_dir():
        compose_path = _require_file(source, COMPOSE_NAMES, "compose file")
        answer = answer or _find_file(source, ANSWER_NAMES, "answer of a guest agent")
        firmware = firmware or _find_file(source, FIRMWARE_NAMES, "firmware")
        image = _read_image(source)
    return Inputs(
        compose=_read_compose(compose_path),
        compose_file=printable(compose_path.name),
        answer=_read_answer(answer),
        answer_file="" if answer is None else printable(answer.name),
        mrtd=_read_firmware(firmware),
        firmware_file="" if firmware is None else printable(firmware.name),
        image=image,
        app_id=app_id,
        key_provider=key_provider,
        instance_id=instance_id,
        storage=storage,
    )


def _read_compose(path: Path) -> ComposeFile:
    return parse_compose(_read_bytes(path, MAX_COMPOSE_BYTES), file=path.name)


def _read_answer(path: Path | None) -> GuestAnswer | None:
    if path is None:
        return None
    return parse_guest_answer(_read_bytes(path, MAX_ANSWER_BYTES))


def _read_firmware(path: Path | None) -> FirmwareMrtd | None:
    if path is None:
        return None
    return firmware_mrtd(_read_bytes(path, MAX_FIRMWARE_BYTES))


def _read_image(folder: Path) -> ImageDescription | None:
    """Read the description of the image, which has two files; None if both are missing."""
    document_path = folder / DOCUMENT_NAME
    checksums_path = folder / CHECKSUMS_NAME
    existing_names = [path.name for path in (document_path, checksums_path) if lexists(path)]
    if not existing_names:
        return None
    if len(existing_names) == 1:
        raise _incomplete(
            folder,
            f"{existing_names[0]} is useless without the other of {DOCUMENT_NAME},"
            f" {CHECKSUMS_NAME}",
        )
    document = _read_bytes(document_path, MAX_DESCRIPTION_BYTES)
    checksums = _read_bytes(checksums_path, MAX_DESCRIPTION_BYTES)
    return parse_image_description(document, checksums)


def _require_file(folder: Path, names: tuple[str, ...], kind: str) -> Path:
    """Return the one file of a kind in a folder.

    Raises:
        MeasurementRefused: there is none, or more than one.
    """
    path = _find_file(folder, names, kind)
    if path is None:
        raise _incomplete(folder, f"it has no {kind}: none of {', '.join(names)}")
    return path


def _find_file(folder: Path, names: tuple[str, ...], kind: str) -> Path | None:
    """Return the file of a kind in a folder; None if there is none.

    Raises:
        MeasurementRefused: there is more than one.
    """
    # A link to nothing counts: the file that it stands for is missing.
    existing_names = [name for name in names if lexists(folder / name)]
    if len(existing_names) > 1:
        raise _incomplete(folder, f"it has more than one {kind}: {', '.join(existing_names)}")
    return folder / existing_names[0] if existing_names else None


def _read_bytes(path: Path, most_bytes: int) -> bytes:
    """Read a file. If it is too long, the result is too long for its parser as well."""
    try:
        return read_foreign(path, most_bytes=most_bytes)
    except OSError as error:
        reason, step = file_fault(path, error.errno)
        raise MeasurementRefused(
            f"cannot read {printable(str(path))}: {reason}", problem="folder-incomplete", hint=step
        ) from None


def _incomplete(folder: Path, reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the folder {printable(str(folder))} cannot be used: {reason}",
        problem="folder-incomplete",
        hint="`sealspace backend measure --help` lists the files of such a folder",
    )
