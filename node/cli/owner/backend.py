"""`sealspace backend`: inspect a backend, grant to exactly what was seen, end grants, and run an example backend."""

from ..lazy import LazyGroup, Row, Table

COMMANDS: Table = {
    "show": Row(
        "node.cli.owner.backend_show",
        "show",
        "Ask a backend what it runs, verify it, and say it in plain words.",
        "verify",
    ),
    "grant": Row(
        "node.cli.owner.backend_grant",
        "grant",
        "Grant secrets to exactly the code that a backend proves to run.",
        "verify",
    ),
    "list": Row(
        "node.cli.owner.backend_end", "list_", "Show the grants that were made from here, and the state of each."
    ),
    "revoke": Row("node.cli.owner.backend_end", "revoke", "End the grants to a backend; it may be granted to again."),
    "withdraw": Row(
        "node.cli.owner.backend_end", "withdraw", "Never again: withdraw a backend or code from the network."
    ),
    "serve": Row(
        "node.cli.owner.backend_serve", "serve", "Run an example backend, in a trust domain or a simulated one."
    ),
    "simulate": Row("node.cli.owner.backend_serve", "simulate", "Make a simulated platform, to try things out."),
}

backend = LazyGroup(
    COMMANDS,
    name="backend",
    help="Look at a backend, grant to exactly what was seen, and end that again.",
    epilog="From an address to a grant: `sealspace login --node URL --new`, `sealspace secret put NAME`, "
    "`sealspace backend show URL`, `sealspace backend grant URL`. `sealspace --help` lists the exit statuses.",
)
