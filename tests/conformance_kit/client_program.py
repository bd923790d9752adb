"""The SDK as a client under test: signs in, stores two secrets, reads the first one, prints it.

    python client_program.py [FAULT]

FAULT names a check that the SDK leaves out, of `client_faults`.
"""

import asyncio
import os
import sys
from contextlib import nullcontext

from conformance_kit.client_faults import CLIENT_FAULTS

from sealspace.client import Client
from sealspace.errors import SealspaceError
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(tries=1, backoff_s=0)


async def main() -> int:
    """Return 0, or 1 if the SDK refuses something."""
    value = os.environ["SEALSPACE_CONFORMANCE_VALUE"]
    url = os.environ["SEALSPACE_CONFORMANCE_URL"]
    node = os.environ["SEALSPACE_CONFORMANCE_DID"]
    try:
        async with Client(url, pinned_node=node, settings=SETTINGS) as client:
            await client.sign_in(new_wallet())
            await client.secrets().put("FIRST", value)
            session = client.session
        # Another client of the same session has no cached descriptor, and asks for one.
        async with Client(url, session=session, pinned_node=node, settings=SETTINGS) as client:
            await client.secrets().put("SECOND", value)
            print(await client.secrets().get("FIRST"))
    except SealspaceError as error:
        print(type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    left_out = CLIENT_FAULTS[sys.argv[1]].present() if len(sys.argv) > 1 else nullcontext()
    with left_out:
        sys.exit(asyncio.run(main()))
