"""Groups of commands: for each noun its verbs, and where they are. No command is imported here.

Example:
    "list": Row("node.cli.owner.secret", "list_", "Print the names of secrets, never a value.")
"""

from typing import Final

from .lazy import LazyGroup, Row, Table

# --- start ------------------------------------------------------------------------------------------------------------

_CONFIG: Final[Table] = {
    "show": Row("node.cli.operator.config", "show", "Print the settings in force, and where each comes from."),
    "init": Row("node.cli.operator.config", "init", "Write a settings file with every setting, described."),
}
config = LazyGroup(_CONFIG, name="config", help="Show a node's settings, or begin a settings file.")

# --- keep -------------------------------------------------------------------------------------------------------------

_SECRET: Final[Table] = {
    "put": Row("node.cli.owner.secret", "put", "Seal and store a secret."),
    "get": Row("node.cli.owner.secret", "get", "Print the value of a secret."),
    "list": Row("node.cli.owner.secret", "list_", "Print the names of secrets, never a value."),
    "delete": Row("node.cli.owner.secret", "delete", "Delete a secret."),
    "import": Row("node.cli.owner.secret_files", "import_", "Store every secret of a .env, JSON or YAML file."),
    "export": Row("node.cli.owner.secret_files", "export", "Write all secrets as .env or JSON."),
    "generate": Row("node.cli.owner.secret", "generate", "Make a random value, and store it."),
}
secret = LazyGroup(
    _SECRET,
    name="secret",
    help="Keep secrets in the owner's space, sealed before they leave this machine.",
    epilog="A secret is not shared between people: beside its owner it opens for code that proves itself, to which "
    "`sealspace backend grant` grants it, unless the node's operator set `sealspace admin release set --attestation "
    "off`.",
)

_KV: Final[Table] = {
    "put": Row("node.cli.owner.kv", "put", "Store a value."),
    "get": Row("node.cli.owner.kv", "get", "Print a value, or write it into a file."),
    "head": Row("node.cli.owner.kv", "head", "Print version, size and metadata of a value."),
    "list": Row("node.cli.owner.kv", "list_", "Print keys."),
    "delete": Row("node.cli.owner.kv", "delete", "Delete a value."),
}
kv = LazyGroup(_KV, name="kv", help="Keep values in the owner's spaces, as they are: nothing is sealed.")

_SPACE: Final[Table] = {
    "list": Row("node.cli.owner.space", "list_", "Print the owner's spaces."),
    "create": Row("node.cli.owner.space", "create", "Have the node host a space."),
    "info": Row("node.cli.owner.space", "info", "Print what is known of a space."),
}
space = LazyGroup(_SPACE, name="space", help="See and make the owner's spaces on the node.")

# --- share ------------------------------------------------------------------------------------------------------------

_GRANT: Final[Table] = {
    "create": Row("node.cli.owner.grant_create", "create", "Grant secrets or values to a DID, and write the grant."),
    "list": Row("node.cli.owner.grant_list", "list_", "Show who holds what, until when."),
    "show": Row("node.cli.owner.grant_list", "show", "Say what one grant allows: yours, or one in a file."),
    "accept": Row("node.cli.owner.grant_use", "accept", "Use a grant that somebody gave you."),
    "revoke": Row("node.cli.owner.grant_use", "revoke", "End a grant for good."),
}
grant = LazyGroup(
    _GRANT,
    name="grant",
    help="Grant secrets and values to somebody else, by DID, and end that again.",
    epilog="From one person to another: the second runs `sealspace login URL --new` and gives the DID that `sealspace "
    "whoami` prints; the first runs `sealspace grant create DID --space notes --out grant.json` and gives the file; "
    "the second runs `sealspace grant accept grant.json`. Secrets are not shared so between people: they go to code "
    "that proves what it is, with `sealspace backend grant`.",
)

_MANIFEST: Final[Table] = {
    "check": Row("node.cli.owner.manifest", "check", "List everything that is wrong with a manifest."),
    "explain": Row("node.cli.owner.manifest", "explain_", "Say in plain words what an application asks for."),
    "grant": Row("node.cli.owner.manifest", "grant", "Grant an application exactly what its manifest asks for."),
}
manifest = LazyGroup(
    _MANIFEST,
    name="manifest",
    help="Manifests: what an application says that it needs, in a file; read one, and grant it.",
)

_NETWORK: Final[Table] = {
    "show": Row("node.cli.owner.network", "show", "Show a network, and what it takes to open what is sealed to it."),
    "create": Row("node.cli.owner.network", "create", "Make a further network."),
    "policy": Row("node.cli.owner.network_policy", "policy", "Show or set what code may receive a network's keys."),
    "revoke": Row("node.cli.owner.network", "revoke", "End a network for ever, with all that is sealed to it."),
}
network = LazyGroup(
    _NETWORK,
    name="network",
    help="The encryption networks that secrets are sealed to, and on what terms the node opens them.",
)

# --- backends ---------------------------------------------------------------------------------------------------------

_BACKEND: Final[Table] = {
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
    _BACKEND,
    name="backend",
    help="Look at a backend, grant to exactly what was seen, and end that again.",
    epilog="From an address to a grant: `sealspace login URL --new`, `sealspace secret put NAME`, "
    "`sealspace backend show URL`, `sealspace backend grant URL`. `sealspace --help` lists the exit statuses.",
)

