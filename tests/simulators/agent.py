"""A simulated dstack guest agent on a Unix socket, of both generations, with faults on request.

It attests a simulated trust domain: quotes, registers and event log are consistent.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from deviating_log import text_of
from deviating_platform import DomainOptions, SimulatedPlatform

from encryption_network.policy import Measurements
from tee_backend.evidence.simulated import MintedLog

Fault = Literal[
    "refuses",  # 400 with an error object
    "refuses-politely",  # 200 with an error object
    "broken",  # 500 with a page
    "closes",  # before an answer
    "cuts",  # in the middle of the body
    "no-json",
    "no-object",
    "endless",  # a body beyond every bound
    "stalls",  # no answer while the test lasts
    "other-report-data",
    "no-quote",
    "no-hex",
    "log-no-json",
    "without-log",
]


@dataclass
class AgentSimulator:
    """A simulated guest agent and its faults.

    Attributes:
        platform: makes the quotes.
        image: measurements of the image; RTMR3 comes from the log.
        minted: the event log.
        options: of the trust domain.
        fault: None: in order.
        chunked: answers without a length.
        seed: of the keys it derives.
        key_answer: what is answered in place of a key.
        gate: quotes wait until it is set.
        asked: how often each method was called.
    """

    platform: SimulatedPlatform
    image: Measurements
    minted: MintedLog
    options: DomainOptions | None = None
    fault: Fault | None = None
    chunked: bool = False
    seed: bytes = b"keys of the simulated agent"
    key_answer: dict[str, Any] | None = None
    gate: asyncio.Event | None = None
    asked: Counter[str] = field(default_factory=Counter)

    def quote_answer(self, report_data: bytes) -> dict[str, Any]:
        """Return the answer to a request for a quote over 64 bytes."""
        if self.fault == "other-report-data":
            report_data = bytes(64)
        quote = self.platform.mint_quote(
            self.minted.run_on(self.image), report_data, options=self.options
        )
        log = {"log-no-json": "[", "without-log": ""}.get(str(self.fault), text_of(self.minted))
        texts = {"no-quote": "00" * 48, "no-hex": "quote"}
        return {
            "quote": texts.get(str(self.fault), quote.hex()),
            "event_log": log,
            "vm_config": '{"cpu_count":2}',
        }


class _Refused(Exception):
    """A refusal of the agent."""


@asynccontextmanager
async def agent_on(path: Path, agent: AgentSimulator) -> AsyncIterator[AgentSimulator]:
    """Listen on a Unix socket until the block ends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answer(agent, request)

    app = web.Application()
    app.router.add_route("*", "/{method:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield agent
    finally:
        await runner.cleanup()


async def _answer(agent: AgentSimulator, request: web.Request) -> web.StreamResponse:
    method = request.match_info["method"].removeprefix("prpc/").removeprefix("Tappd.")
    handler = _METHODS.get(method)
    if handler is None:
        return web.json_response({"error": "no such method"}, status=404)
    agent.asked[method] += 1
    if agent.fault == "stalls":
        # The client gives up first; then this handler is cancelled.
        await asyncio.get_running_loop().create_future()
    if agent.gate is not None and "Quote" in method:
        await agent.gate.wait()
    arguments = dict(request.query) if request.method == "GET" else await _object(request)
    try:
        value = handler(agent, arguments)
    except _Refused as refused:
        return web.json_response({"error": str(refused)}, status=400)
    return await _faulty(agent, request, value)


async def _object(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    return json.loads(body) if body else {}


async def _faulty(
    agent: AgentSimulator, request: web.Request, value: dict[str, Any]
) -> web.StreamResponse:
    text = json.dumps(value)
    match agent.fault:
        case "refuses":
            return web.json_response({"error": "quote generation failed"}, status=400)
        case "refuses-politely":
            return web.json_response({"error": "quote generation failed"})
        case "broken":
            return web.Response(status=500, text="<html>no</html>", content_type="text/html")
        case "no-json":
            text = "{"
        case "no-object":
            text = "[1]"
        case "endless":
            text = json.dumps({"quote": "00" * 4_000_000})
        case "closes" | "cuts":
            return await _dropped(request, text.encode(), whole_head=agent.fault == "cuts")
        case _:
            pass
    if not agent.chunked:
        return web.Response(text=text, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for start in range(0, len(text), 1000):
        await response.write(text[start : start + 1000].encode())
    return response


async def _dropped(request: web.Request, body: bytes, *, whole_head: bool) -> web.StreamResponse:
    assert request.transport is not None
    if whole_head:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        request.transport.write(head + body[: len(body) // 2])
    request.transport.close()
    return web.Response()


def _report_data(arguments: dict[str, Any]) -> bytes:
    try:
        data = bytes.fromhex(arguments.get("report_data", ""))
    except ValueError:
        raise _Refused("report data is no hex") from None
    return data


def _get_quote(agent: AgentSimulator, arguments: dict[str, Any]) -> dict[str, Any]:
    data = _report_data(arguments)
    if len(data) > 64:
        raise _Refused("Report data is too long")
    padded = data.ljust(64, b"\x00")
    return {**agent.quote_answer(padded), "report_data": padded.hex()}


def _tdx_quote(agent: AgentSimulator, arguments: dict[str, Any]) -> dict[str, Any]:
    data, algorithm = _report_data(arguments), arguments.get("hash_algorithm") or "sha512"
    prefix = arguments.get("prefix") or "app-data:"
    if algorithm != "raw":
        hashed = hashlib.new(
            algorithm.replace("sha3-", "sha3_"), prefix.encode() + b":" + data
        ).digest()
        return {
            **agent.quote_answer(hashed.ljust(64, b"\x00")),
            "hash_algorithm": algorithm,
            "prefix": prefix,
        }
    if len(data) != 64:
        raise _Refused("raw report data has to be 64 bytes")
    return {**agent.quote_answer(data), "hash_algorithm": "raw", "prefix": ""}


def _raw_quote(agent: AgentSimulator, arguments: dict[str, Any]) -> dict[str, Any]:
    return _tdx_quote(agent, {**arguments, "hash_algorithm": "raw"})


def _get_key(agent: AgentSimulator, arguments: dict[str, Any]) -> dict[str, Any]:
    if agent.key_answer is not None:
        return agent.key_answer
    parts = [str(arguments.get(name, "")).encode() for name in ("path", "purpose")]
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    key = HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(agent.seed)
    return {"key": key.hex(), "signature_chain": ["00" * 65, "11" * 65]}


def _derive_k256_key(agent: AgentSimulator, arguments: dict[str, Any]) -> dict[str, Any]:
    found = _get_key(agent, arguments)
    return {"k256_key": found.get("key"), "k256_signature_chain": found.get("signature_chain")}


def _info(agent: AgentSimulator, _arguments: dict[str, Any]) -> dict[str, Any]:
    payloads = {event.name: event.payload.hex() for event in agent.minted.log.entries}
    measurements = agent.minted.run_on(agent.image)
    registers = {
        name: getattr(measurements, name).hex()
        for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    }
    tcb_info = {
        **registers,
        "compose_hash": payloads["compose-hash"],
        "event_log": agent.minted.log.to_json(),
    }
    return {
        "app_id": payloads["app-id"],
        "instance_id": payloads["instance-id"],
        "compose_hash": payloads["compose-hash"],
        "tcb_info": json.dumps(tcb_info),
    }


def _version(_agent: AgentSimulator, _arguments: dict[str, Any]) -> dict[str, Any]:
    return {"version": "0.5.4"}


_METHODS = {
    "GetQuote": _get_quote,
    "TdxQuote": _tdx_quote,
    "RawQuote": _raw_quote,
    "GetKey": _get_key,
    "DeriveK256Key": _derive_k256_key,
    "Info": _info,
    "Version": _version,
}
