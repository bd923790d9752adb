#!/bin/sh
# The steps of the Containerfile as plain commands; they also serve a machine without containers, as in sealspace.service,
# and the action for GitHub, action.yml.
#
#   install.sh wheel SOURCE WHEELS                   builds the wheel of the source into the folder WHEELS
#   install.sh environment LOCK WHEELS ENV [EXTRAS]  makes an environment with that wheel, and of the lock file what it needs
#
# Every package from an index has to match a hash of the lock file. Needs Python 3.11 to 3.15 with venv.
set -eu

extras=${5-node,postgres,s3,fast}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1

# Install what a requirement needs, from the lock file alone: pip takes hashes for whole files only, so the part of the
# file that is needed is asked for first, and then installed by its hashes. Only wheels: of a source distribution pip runs
# code to learn what it needs, and that before any hash is compared.
install_locked() { # python of the environment, lock file, requirement
    sed -n 's/^\([[:alnum:]][^\\]*[^\\ ]\) *\\*$/\1/p' "$2" > "$work/pins"
    "$1" -m pip install --quiet --dry-run --ignore-installed --only-binary :all: --constraint "$work/pins" \
        --report "$work/report" "$3"
    "$1" - "$2" "$work/report" > "$work/locked" << 'EOF'
import json, re, sys
from pathlib import Path

def normal(name):
    return re.sub("[-_.]+", "-", name).lower()

lock, report = map(Path, sys.argv[1:])
needed = {normal(one["metadata"]["name"]) for one in json.loads(report.read_text())["install"]} - {"sealspace"}
pins = [(normal(re.match(r"[\w.-]+", pin)[0]), pin) for pin in re.split(r"^(?=\w)", lock.read_text(), flags=re.M) if pin]
missing = needed - {name for name, _ in pins}
if missing:
    sys.exit(f"not in {lock}: {', '.join(sorted(missing))}; run: make lock")
print("".join(pin for name, pin in pins if name in needed))
EOF
    "$1" -m pip install --quiet --no-deps --only-binary :all: --require-hashes --requirement "$work/locked"
}

case "${1-}" in
wheel)
    python3 -m venv "$work/build"
    install_locked "$work/build/bin/python" "$2/requirements.lock" hatchling
    "$work/build/bin/pip" wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir "$3" "$2"
    ;;
environment)
    wheel=$(echo "$3"/sealspace-*.whl)
    python3 -m venv "$4"
    install_locked "$4/bin/python" "$2" "$wheel${extras:+[$extras]}"
    "$4/bin/pip" install --quiet --no-deps --no-index "$wheel"
    # What runs installs nothing.
    "$4/bin/python" -m pip uninstall --quiet --yes pip setuptools 2> /dev/null
    ;;
*)
    sed -n 's/^#   //p' "$0" >&2
    exit 2
    ;;
esac
