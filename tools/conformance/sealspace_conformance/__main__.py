"""The command `python -m sealspace_conformance`."""

import argparse
import asyncio
import io
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TextIO

from sealspace_conformance import client_kit
from sealspace_conformance.catalogue import GROUPS, run_groups
from sealspace_conformance.quotes import Authority, NoAuthority, read_authority
from sealspace_conformance.report import as_json, exit_status, print_table
from sealspace_conformance.transport import TIMEOUT_S

_NO_NODE = 2
_INTERRUPTED = 130
_MOST_TIMEOUT_S = 300.0
_SCHEMES = ("http://", "https://")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kit; return 0 if every row passed, 1 if one failed, 2 if there is no node."""
    # A terminal of another encoding shows a question mark instead of ending the run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["client"]:
        return client_kit.main(given[1:])
    options = _parser().parse_args(given)
    if options.list:
        print("\n".join(GROUPS))
        return 0
    if not options.url.startswith(_SCHEMES):
        print(
            "cannot reach a node: the address does not begin with http:// or https://;"
            " next: give it as in http://127.0.0.1:8000",
            file=sys.stderr,
        )
        return _NO_NODE
    if options.runner and not options.runner.startswith(_SCHEMES):
        print(
            "cannot reach a runner: the address does not begin with http:// or https://;"
            " next: give it as in --runner http://127.0.0.1:8090",
            file=sys.stderr,
        )
        return _NO_NODE
    try:
        authority = read_authority(Path(options.authority)) if options.authority else None
    except NoAuthority as missing:
        print(
            f"cannot sign quotes: {missing}; next: give a folder of `sealspace backend simulate`",
            file=sys.stderr,
        )
        return _NO_NODE
    return _check(options, authority)


def _check(options: argparse.Namespace, authority: Authority | None) -> int:
    """Run the groups, print the rows, and return the exit status."""
    try:
        with _recording(options.record) as record:
            run, is_node = asyncio.run(
                run_groups(
                    options.url,
                    only=options.only,
                    timeout_s=options.timeout,
                    record=record,
                    authority=authority,
                    runner=options.runner,
                )
            )
    except OSError as error:
        print(
            f"cannot record the exchanges in {options.record}: {error.strerror};"
            " next: name a new file in a folder that exists",
            file=sys.stderr,
        )
        return _NO_NODE
    if options.json:
        print(as_json(options.url, run.rows))
    else:
        print_table(run.rows, every=options.every)
    if not is_node:
        print(
            "no node was checked: GET /info did not describe one; next: see the row above",
            file=sys.stderr,
        )
        return _NO_NODE
    return exit_status(run.rows)


def _recording(place: str) -> AbstractContextManager[TextIO | None]:
    """Return the file in which exchanges are recorded. An existing one is never overwritten."""
    return Path(place).open("x", encoding="utf-8") if place else nullcontext()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sealspace-conformance",
        description="Check a node against the rules of its protocol. The kit makes throw-away keys"
        " and owners, writes small values, and leaves them on the node. `client -- COMMAND` checks"
        " a client instead.",
    )
    parser.add_argument("url", nargs="?", default="", help="the node's address")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--every", action="store_true", help="show what was seen in every row")
    parser.add_argument("--list", action="store_true", help="list the groups of checks")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=tuple(GROUPS),
        metavar="GROUP",
        help="run this group and those it needs; may be repeated",
    )
    parser.add_argument(
        "--record",
        default="",
        metavar="FILE",
        help="write each request and answer to a new file, a line of JSON each",
    )
    parser.add_argument(
        "--runner",
        default="",
        metavar="URL",
        help="the address of a runner that uses the node, whose tasks are checked too",
    )
    parser.add_argument(
        "--authority",
        default="",
        metavar="FOLDER",
        help="a folder of `sealspace backend simulate` whose root the node trusts; with its keys"
        " the kit signs quotes, and checks releases to them",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help=f"time for one answer (default {TIMEOUT_S:g})",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= _MOST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"not between 0 and {_MOST_TIMEOUT_S:g}")
    return value


if __name__ == "__main__":
    sys.exit(main())
