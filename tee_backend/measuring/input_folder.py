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
        app_id: see `Inputs`.
        key_provider: see `Inputs`.
        instance_id: see `Inputs`.
        storage: see `Inputs`.
    Raises:
        MeasurementRefused: a file is missing, ambiguous, too long or malformed.
    """
    compose_path = source
    image = None
    if source.is_dir():
        compose_path = _only(source, COMPOSE_NAMES, "compose file")
        answer = answer or _optional(source, ANSWER_NAMES, "answer of a guest agent")
        firmware = firmware or _optional(source, FIRMWARE_NAMES, "firmware")
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
    return parse_compose(_read(path, MAX_COMPOSE_BYTES), file=path.name)


def _read_answer(path: Path | None) -> GuestAnswer | None:
    if path is None:
        return None
    return parse_guest_answer(_read(path, MAX_ANSWER_BYTES))


def _read_firmware(path: Path | None) -> FirmwareMrtd | None:
    if path is None:
        return None
    return firmware_mrtd(_read(path, MAX_FIRMWARE_BYTES))


def _read_image(folder: Path) -> ImageDescription | None:
    """Read the description of the image, which has two files."""
    paths = (folder / DOCUMENT_NAME, folder / CHECKSUMS_NAME)
    present = [path for path in paths if lexists(path)]
    if not present:
        return None
    if len(present) == 1:
        raise _incomplete(
            folder, f"{present[0].name} is useless without the other of {_listed(paths)}"
        )
    document, checksums = (_read(path, MAX_DESCRIPTION_BYTES) for path in paths)
    return parse_image_description(document, checksums)


def _only(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """Return the one file of a kind in a folder."""
    found = _optional(folder, names, what)
    if found is None:
        raise _incomplete(folder, f"it has no {what}: none of {', '.join(names)}")
    return found


def _optional(folder: Path, names: tuple[str, ...], what: str) -> Path | None:
    """Return the file of a kind in a folder, or None."""
    # A link to nothing counts: the file that it stands for is missing.
    found = [folder / name for name in names if lexists(folder / name)]
    if len(found) > 1:
        raise _incomplete(folder, f"it has more than one {what}: {_listed(found)}")
    return found[0] if found else None


def _listed(paths: tuple[Path, ...] | list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        return read_foreign(path, most_bytes=most_bytes)
    except OSError as error:
        reason, step = file_fault(path, error.errno)
        raise MeasurementRefused(
            f"cannot read {printable(str(path))}: {reason}", problem="folder-incomplete", hint=step
        ) from None


def _incomplete(folder: Path, why: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the folder {printable(str(folder))} cannot be used: {why}",
        problem="folder-incomplete",
        hint="`sealspace backend measure --help` lists the files of such a folder",
    )
