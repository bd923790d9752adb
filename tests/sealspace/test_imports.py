"""What importing the SDK costs."""

import subprocess
import sys

import pytest
from tests_support import REPOSITORY

SERVER_ONLY = ("lmdb", "dcap_qvl", "node", "spaces", "aiohttp.web")


@pytest.mark.parametrize("statement", ["from sealspace.client import Client", "from sealspace import Client"])
def test_a_client_needs_nothing_of_the_server(statement: str) -> None:
    """Importing the client loads no store, no quote library and no server."""
    program = (
        "import sys\n"
        f"{statement}\n"
        "assert Client.__module__ == 'sealspace.client'\n"
        # aiohttp.web is looked for by its server side, which `import aiohttp` itself never loads.
        f"print([name for name in {SERVER_ONLY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "[]\n"


def test_importing_the_package_loads_no_http() -> None:
    """The package itself is a name only."""
    program = "import sys, sealspace\nprint('aiohttp' in sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "False\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy name does not swallow misspellings."""
    import sealspace

    with pytest.raises(AttributeError):
        _ = sealspace.Clint  # type: ignore[attr-defined]  # misspelt on purpose
