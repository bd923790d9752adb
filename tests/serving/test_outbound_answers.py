"""Untrusted responses of services to requests of programs (RN109)."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest
from https_service import https_service
from patience import PATIENCE_S

from runner.guest.run_client import RunClient
from serving.messages import MAX_MESSAGE_BYTES, pack_parts, unpack_parts
from serving.outbound import Outbound, _CountedSocket

HOST = "api.test"

_RAW = [
    (b"", "connection-failed"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "response-invalid"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "response-invalid"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "response-invalid"),
    (b"HTTP/1.1 999999 OK\r\n\r\n", "response-invalid"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "response-invalid"),
    (b"SSH-2.0-x\r\n", "response-invalid"),
    (b"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n", "response-invalid"),
    (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", None),
    (b"HTTP/1.1 200 OK\r\nX: \xff\xfe\r\n\r\nuntil the end", None),
]


@pytest.mark.parametrize(("sent", "expected"), _RAW)
async def test_answers_that_are_none(tmp_path: Path, sent: bytes, expected: str | None) -> None:
    """RN109: a malformed response is an error for the program, and the runner continues."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
            await writer.drain()
            writer.close()

    async with (
        https_service(tmp_path, HOST, talk=talk) as service,
        Outbound(loopback_ca=service.ca, resolve=service.resolve) as outbound,
    ):
        client = RunClient(outbound, frozenset({HOST}))
        parts = unpack_parts(await client.answer(pack_parts([b"GET", service.url().encode(), b""])))
    assert (1 == len(parts)) is (expected is not None), parts
    assert expected is None or parts[0].decode() == expected


_ENDLESS = [
    (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;", b"x"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    (b"", b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 4000 + b"\r\n\r\n"),
    (b"", b"\r\n"),
]


@pytest.mark.parametrize(("head", "part"), _ENDLESS)
async def test_services_that_send_for_ever(tmp_path: Path, head: bytes, part: bytes) -> None:
    """RN109: an endless response without a body is cut off by its bytes."""
    sent, much = 0, part * (16384 // len(part))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while not writer.is_closing() and sent < 64 * MAX_MESSAGE_BYTES:
                writer.write(much)
                sent += len(much)
                await writer.drain()
                # `drain` alone does not let the loop see that the other end is gone
                await asyncio.sleep(0)

    async with (
        https_service(tmp_path, HOST, talk=talk) as service,
        Outbound(loopback_ca=service.ca, request_s=PATIENCE_S) as outbound,
    ):
        client = RunClient(outbound, frozenset({HOST}))
        (error,) = unpack_parts(
            await client.answer(pack_parts([b"GET", service.url().encode(), b""]))
        )
    assert error in (b"connection-failed", b"response-invalid")
    assert sent < 32 * MAX_MESSAGE_BYTES  # with what is in buffers


async def test_what_arrives_is_read_in_small_parts() -> None:
    """RN109: a large response does not block the runner's event loop."""
    sending, receiving = socket.socketpair()
    dup = os.dup(receiving.fileno())
    with sending, receiving, _CountedSocket(MAX_MESSAGE_BYTES, -1, -1, -1, dup) as counted:
        sending.sendall(bytes(100_000))
        assert [16384] * 2 == [len(counted.recv(262_144)), counted.recv_into(bytearray(262_144))]
        assert [7, 9] == [len(counted.recv(7)), counted.recv_into(bytearray(99), 9)]
