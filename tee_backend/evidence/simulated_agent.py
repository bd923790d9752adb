"""A simulated dstack guest agent on a Unix socket, for trials. Its quotes prove nothing.

It speaks the protocol of the genuine agent (`dstack`), so programs use it without a change:

    POST /GetQuote {"report_data": hex}    a quote, the whole event log, the machine's configuration
    POST /GetKey   {"path": text}          a key that depends on the code and the path
    POST /Info, POST /Version              what the simulated machine says about itself

The members can be given in the query of a GET too. The simulated machine started one image: the log
has entries of all four registers, and the configuration has the description of the image, so that
`sealspace backend measure` works as on a genuine machine.

Example:
    agent = SimulatedAgent(SimulatedPlatform.load(Path("tee")), compose=data)
    async with agent.listening(Path("dstack.sock")):
        ...

Source: the dstack guest agent's HTTP interface.
"""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from capabilities.strict_json import JsonObject
from encryption_network.policy import Measurements

from ..attestation.event_log import Event, EventLog
from ..attestation.report_data import REPORT_DATA_BYTES
from .simulated import SimulatedPlatform, mint_event_log

VERSION = "0.6.0-simulated"
_MAX_REQUEST_BYTES = 64 * 1024
_MAX_PATH_CHARS = 256
_BOOT_EVENT = 0x8000_0001
_HARDWARE = ("virtual hardware", "tables", "boot order")
# The firmware has no pages. Its two values of MRTD are digests of these names; the machine has the
# second one, as with an earlier QEMU.
_MRTD_PAGE_BY_PAGE = "firmware, page by page"
_MRTD_PAGES_FIRST = "firmware, pages first"
_FIRMWARE_EVENTS = (
    b"Calling EFI Application from Boot Option",
    b"\x00\x00\x00\x00",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Success",
)


class _Refused(Exception):
    """A request that the genuine agent refuses too."""


