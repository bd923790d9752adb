"""The commands of owners, by noun, and where each is. No command is imported here.

Example:
    "list": Row("sealspace.cli.secret", "list_", "Print the names of secrets, never a value.")
"""

from typing import Final

from .lazy import LazyGroup, Row, Sections, Table

# --- keep -------------------------------------------------------------------------------------------------------------

_SECRET: Final[Table] = {
    "put": Row("sealspace.cli.secret", "put", "Seal and store a secret."),
    "get": Row("sealspace.cli.secret", "get", "Print the value of a secret."),
    "list": Row("sealspace.cli.secret", "list_", "Print the names of secrets, never a value."),
    "delete": Row("sealspace.cli.secret", "delete", "Delete a secret."),
    "import": Row("sealspace.cli.secret_files", "import_", "Store every secret of a .env, JSON or YAML file."),
    "export": Row("sealspace.cli.secret_files", "export", "Write all secrets as .env or JSON."),
    "generate": Row("sealspace.cli.secret", "generate", "Make a random value, and store it."),
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
    "put": Row("sealspace.cli.kv", "put", "Store a value."),
    "get": Row("sealspace.cli.kv", "get", "Print a value, or write it into a file."),
    "head": Row("sealspace.cli.kv", "head", "Print version, size and metadata of a value."),
    "list": Row("sealspace.cli.kv", "list_", "Print keys."),
    "delete": Row("sealspace.cli.kv", "delete", "Delete a value."),
}
kv = LazyGroup(_KV, name="kv", help="Keep values in the owner's spaces, as they are: nothing is sealed.")

_SPACE: Final[Table] = {
    "list": Row("sealspace.cli.space", "list_", "Print the owner's spaces."),
    "create": Row("sealspace.cli.space", "create", "Have the node host a space."),
    "info": Row("sealspace.cli.space", "info", "Print what is known of a space."),
}
space = LazyGroup(_SPACE, name="space", help="See and make the owner's spaces on the node.")

# --- share ------------------------------------------------------------------------------------------------------------

_GRANT: Final[Table] = {
    "create": Row("sealspace.cli.grant_create", "create", "Grant secrets or values to a DID, and write the grant."),
    "list": Row("sealspace.cli.grant_list", "list_", "Show who holds what, until when."),
    "show": Row("sealspace.cli.grant_list", "show", "Say what one grant allows: yours, or one in a file."),
    "accept": Row("sealspace.cli.grant_use", "accept", "Use a grant that somebody gave you."),
    "revoke": Row("sealspace.cli.grant_use", "revoke", "End a grant for good."),
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
    "check": Row("sealspace.cli.manifest", "check", "List everything that is wrong with a manifest."),
    "explain": Row("sealspace.cli.manifest", "explain_", "Say in plain words what an application asks for."),
    "grant": Row("sealspace.cli.manifest", "grant", "Grant an application exactly what its manifest asks for."),
}
manifest = LazyGroup(
    _MANIFEST,
    name="manifest",
    help="Manifests: what an application says that it needs, in a file; read one, and grant it.",
)

_NETWORK: Final[Table] = {
    "show": Row("sealspace.cli.network", "show", "Show a network, and what it takes to open what is sealed to it."),
    "create": Row("sealspace.cli.network", "create", "Make a further network."),
    "policy": Row("sealspace.cli.network_policy", "policy", "Show or set what code may receive a network's keys."),
    "revoke": Row("sealspace.cli.network", "revoke", "End a network for ever, with all that is sealed to it."),
}
network = LazyGroup(
    _NETWORK,
    name="network",
    help="The encryption networks that secrets are sealed to, and on what terms the node opens them.",
)


SECTIONS: Final[Sections] = {
    "Start": {
        "completion": Row("sealspace.cli.version", "completion", "Have a shell complete commands and options."),
        "version": Row("sealspace.cli.version", "version", "Print the version."),
    },
    "Who": {
        "login": Row("sealspace.cli.login", "login", "Sign in to a node as an owner, with a wallet."),
        "logout": Row("sealspace.cli.who", "logout", "End the session, and remove it from this machine."),
        "whoami": Row("sealspace.cli.who", "whoami", "Print the owner, the session's key and the node."),
        "status": Row("sealspace.cli.who", "status", "Say whether the node answers and the session holds."),
    },
    "Keep": {
        "secret": Row("sealspace.cli.groups", "secret", "Keep secrets, sealed before they leave this machine."),
        "kv": Row("sealspace.cli.groups", "kv", "Keep values, as they are."),
        "space": Row("sealspace.cli.groups", "space", "See and make spaces."),
    },
    "Share": {
        "grant": Row("sealspace.cli.groups", "grant", "Grants to a DID: create, list, show, accept, revoke."),
        "manifest": Row("sealspace.cli.groups", "manifest", "What an application asks for: check, explain, grant."),
        "network": Row("sealspace.cli.groups", "network", "Encryption networks, and on what terms they open."),
    },
    "Use": {
        "run": Row("sealspace.cli.run", "run", "Run a command with secrets as environment variables."),
        "template": Row("sealspace.cli.run", "template", "Fill secrets into a file."),
    },
}
"""Heading of the root's help -> its commands."""
