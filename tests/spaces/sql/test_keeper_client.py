"""The connection of a worker with the keeper of SQL processes."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from spaces.keyspace import DATABASES_PREFIX
from spaces.space_errors import StoreBusy
from spaces.sql.frames import MAX_KEEPER_BYTES, ChildLent, LeaseRequest, Serving, encoded
from spaces.sql.keeper_client import KeeperClient

REQUEST = LeaseRequest(
    number=1, owner=b"o" * 16, key=DATABASES_PREFIX + b"k" * 32, writes=False, has_file=True
)


async def test_a_child_that_is_lent_too_late_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQ29: if a child is lent at the moment when the time of a request is over, the worker closes
    the connection with it."""
    loop = asyncio.get_running_loop()
    child, lent = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, child, lent:
        listener.bind(str(tmp_path / "keeper"))
        listener.listen()
        client = KeeperClient(tmp_path / "keeper")
        borrowing = asyncio.create_task(client.borrow(REQUEST, wait_s=60))
        await asyncio.sleep(0)  # the client connects
        keeper, _ = listener.accept()
        with keeper:
            keeper.setblocking(False)
            keeper.send(encoded(Serving()))
            await loop.sock_recv(keeper, MAX_KEEPER_BYTES)
            # The message arrives and the time ends in one iteration of the loop.
            socket.send_fds(
                keeper, [encoded(ChildLent(REQUEST.number, os.getpid()))], [lent.fileno()]
            )
            time = loop.time
            monkeypatch.setattr(loop, "time", lambda: time() + 3600)
            with pytest.raises(StoreBusy):
                await borrowing
            lent.close()
            child.setblocking(False)
            assert child.recv(1) == b""
            client.close()
