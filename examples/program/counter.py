"""Asks a service for a counter that two secrets of the requester select, and writes it as a result."""

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
        result = os.path.join(os.environ["IEXEC_OUT"], "result.txt")
        with open(result, "wb") as file:
            file.write(answer.body)
        with open(os.path.join(os.environ["IEXEC_OUT"], "computed.json"), "w") as file:
            json.dump({"deterministic-output-path": result}, file)
