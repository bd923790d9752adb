"""The commands of operators, and where each is. No command is imported here."""

from typing import Final

from sealspace.cli.lazy import LazyGroup, Row, Sections

# --- start ----------------------------------------------------------------------------------------

config = LazyGroup(
    {
        "show": Row("node.cli.config", "Print the settings in force, as TOML."),
        "init": Row("node.cli.config", "Write a settings file with every setting, described."),
    },
    name="config",
    help="Show a node's settings, or begin a settings file.",
)

# --- operate --------------------------------------------------------------------------------------

admin = LazyGroup(
    {
        "owners": Row("node.cli.hosting_commands", "Admit owners, remove them, list them.", "node"),
        "release": Row(
            "node.cli.release_commands",
            "Show or set the terms under which keys are released.",
            "node",
        ),
        "collateral": Row(
            "node.cli.release_commands", "Take in what Intel publishes about its platforms.", "node"
        ),
        "audit": Row(
            "node.cli.record_commands", "Export the chain over the audit records.", "node"
        ),
        "receipts": Row(
            "node.cli.record_commands", "Print or export the receipts of all networks.", "node"
        ),
        "withdraw": Row(
            "node.cli.release_commands",
            "Withdraw code, a backend or evidence from every release.",
            "node",
        ),
        "quota": Row("node.cli.hosting_commands", "Show or set how much a space may hold.", "node"),
        "backup": Row("node.cli.backup_commands", "Write the whole store into one file.", "node"),
        "restore": Row("node.cli.backup_commands", "Make a data folder of a backup.", "node"),
        "check": Row(
            "node.cli.backup_commands", "Read the whole store, and name what is damaged.", "node"
        ),
        "migrate-store": Row(
            "node.cli.migrate", "Move the store into a database, or back.", "node"
        ),
        "migrate-objects": Row(
            "node.cli.migrate", "Move large values into a bucket, or back.", "node"
        ),
    },
    name="admin",
    help="Run what is the operator's alone, on a store that may be in use by a node.",
)

SECTIONS: Final[Sections] = {
    "Start": {
        "serve": Row("node.cli.serve", "Run the node.", "node"),
        "dev": Row(
            "node.cli.dev",
            "Run a node, a simulated backend and an owner, to build against.",
            "node",
        ),
        "doctor": Row(
            "node.cli.doctor", "Find what is wrong with an installation, a node or a login."
        ),
        "config": Row("node.cli.node_groups", "Show a node's settings, or begin a settings file."),
    },
    "Operate": {
        "admin": Row(
            "node.cli.node_groups", "Owners, release terms, collateral, audit, quotas and moves."
        ),
    },
}
"""Heading of the root's help -> its commands."""
