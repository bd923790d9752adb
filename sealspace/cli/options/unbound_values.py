"""The option of commands that grant secrets to readers who may use values without a place."""

from ..terminal import flag_option

allow_unbound_option = flag_option(
    "--allow-unbound",
    "unbound",
    help="Also allow values that do not state their place, such as those that JavaScript"
    " applications store. Without it, readers refuse them until you run `sealspace secret bind`.",
)