class SimulatedAgent:
    """A simulated guest agent of a machine that runs one application.

    The machine started the simulated image and then the application, so its event log and registers
    are those of both.

    Args:
        platform: makes the quotes; its root proves nothing.
        compose: the application's compose file.
    """

    def __init__(self, platform: SimulatedPlatform, *, compose: bytes) -> None:
        self._platform = platform
        self._compose_hash = hashlib.sha256(compose).digest()
        application_log = mint_event_log(self._compose_hash)
        boot_digests = _boot_digests()
        boot_events = []
        for register, digests in boot_digests.items():
            for digest in digests:
                boot_events.append(_boot_event(register, digest))
        self._log = EventLog((*boot_events, *application_log.log.entries))
        self._measurements = Measurements(
            mrtd=_part_digest(_MRTD_PAGES_FIRST),
            rtmr0=_extend(boot_digests[0]),
            rtmr1=_extend(boot_digests[1]),
            rtmr2=_extend(boot_digests[2]),
            rtmr3=application_log.rtmr3,
        )

    @asynccontextmanager
    async def listening(self, socket: Path) -> AsyncIterator[None]:
        """Answer requests on a new Unix socket until the block ends."""
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_route("*", "/{method:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.UnixSite(runner, str(socket)).start()
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        methods = {
            "GetQuote": self.quote_answer,
            "GetKey": self._get_key,
            "Info": self._info,
            "Version": self._version,
        }
        method = methods.get(request.match_info["method"])
        if method is None:
            return web.json_response({"error": "no such method"}, status=404)
        try:
            return web.json_response(method(await _read_members(request)))
        except _Refused as refused:
            return web.json_response({"error": str(refused)}, status=400)

    def quote_answer(self, members: dict[str, Any]) -> JsonObject:
        """Return the answer to a request for a quote."""
        try:
            report_data = bytes.fromhex(str(members.get("report_data", "")))
        except ValueError:
            raise _Refused("report_data is not hexadecimal") from None
        if len(report_data) > REPORT_DATA_BYTES:
            raise _Refused(f"report_data has more than {REPORT_DATA_BYTES} bytes")
        padded = report_data.ljust(REPORT_DATA_BYTES, b"\x00")
        quote = self._platform.mint_quote(self._measurements, padded)
        entries = msgspec.to_builtins(self._log.entries)
        return {
            "quote": quote.hex(),
            "event_log": json.dumps(entries, separators=(",", ":")),
            "report_data": padded.hex(),
            "vm_config": json.dumps(_machine_configuration(), separators=(",", ":")),
        }

    def _get_key(self, members: dict[str, Any]) -> JsonObject:
        path = str(members.get("path", ""))
        if len(path) > _MAX_PATH_CHARS:
            raise _Refused("the path is too long")
        # The key depends on all registers, so another application or image gets another key.
        registers = [register or bytes(48) for register in astuple(self._measurements)]
        message = b"".join(registers) + path.encode()
        key = hmac.digest(self._platform.key_secret, message, hashlib.sha256)
        return {"key": key.hex(), "signature_chain": []}

    def _info(self, _members: dict[str, Any]) -> JsonObject:
        return {
            "app_id": self._compose_hash[:20].hex(),
            "compose_hash": self._compose_hash.hex(),
            "app_name": "simulated",
        }

    def _version(self, _members: dict[str, Any]) -> JsonObject:
        return {"version": VERSION}


async def _read_members(request: web.Request) -> dict[str, Any]:
    """Return the members of a request, from its body, or from its query if the body is empty."""
    body = await request.read()
    if not body:
        return dict(request.query)
    try:
        members = json.loads(body)
    except ValueError:
        raise _Refused("the body is not JSON") from None
    if not isinstance(members, dict):
        raise _Refused("the body is not an object")
    return members


# --- the simulated image --------------------------------------------------------------------------


def _part_digest(name: str) -> bytes:
    """Return the simulated digest of a part of the image, which has a name and no contents."""
    return hashlib.sha384(f"sealspace simulated image: {name}".encode()).digest()


def _boot_digests() -> dict[int, list[bytes]]:
    """Return the digests with which registers 0 to 2 are extended, by the register."""
    firmware_digests = [hashlib.sha384(event).digest() for event in _FIRMWARE_EVENTS]
    return {
        0: [_part_digest(name) for name in _HARDWARE],
        1: [_part_digest("kernel"), *firmware_digests],
        2: [_part_digest("command line"), _part_digest("initial file system")],
    }


def _boot_event(register: int, digest: bytes) -> Event:
    """Return a log entry of firmware or kernel, which has a digest only."""
    return Event(
        register=register,
        event_type=_BOOT_EVENT,
        digest=digest.hex(),
        name="",
        payload_hex="",
    )


def _extend(digests: list[bytes]) -> bytes:
    """Return the value of a register after it was extended with digests."""
    register = bytes(48)
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register


def _machine_configuration() -> JsonObject:
    """Return the machine's configuration with the description of the image."""
    document = _encode_map(
        {
            "version": b"\x03",
            "image": _encode_map(
                {
                    "kernel_authenticode": _encode_octets(_part_digest("kernel")),
                    "cmdline_sha384": _encode_octets(_part_digest("command line")),
                    "initrd_sha384": _encode_octets(_part_digest("initial file system")),
                }
            ),
            "tdvf": _encode_map(
                {
                    "mrtd": _encode_map(
                        {
                            "single_pass": _encode_octets(_part_digest(_MRTD_PAGE_BY_PAGE)),
                            "two_pass": _encode_octets(_part_digest(_MRTD_PAGES_FIRST)),
                        }
                    )
                }
            ),
        }
    )
    checksums = f"{hashlib.sha256(document).hexdigest()}  measurement.tdx.cbor\n".encode()
    return {
        "os_image_hash": hashlib.sha256(checksums).hexdigest(),
        "cpu_count": 2,
        "tdx_measurement": {
            "measurement": b64encode(document).decode(),
            "checksum_file": b64encode(checksums).decode(),
        },
    }


def _encode_map(members: dict[str, bytes]) -> bytes:
    """Encode a map of CBOR with names of at most 23 characters."""
    encoded = bytearray([0xA0 + len(members)])
    for name, member in members.items():
        encoded += bytes([0x60 + len(name)]) + name.encode() + member
    return bytes(encoded)


def _encode_octets(value: bytes) -> bytes:
    """Encode a byte string of CBOR of 24 to 255 bytes."""
    return b"\x58" + bytes([len(value)]) + value
