"""Write app-compose.json, the file whose hash identifies an application on a dstack machine.

    python pack.py backend --image docker.io/you/notes@sha256:… --node https://node.example

The file is printed. It depends on the arguments and the compose file only, so others can make the
same bytes again.
"""

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
PINNED = re.compile(r"[a-z0-9][A-Za-z0-9._/:-]{0,254}@sha256:[0-9a-f]{64}")
ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")


def packed(role: str, *, image: str, node: str) -> str:
    """Return app-compose.json of a role: `backend`, `runner` or `node`."""
    if PINNED.fullmatch(image) is None:
        sys.exit(f"the image has no digest: {image}\nnext: --image NAME@sha256:DIGEST")
    if ADDRESS.fullmatch(node) is None:
        sys.exit(f"not the address of a node: {node}\nnext: --node https://node.example")
    compose = (HERE / f"{role}.compose.yaml").read_text("utf-8")
    compose = re.sub(r"(?<=image: )IMAGE", image, compose)
    compose = re.sub(r"(?<=[ ])NODE\b", node, compose)
    application = {
        "manifest_version": 2,
        "name": f"sealspace-{role}",
        "runner": "docker-compose",
        "docker_compose_file": compose,
        # The key service gives the application its keys, whatever machine it runs on.
        "kms_enabled": True,
        "local_key_provider_enabled": False,
        "gateway_enabled": True,
        "public_logs": False,
        "public_sysinfo": False,
        "public_tcbinfo": True,
        # No variable is left to the operator.
        "allowed_envs": [],
        "no_instance_id": False,
        "secure_time": True,
    }
    return json.dumps(application, indent=2, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write app-compose.json.")
    parser.add_argument("role", choices=["backend", "runner", "node"])
    parser.add_argument("--image", required=True, help="image with its digest")
    parser.add_argument("--node", default="https://node.example", help="address of the node")
    given = parser.parse_args()
    sys.stdout.write(packed(given.role, image=given.image, node=given.node))
