"""The tree of commands, with the extra that each requires.

Example:
    for node in command_tree(): print(node.words, node.extra)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import click

from sealspace.cli.lazy import LazyGroup
from sealspace.cli.root import cli


@dataclass(frozen=True)
class Node:
    """A command or a group of them.

    Attributes:
        words: by which it is called, after `sealspace`.
        command: what runs.
        extra: what it needs beyond the base install; None: nothing.
        summary: its line in the help of the group that it is in.
    """

    words: tuple[str, ...]
    command: click.Command
    extra: str | None
    summary: str

    @property
    def is_group(self) -> bool:
        """Return whether the node is a group of commands."""
        return isinstance(self.command, click.Group)


def command_tree() -> Iterator[Node]:
    """Yield every group before its commands, in the order of help."""
    return _below(cli, (), None)


def leaves() -> list[Node]:
    """Return the commands that are not groups."""
    return [node for node in command_tree() if not node.is_group]


def _below(group: click.Group, words: tuple[str, ...], extra: str | None) -> Iterator[Node]:
    with click.Context(group) as context:
        for name in group.table if isinstance(group, LazyGroup) else group.commands:
            command = group.get_command(context, name)
            assert command is not None, name
            row = group.table[name] if isinstance(group, LazyGroup) else None
            node = Node(
                words=(*words, name),
                command=command,
                extra=extra if row is None else row.extra,
                summary=command.get_short_help_str(limit=200) if row is None else row.summary,
            )
            yield node
            if isinstance(command, click.Group):
                yield from _below(command, node.words, node.extra)
