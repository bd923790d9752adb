"""A table of the operator's commands and their modules."""

from sealspace.cli.lazy import LazyGroup, Row, Sections, rows_of

# --- start ----------------------------------------------------------------------------------------

config = LazyGroup(
    {
        "show": Row(module="node.cli.config", summary="Print the settings in force, as TOML."),
        "init": Row(
            module="node.cli.config", summary="Write a settings file that describes every setting."
        ),
    },
    help="Show a node's settings, or write a settings file.",
)

# --- operate --------------------------------------------------------------------------------------

admin = LazyGroup(
    {
        "owners": Row(
            module="node.cli.hosting_commands",
            summary="Admit, remove and list owners.",
            extra="node",
        ),
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
            module="node.cli.hosting_commands",
            summary="Show the storage usage of spaces, or show and set their limits.",
            extra="node",
        ),
        **rows_of(
            "node.cli.backup_commands",
            {
                "backup": "Write the whole store into one file.",
                "restore": "Make a data folder from a backup.",
            },
            "node",
        ),
        "check": Row(
            module="node.cli.check_command",
            summary="Check the whole store for damage.",
            extra="node",
        ),
        "root": Row(
            module="node.cli.root_commands",
            summary="Show or replace the root secret.",
            extra="node",
        ),
        "upgrade": Row(
            module="node.cli.upgrade",
            summary="Move a store forward that an earlier version wrote.",
            extra="node",
        ),
        "migrate-store": Row(
            module="node.cli.migrate",
            summary="Move the store into a database, or from a database into a folder.",
            extra="node",
        ),
        "migrate-objects": Row(
            module="node.cli.migrate",
            summary="Move large values into a bucket, or from a bucket into a folder.",
            extra="node",
        ),
    },
    help="Administer a node's store. Most commands also work while the node is running.",
)

SECTIONS: Sections = {
    "Start": {
        "serve": Row(module="node.cli.serve", summary="Run the node.", extra="node"),
        "dev": Row(
            module="node.cli.dev",
            summary="Start a node, a simulated backend and a test owner for development.",
            extra="node",
        ),
        "doctor": Row(
            module="node.cli.doctor",
            summary="Find problems with the installation, a node or a login.",
        ),
        "config": Row(
            module="node.cli.node_groups",
            summary="Show a node's settings, or write a settings file.",
        ),
    },
    "Operate": {
        "admin": Row(
            module="node.cli.node_groups",
            summary=(
                "Administer a node's store: owners, key releases, audit log, quotas and backups."
            ),
        )
    },
}
"""Heading in the help of the root command -> its commands."""
