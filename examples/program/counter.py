"""Asks a service for a counter that two secrets select, and writes it as the result of a task."""

import json
import os
import sys

from wit_world import exports
from wit_world.imports import client


class Run(exports.Run):
    """The entry point of the program, `wasi:cli/run`."""

    def run(self) -> None:
        """Ask the service, whose address is the argument."""
        names = os.environ["IEXEC_REQUESTER_SECRET_1"], os.environ["IEXEC_REQUESTER_SECRET_2"]
        url = "/".join((sys.argv[1], "hit", *names))
        answer = client.fetch(client.Request("GET", url, [], b""))
        out = os.environ["IEXEC_OUT"]
        with open(f"{out}/result.txt", "wb") as file:
            file.write(answer.body)
        with open(f"{out}/computed.json", "w") as file:
            json.dump({"deterministic-output-path": f"{out}/result.txt"}, file)
