"""The commands of operators, and where each is. No command is imported here."""

from typing import Final

from sealspace.cli.lazy import LazyGroup, Row, Sections, Table

# --- start ------------------------------------------------------------------------------------------------------------

_CONFIG: Final[Table] = {
    "show": Row("node.cli.config", "show", "Print the settings in force, as TOML."),
    "init": Row("node.cli.config", "init", "Write a settings file with every setting, described."),
}
config = LazyGroup(_CONFIG, name="config", help="Show a node's settings, or begin a settings file.")

# --- operate ----------------------------------------------------------------------------------------------------------

_ADMIN: Final[Table] = {
    "owners": Row("node.cli.owners", "owners", "Admit owners, remove them, list them.", "node"),
    "release": Row("node.cli.release", "release", "Show or set the terms under which keys are released.", "node"),
    "collateral": Row("node.cli.collateral", "collateral", "Take in what Intel publishes about its platforms.", "node"),
    "audit": Row("node.cli.audit", "audit", "Export the chain over the audit records.", "node"),
    "receipts": Row("node.cli.receipts", "receipts", "Print or export the receipts of all networks.", "node"),
    "withdraw": Row("node.cli.release", "withdraw", "Withdraw code, a backend or evidence from every release.", "node"),
    "quota": Row("node.cli.quota", "quota", "Show or set how much a space may hold.", "node"),
    "backup": Row("node.cli.backup", "backup", "Write the whole store into one file.", "node"),
    "restore": Row("node.cli.backup", "restore", "Make a data folder of a backup.", "node"),
    "check": Row("node.cli.check", "check", "Read the whole store, and name what is damaged.", "node"),
    "migrate-store": Row("node.cli.migrate", "migrate_store", "Move the store into a database, or back.", "node"),
    "migrate-objects": Row("node.cli.migrate", "migrate_objects", "Move large values into a bucket, or back.", "node"),
}
admin = LazyGroup(
    _ADMIN, name="admin", help="Run what is the operator's alone, on a store that may be in use by a node."
)

SECTIONS: Final[Sections] = {
    "Start": {
        "serve": Row("node.cli.serve", "serve", "Run the node.", "node"),
        "dev": Row("node.cli.dev", "dev", "Run a node, a simulated backend and an owner, to build against.", "node"),
        "doctor": Row("node.cli.doctor", "doctor", "Find what is wrong with an installation, a node or a login."),
        "config": Row("node.cli.groups", "config", "Show a node's settings, or begin a settings file."),
    },
    "Operate": {
        "admin": Row("node.cli.groups", "admin", "Owners, release terms, collateral, audit, quotas and moves."),
    },
    # Started by `serve`; help does not show them.
    "": {
        "storekeeper": Row("node.cli.storekeeper", "storekeeper", "", "node"),
        "worker": Row("node.cli.worker", "worker", "", "node"),
    },
}
"""Heading of the root's help -> its commands."""
