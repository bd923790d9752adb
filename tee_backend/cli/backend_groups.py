"""The commands of backends and runners, `receipts` and `verify`, and where each is. None is
imported here."""

from typing import Final

from sealspace.cli.lazy import LazyGroup, Row, Sections

backend = LazyGroup(
    {
        "show": Row(
            "tee_backend.cli.granting",
            "Ask a backend what it runs, verify it, and say it in plain words.",
            "verify",
        ),
        "grant": Row(
            "tee_backend.cli.granting",
            "Grant secrets to exactly the code that a backend proves to run.",
            "verify",
        ),
        "list": Row(
            "tee_backend.cli.grants",
            "Show the grants that were made from here, and the state of each.",
        ),
        "revoke": Row(
            "tee_backend.cli.grants", "End the grants to a backend; it may be granted to again."
        ),
        "withdraw": Row(
            "tee_backend.cli.grants", "Never again: withdraw a backend or code from the network."
        ),
        "simulate": Row(
            "tee_backend.cli.backend_simulate", "Make a simulated platform, to try things out."
        ),
    },
    name="backend",
    help="Look at a backend, grant to exactly what was seen, and end that again.",
    epilog=(
        "From an address to a grant: `sealspace login URL --new`, `sealspace secret put NAME`,"
        " `sealspace backend show URL`, `sealspace backend grant URL`. `sealspace --help` lists the"
        " exit statuses."
    ),
)

project = LazyGroup(
    {
        "publish": Row(
            "tee_backend.cli.program_commands", "Publish a program, and have runners run it."
        ),
        "activate": Row("tee_backend.cli.program_commands", "Have runners run another version."),
        "share": Row("tee_backend.cli.granting", "Let a runner read a private program.", "verify"),
        "list": Row("tee_backend.cli.program_commands", "Print the projects of a developer."),
        "show": Row(
            "tee_backend.cli.program_commands", "Show the versions of a project, and what it wants."
        ),
    },
    name="project",
    help="Programs that runners execute: publish them, and say which version runs.",
)

keys = LazyGroup(
    {
        "create": Row(
            "tee_backend.cli.program_commands:create_key", "Make an API key, and print it once."
        ),
        "list": Row(
            "tee_backend.cli.program_commands:list_keys",
            "Show your API keys at a runner, and your account.",
        ),
        "revoke": Row(
            "tee_backend.cli.program_commands:revoke_key", "Revoke an API key, from now on."
        ),
    },
    name="keys",
    help="API keys of a runner: whoever has one calls programs in your name, at your cost.",
)
runner = LazyGroup(
    {
        "serve": Row(
            "tee_backend.cli.runner_serve",
            "Run programs for callers, in a trust domain or a simulated one.",
            "runner",
        ),
        "grant": Row(
            "tee_backend.cli.granting:grant_runner",
            "Grant secrets to a runner, for named programs and callers.",
            "verify",
        ),
        "generate": Row(
            "tee_backend.cli.granting",
            "Have a runner make secrets whose values nobody sees.",
            "verify",
        ),
        "list": Row(
            "tee_backend.cli.grants:list_runs", "Show the run grants that were made from here."
        ),
        "revoke": Row(
            "tee_backend.cli.grants", "End the grants to a runner; it may be granted to again."
        ),
        "call": Row(
            "tee_backend.cli.program_commands",
            "Have a runner run a program, and print what it writes.",
        ),
        "keys": Row(
            "tee_backend.cli.backend_groups",
            "API keys: whoever has one calls in your name, at your cost.",
        ),
        "credit": Row(
            "tee_backend.cli.runner_credit", "Credit an owner's account; for a runner's operator."
        ),
    },
    name="runner",
    help="Run programs of others with your secrets, on a runner that proves what it is.",
    epilog=(
        "From a program to an answer: `sealspace project publish NAME FILE`, `sealspace runner"
        " grant URL --secret API_KEY --program DID/NAME`, `sealspace runner call URL DID/NAME"
        " --secrets me`."
    ),
)

receipts = LazyGroup(
    {
        "list": Row(
            "sealspace.cli.receipt_commands",
            "Print who got keys, and check the node's signature on each.",
        ),
    },
    name="receipts",
    help="See who got keys of the owner's network.",
)


SECTIONS: Final[Sections] = {
    "Backends": {
        "backend": Row(
            "tee_backend.cli.backend_groups",
            "Look at a backend, grant to exactly that, end it again.",
        ),
        "runner": Row(
            "tee_backend.cli.backend_groups", "Run programs with secrets that open for them alone."
        ),
        "project": Row(
            "tee_backend.cli.backend_groups", "Programs for runners: publish, activate, list, show."
        ),
        "receipts": Row(
            "tee_backend.cli.backend_groups", "See who got keys of the owner's network."
        ),
        "verify": Row(
            "tee_backend.cli.verify",
            "Judge receipts, audit exports, or the code of a node.",
            "verify",
        ),
    },
}
"""Heading of the root's help -> its commands."""
