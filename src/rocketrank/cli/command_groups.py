"""``rq --help`` with its commands under headings, in the order in which they are met."""

from typing import Any

from typer.core import TyperGroup


class GroupedCommands(TyperGroup):
    """Lists each command below its ``rich_help_panel``, all in one pair of columns."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        width = max(len(name) for name, _ in commands)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands:
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None)
                rows = sections.setdefault(str(heading or "Commands"), [])
                # names of one width: each section measures its own columns
                room = formatter.width - 6 - width
                rows.append((name.ljust(width), command.get_short_help_str(room)))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
