"""The option of commands that sign a name for the code that they approve."""

import click

from ...documents.app_names import checked_app_name

app_name_option = click.option(
    "--name",
    "app_name",
    metavar="TEXT",
    callback=lambda _context, _option, text: text if text is None else checked_app_name(text),
    help="Your name for this code, at most 60 characters. It is signed with the grant and shown in"
    " lists of grants. It has no effect on what the grant allows.",
)