_PROJECT: Final[Table] = {
    "publish": Row("node.cli.owner.project", "publish", "Publish a program, and have runners run it."),
    "activate": Row("node.cli.owner.project", "activate", "Have runners run another version."),
    "share": Row("node.cli.owner.project_share", "share", "Let a runner read a private program.", "verify"),
    "list": Row("node.cli.owner.project", "list_", "Print the projects of a developer."),
    "show": Row("node.cli.owner.project", "show", "Show the versions of a project, and what it wants."),
}
project = LazyGroup(
    _PROJECT, name="project", help="Programs that runners execute: publish them, and say which version runs."
)

_RUNNER: Final[Table] = {
    "serve": Row(
        "node.cli.owner.runner_serve",
        "serve",
        "Run programs for callers, in a trust domain or a simulated one.",
        "runner",
    ),
    "grant": Row(
        "node.cli.owner.runner_grant", "grant", "Grant secrets to a runner, for named programs and callers.", "verify"
    ),
    "generate": Row(
        "node.cli.owner.runner_generate", "generate", "Have a runner make secrets whose values nobody sees.", "verify"
    ),
    "list": Row("node.cli.owner.runner_list", "list_", "Show the run grants that were made from here."),
    "revoke": Row("node.cli.owner.backend_end", "revoke", "End the grants to a runner; it may be granted to again."),
    "call": Row("node.cli.owner.runner_call", "call", "Have a runner run a program, and print what it writes."),
    "keys": Row("node.cli.groups", "runner_keys", "API keys: whoever has one calls in your name, at your cost."),
    "credit": Row("node.cli.owner.runner_credit", "credit", "Credit an owner's account; for a runner's operator."),
    "verify": Row(
        "node.cli.owner.runner_verify", "verify", "Judge the receipt of a run, without node and runner.", "verify"
    ),
}
_RUNNER_KEYS: Final[Table] = {
    "create": Row("node.cli.owner.runner_keys", "create", "Make an API key, and print it once."),
    "list": Row("node.cli.owner.runner_keys", "list_", "Show your API keys at a runner, and your account."),
    "revoke": Row("node.cli.owner.runner_keys", "revoke", "Revoke an API key, from now on."),
}
runner_keys = LazyGroup(
    _RUNNER_KEYS, name="keys", help="API keys of a runner: whoever has one calls programs in your name, at your cost."
)
runner = LazyGroup(
    _RUNNER,
    name="runner",
    help="Run programs of others with your secrets, on a runner that proves what it is.",
    epilog="From a program to an answer: `sealspace project publish NAME FILE`, `sealspace runner grant URL --secret "
    "API_KEY --program DID/NAME`, `sealspace runner call URL DID/NAME --secrets me`.",
)

_RECEIPTS: Final[Table] = {
    "list": Row("node.cli.owner.receipts", "list_", "Print who got keys, and check the node's signature on each."),
    "verify": Row("node.cli.owner.receipts_verify", "verify", "Judge a receipt again, without the node.", "verify"),
}
receipts = LazyGroup(
    _RECEIPTS, name="receipts", help="See who got keys of the owner's network, and verify the node's receipts."
)

_NODE: Final[Table] = {
    "verify": Row(
        "node.cli.owner.node_verify", "verify", "Ask a node what code it runs, and verify the answer.", "verify"
    ),
}
node = LazyGroup(_NODE, name="node", help="Check a node from outside.")

# --- operate ----------------------------------------------------------------------------------------------------------

_ADMIN: Final[Table] = {
    "owners": Row("node.cli.operator.owners", "owners", "Admit owners, remove them, list them.", "node"),
    "release": Row(
        "node.cli.operator.release", "release", "Show or set the terms under which keys are released.", "node"
    ),
    "collateral": Row(
        "node.cli.operator.collateral", "collateral", "Take in what Intel publishes about its platforms.", "node"
    ),
    "audit": Row(
        "node.cli.operator.audit", "audit", "Export the chain over the audit records, or verify an export.", "node"
    ),
    "receipts": Row("node.cli.operator.receipts", "receipts", "Print or export the receipts of all networks.", "node"),
    "withdraw": Row(
        "node.cli.operator.withdraw", "withdraw", "Withdraw code, a backend or evidence from every release.", "node"
    ),
    "quota": Row("node.cli.operator.quota", "quota", "Show or set how much a space may hold.", "node"),
    "backup": Row("node.cli.operator.backup", "backup", "Write the whole store into one file.", "node"),
    "restore": Row("node.cli.operator.restore", "restore", "Make a data folder of a backup.", "node"),
    "check": Row("node.cli.operator.check", "check", "Read the whole store, and name what is damaged.", "node"),
    "migrate-store": Row(
        "node.cli.operator.migrate_store", "migrate_store", "Move the store into a database, or back.", "node"
    ),
    "migrate-objects": Row(
        "node.cli.operator.migrate_objects", "migrate_objects", "Move large values into a bucket, or back.", "node"
    ),
}
admin = LazyGroup(
    _ADMIN, name="admin", help="Run what is the operator's alone, on a store that may be in use by a node."
)
