"""An owner grants another party read access to one folder of values, and revokes it again.

    sealspace serve --data ./data              # in another terminal
    python examples/owner_and_reader.py

In two programs the owner would send `encode_portable(grant)` to the reader, who reads it with
`decode_portable`.
"""

import os

from sealspace.sync import Client, NotGranted, Unauthorized, allow, new_wallet

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")

with Client(NODE) as owner, Client(NODE) as reader:
    owner.sign_in(new_wallet())
    reader.sign_in(new_wallet())

    values = owner.kv()
    values.put("shared/menu", "soup, bread")
    values.put("diary", "only the owner reads this")

    may_read = allow(f"{values.space.text}/kv/shared", "tinycloud.kv/get")
    grant = owner.delegations.delegate(reader.session.did, [may_read], ttl_s=3600)

    reader.delegations.accept(grant)
    theirs = reader.kv(values.space.text)
    print("the reader reads:", theirs.get("shared/menu").body.decode())

    try:
        theirs.get("diary")
    except NotGranted as refused:
        print("not granted:", refused)

    owner.delegations.revoke(grant)
    try:
        theirs.get("shared/menu")
    except Unauthorized as refused:
        print("after the revocation:", refused)
