"""The SDK as a client under test: signs in, stores two secrets, reads the first one, prints it.

    python client_program.py [FAULT]

Of the arguments, `FAULT` names a check that the SDK leaves out (`CLIENT_FAULTS`).
"""

import asyncio
import os
import sys

from sealspace.client import Client
from sealspace.errors import SealspaceError
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(tries=1, backoff_s=0)


async def main() -> int:
    """Return 0, or 1 if the SDK refuses something."""
    value = os.environ["SEALSPACE_CONFORMANCE_VALUE"]
    url = os.environ["SEALSPACE_CONFORMANCE_URL"]
    try:
        async with Client(url, settings=SETTINGS) as client:
            if (await client.info()).node_id != os.environ["SEALSPACE_CONFORMANCE_DID"]:
                return 1
            await client.sign_in(new_wallet())
            secrets = client.secrets()
            await secrets.put("FIRST", value)
            await secrets.put("SECOND", value)
            print(await secrets.get("FIRST"))
    except SealspaceError as error:
        print(type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
