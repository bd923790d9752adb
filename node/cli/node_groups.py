"""A table of the operator's commands and their modules."""

from sealspace.cli.lazy import LazyGroup, Row, Sections, rows_of

# --- start ----------------------------------------------------------------------------------------

config = LazyGroup(
    {
        "show": Row("node.cli.config", "Print the settings in force, as TOML."),
        "init": Row("node.cli.config", "Write a settings file that describes every setting."),
    },
    help="Show a node's settings, or write a settings file.",
)

# --- operate --------------------------------------------------------------------------------------

admin = LazyGroup(
    {
        "owners": Row("node.cli.hosting_commands", "Admit, remove and list owners.", "node"),
        **rows_of(
            "node.cli.release_commands",
            {
                "release": "Show or set the terms under which keys are released.",
                "collateral": "Import or list Intel's collateral for verifying quotes.",
                "withdraw": "Withdraw trust in code, a backend or evidence.",
            },
            "node",
        ),
        **rows_of(
            "node.cli.record_commands",
            {
                "audit": "Export the audit chain.",
                "receipts": "Print or export receipts of key releases.",
            },
            "node",
        ),
        "quota": Row(
            "node.cli.hosting_commands", "Show or set the storage limits of spaces.", "node"
        ),
        **rows_of(
            "node.cli.backup_commands",
            {
                "backup": "Write the whole store into one file.",
                "restore": "Make a data folder from a backup.",
                "check": "Check the whole store for damage.",
            },
            "node",
        ),
        "migrate-store": Row(
            "node.cli.migrate",
            "Move the store into a database, or from a database into a folder.",
            "node",
        ),
        "migrate-objects": Row(
            "node.cli.migrate",
            "Move large values into a bucket, or from a bucket into a folder.",
            "node",
        ),
    },
    help="Administer a node's store. Most commands also work while the node is running.",
)

SECTIONS: Sections = {
    "Start": {
        "serve": Row("node.cli.serve", "Run the node.", "node"),
        "dev": Row(
            "node.cli.dev",
            "Start a node, a simulated backend and a test owner for development.",
            "node",
        ),
        "doctor": Row("node.cli.doctor", "Find problems with the installation, a node or a login."),
        "config": Row("node.cli.node_groups", "Show a node's settings, or write a settings file."),
    },
    "Operate": {
        "admin": Row(
            "node.cli.node_groups",
            "Administer a node's store: owners, key releases, audit log, quotas and backups.",
        )
    },
}
"""Heading in the help of the root command -> its commands."""
