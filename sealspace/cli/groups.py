"""The commands of owners, by noun, and where each is. No command is imported here.

Example:
    "list": Row("sealspace.cli.secret", "Print the names of secrets, never a value.")
"""

from typing import Final

from .lazy import LazyGroup, Row, Sections

# --- keep -------------------------------------------------------------------------------------------------------------

secret = LazyGroup(
    {
        "put": Row("sealspace.cli.secret", "Seal and store a secret."),
        "get": Row("sealspace.cli.secret", "Print the value of a secret."),
        "list": Row("sealspace.cli.secret", "Print the names of secrets, never a value."),
        "delete": Row("sealspace.cli.secret", "Delete a secret."),
        "import": Row("sealspace.cli.secret", "Store every secret of a .env, JSON or YAML file."),
        "export": Row("sealspace.cli.secret", "Write all secrets as .env or JSON."),
        "generate": Row("sealspace.cli.secret", "Make a random value, and store it."),
    },
    name="secret",
    help="Keep secrets in the owner's space, sealed before they leave this machine.",
    epilog="A secret is not shared between people: beside its owner it opens for code that proves itself, to which "
    "`sealspace backend grant` grants it, unless the node's operator set `sealspace admin release set --attestation "
    "off`.",
)

kv = LazyGroup(
    {
        "put": Row("sealspace.cli.kv", "Store a value."),
        "get": Row("sealspace.cli.kv", "Print a value, or write it into a file."),
        "head": Row("sealspace.cli.kv", "Print version, size and metadata of a value."),
        "list": Row("sealspace.cli.kv", "Print keys."),
        "delete": Row("sealspace.cli.kv", "Delete a value."),
    },
    name="kv",
    help="Keep values in the owner's spaces, as they are: nothing is sealed.",
)

space = LazyGroup(
    {
        "list": Row("sealspace.cli.space", "Print the owner's spaces."),
        "create": Row("sealspace.cli.space", "Have the node host a space."),
        "info": Row("sealspace.cli.space", "Print what is known of a space."),
    },
    name="space",
    help="See and make the owner's spaces on the node.",
)

# --- share ------------------------------------------------------------------------------------------------------------

grant = LazyGroup(
    {
        "create": Row("sealspace.cli.grant_create", "Grant secrets or values to a DID, and write the grant."),
        "list": Row("sealspace.cli.grant_list", "Show who holds what, until when."),
        "show": Row("sealspace.cli.grant_list", "Say what one grant allows: yours, or one in a file."),
        "accept": Row("sealspace.cli.grant_list", "Use a grant that somebody gave you."),
        "revoke": Row("sealspace.cli.grant_list", "End a grant for good."),
    },
    name="grant",
    help="Grant secrets and values to somebody else, by DID, and end that again.",
    epilog="From one person to another: the second runs `sealspace login URL --new` and gives the DID that `sealspace "
    "whoami` prints; the first runs `sealspace grant create DID --space notes --out grant.json` and gives the file; "
    "the second runs `sealspace grant accept grant.json`. Secrets are not shared so between people: they go to code "
    "that proves what it is, with `sealspace backend grant`.",
)

manifest = LazyGroup(
    {
        "check": Row("sealspace.cli.manifest", "List everything that is wrong with a manifest."),
        "explain": Row("sealspace.cli.manifest", "Say in plain words what an application asks for."),
        "grant": Row("sealspace.cli.manifest", "Grant an application exactly what its manifest asks for."),
    },
    name="manifest",
    help="Manifests: what an application says that it needs, in a file; read one, and grant it.",
)

network = LazyGroup(
    {
        "show": Row("sealspace.cli.network", "Show a network, and what it takes to open what is sealed to it."),
        "create": Row("sealspace.cli.network", "Make a further network."),
        "policy": Row("sealspace.cli.network", "Show or set what code may receive a network's keys."),
        "revoke": Row("sealspace.cli.network", "End a network for ever, with all that is sealed to it."),
    },
    name="network",
    help="The encryption networks that secrets are sealed to, and on what terms the node opens them.",
)


SECTIONS: Final[Sections] = {
    "Start": {
        "completion": Row("sealspace.cli.version", "Have a shell complete commands and options."),
        "version": Row("sealspace.cli.version", "Print the version."),
    },
    "Who": {
        "login": Row("sealspace.cli.login", "Sign in to a node as an owner, with a wallet."),
        "logout": Row("sealspace.cli.login", "End the session, and remove it from this machine."),
        "whoami": Row("sealspace.cli.login", "Print the owner, the session's key and the node."),
        "status": Row("sealspace.cli.login", "Say whether the node answers and the session holds."),
    },
    "Keep": {
        "secret": Row("sealspace.cli.groups", "Keep secrets, sealed before they leave this machine."),
        "kv": Row("sealspace.cli.groups", "Keep values, as they are."),
        "space": Row("sealspace.cli.groups", "See and make spaces."),
    },
    "Share": {
        "grant": Row("sealspace.cli.groups", "Grants to a DID: create, list, show, accept, revoke."),
        "manifest": Row("sealspace.cli.groups", "What an application asks for: check, explain, grant."),
        "network": Row("sealspace.cli.groups", "Encryption networks, and on what terms they open."),
    },
    "Use": {
        "run": Row("sealspace.cli.run", "Run a command with secrets as environment variables."),
        "template": Row("sealspace.cli.run", "Fill secrets into a file."),
    },
}
"""Heading of the root's help -> its commands."""
