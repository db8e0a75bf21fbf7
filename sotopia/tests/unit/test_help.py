"""The help of every command: it fits 80 columns, and leaves most of a line to what an option means."""

import re

import click
import pytest
import typer
from typer.testing import CliRunner

from sotopia_sdpo import cli, sdpo


APPS = {"sotopia": cli.app, "sdpo": sdpo.app}
WITH_HELP_OF_ITS_OWN = {"demo", "compare", "train", "serve", "install"}


def names(command: click.Command, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the command and all below it, by the words that are typed."""
    below = command.commands if isinstance(command, click.Group) else {}
    found = [names(one, (*before, name)) for name, one in below.items() if name not in WITH_HELP_OF_ITS_OWN]
    return [before, *(word for words in found for word in words)]


COMMANDS = [(app, words) for app, made in APPS.items() for words in names(typer.main.get_command(made))]


@pytest.mark.parametrize(("app", "words"), COMMANDS, ids=[" ".join((app, *words)) for app, words in COMMANDS])
def test_it_can_be_read_at_80_columns(app: str, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(APPS[app], [*words, "--help"], env={"COLUMNS": "80"})
    lines = done.output.splitlines()
    assert done.exit_code == 0 and done.output.startswith("Usage: ")
    assert max(map(len, lines)) <= 80
    # No box around it, no mark of markup, and no sentence of a list of commands that is cut off.
    assert not re.search(r"[│╭\\]", done.output) and not any(line.endswith("...") for line in lines[1:])
    assert max(len(line) - len(line.lstrip()) for line in lines) < 40
