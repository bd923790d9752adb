"""The command group of a door.

The command is not imported here, so that `sealspace --help` stays fast.
"""

from sealspace.cli.lazy import Row, Sections

SECTIONS: Sections = {
    "Use": {
        "door": Row("door.cli.door", "Serve secrets to clients of Vault and OpenBao."),
    },
}
"""Commands by heading in the help of `sealspace`."""
