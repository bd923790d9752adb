"""The console's modules in node.js without a page, for scripts that need no document, upload or
browser storage.

Example:
    with node_js(node.url, wallet=wallet) as page:
        assert page.call("bytes.js", "hex", [1, 255]) == "01ff"
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from browser import CALL, CONSOLE, WALLET, BrowserWallet
from patience import PATIENCE_S

_HARNESS = Path(__file__).with_name("node_js.mjs")
_LOWEST = 20


def _program() -> str | None:
    """Return the path of node.js, or skip if it is absent or lacks Ed25519 and X25519."""
    found = shutil.which("node")
    said = (
        found
        and subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    )
    return found if said and int(said.removeprefix("v").split(".")[0]) >= _LOWEST else None


NODE_JS = _program()
NODE_JS_ABSENT = f"node.js {_LOWEST} or newer is not installed"


class Scripts:
    """A node.js process that runs scripts. `evaluate` and `call` work as those of a browser page.

    Attributes:
        requests: what the scripts sent to the node, in order: method, path, headers, body.
    """

    def __init__(
        self, standard_input: IO[str], standard_output: IO[str], wallet: BrowserWallet | None
    ) -> None:
        self._input, self._output, self._wallet = standard_input, standard_output, wallet
        self.requests: list[tuple[str, str, dict[str, str], bytes | None]] = []

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run a function, `async ({…}) => …`, and return what it returns."""
        # An import inside evaluated text has no module to start from.
        self._write({"script": script.replace("import(", "__import("), "argument": argument})
        for line in self._output:
            said = json.loads(line)
            if "sent" in said:
                method, path, headers, body = said["sent"]
                self.requests.append(
                    (method, path, headers, None if body is None else bytes.fromhex(body))
                )
            elif "method" in said:
                assert self._wallet is not None
                self._write(
                    {
                        "id": said["id"],
                        "answer": self._wallet.answer(said["method"], said["params"]),
                    }
                )
            else:
                assert "error" not in said, said["error"]
                return said.get("value")
        raise AssertionError("node.js ended")

    def call(self, module: str, name: str, *arguments: Any) -> Any:
        """Call an exported function of a module of `wire`, as `Page.call` does."""
        return self.evaluate(CALL, {"module": module, "name": name, "args": list(arguments)})

    def _write(self, message: dict[str, Any]) -> None:
        self._input.write(json.dumps(message) + "\n")
        self._input.flush()


@contextmanager
def node_js(origin: str, *, wallet: BrowserWallet | None = None) -> Iterator[Scripts]:
    """Run node.js until the block ends, with the console's modules under `/console/wire/`."""
    assert NODE_JS is not None, NODE_JS_ABSENT
    with TemporaryDirectory() as folder:
        shutil.copytree(CONSOLE / "wire", Path(folder) / "wire")
        # or `.js` would not be a module
        (Path(folder) / "package.json").write_text('{"type": "module"}')
        announced = "" if wallet is None else WALLET
        command = [NODE_JS, "--no-warnings", str(_HARNESS), folder, origin, announced]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            patience = threading.Timer(4 * PATIENCE_S, process.kill)
            patience.start()
            try:
                yield Scripts(process.stdin, process.stdout, wallet)
            finally:
                patience.cancel()
                process.kill()
