"""An application with a manifest that stores notes in the space of each of its users.

    sealspace serve --data ./data                            # in another terminal
    sealspace login http://127.0.0.1:8000 --new
    cd examples/manifest
    sealspace manifest explain manifest.json                 # what it asks for, in plain words
    python notes.py                                          # prints the application's DID
    sealspace manifest grant manifest.json --to DID --out grants.json
    python notes.py grants.json "buy milk"                   # keeps a note, and lists all

The application's key stays in notes.session; the owner ends it with `sealspace grant revoke`.
"""

import os
import secrets
import sys
import time
from pathlib import Path

from sealspace.session import key_session
from sealspace.sync import Client, load_session, save_session
from sealspace.wire.portable import decode_bundle

NODE = os.environ.get("SEALSPACE_NODE", "http://127.0.0.1:8000")
KEY = Path("notes.session")  # the application's own key, mode 0600
FOLDER = "com.example.notes/notes"  # the manifest's prefix is its app_id

if not KEY.exists():
    save_session(key_session(secrets.token_bytes(32)), KEY)
session = load_session(KEY)

if len(sys.argv) < 3:
    print(session.did)
else:
    file, note = sys.argv[1:]
    with Client(NODE, session=session) as client:
        grants = decode_bundle(Path(file).read_bytes())
        client.delegations.take_up_bundle(grants)
        notes = client.kv(grants[0].space)
        notes.put(f"{FOLDER}/{time.time_ns()}", note)
        for key in notes.list(f"{FOLDER}/"):
            print(notes.get(key).body.decode())
