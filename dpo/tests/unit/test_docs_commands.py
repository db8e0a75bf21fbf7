"""Every command of ours in the pages is one, with options that it has and files that are there."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
import typer
from docs_commands import PAGES, ROOT, commands

from sotopia_sdpo import cli, sdpo
from sotopia_sdpo.loop import arms
from sotopia_sdpo.loop.compare_settings import CompareSettings
from sotopia_sdpo.pairs.options import app_of
from sotopia_sdpo.results.league import league_of
from sotopia_sdpo.results.score_files import read_tables


APPS = {"sotopia": cli.app, "sdpo": sdpo.app}
SEEN_AT_LEAST = 45
LINK, HEADING, CODE = (
    re.compile(r"\]\(([^)\s]+)\)"),
    re.compile(r"^#+ (.*)$", re.M),
    re.compile(r"^```.*?^```", re.M | re.S),
)


def command_of(words: list[str]) -> click.Command | None:
    """Find the command that words begin with, if it is one of ours that has options."""
    if words[0] == "python" and len(words) > 1 and words[1].startswith("dpo/"):
        return typer.main.get_command(app_of(import_module(Path(words[1]).stem).main))
    found = typer.main.get_command(APPS[words[0]]) if words[0] in APPS else None
    for word in words[1:]:
        if isinstance(found, click.Group):
            assert word in found.commands or word.startswith(("-", ".")), f"no command {word} in {' '.join(words)}"
            found = found.commands.get(word)
    return found


def check_options(command: click.Command, words: list[str]) -> None:
    takes_words = command.context_settings.get("allow_extra_args")
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--") and not takes_words:
            assert word.partition("=")[0] in known | {"--help"}, " ".join(words)


def check_script(words: list[str]) -> None:
    """A script of the checkout, with configs that are there and settings that it has."""
    assert (ROOT / words[1]).is_file(), " ".join(words)
    for word in words[2:]:
        if word.endswith(".yaml") and "examples/" in word and "=" not in word:
            assert (ROOT / word).is_file(), " ".join(words)
    if words[1].startswith("dpo/"):
        for word in words[2:]:
            if "=" in word:
                assert f"  {word.partition('=')[0]}\n" in CompareSettings.help(), " ".join(words)


def test_commands_in_the_pages_are_real() -> None:
    seen = 0
    for page in PAGES:
        for words in commands(page):
            if words[0] == "bash" and words[1].endswith(".sh"):
                check_script(words)
                seen += 1
            elif command := command_of(words):
                check_options(command, words)
                seen += 1
    assert seen >= SEEN_AT_LEAST


@pytest.mark.parametrize(
    "line",
    ["sotopia bench --demo", "sotopia benchmark --demoo", "python dpo/locate.py --modl x", "sdpo locates"],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        command = command_of(line.split())
        assert command
        check_options(command, line.split())


def leaves(command: click.Command) -> Iterator[click.Command]:
    """Yield all commands below one."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from leaves(child)
    else:
        yield command


@pytest.mark.parametrize("name", APPS)
def test_no_help_shows_a_default_that_is_none(name: str) -> None:
    """A required option has no default, and `[default: None]` reads as if it could be left out."""
    for command in leaves(typer.main.get_command(APPS[name])):
        for parameter in command.params:
            shown = getattr(parameter, "show_default", False)
            assert parameter.default is not None or not shown, f"{name} {command.name}: {parameter.name}"


def test_every_page_is_in_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2].split()
    docs = ROOT / "docs"
    assert {str(page.relative_to(docs)) for page in docs.rglob("*.md")} <= set(nav)


def anchors(page: Path) -> set[str]:
    """The names that GitHub and the site give the headings of a page."""
    headings = HEADING.findall(CODE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[ -]+", "-", re.sub(r"[^\w -]", "", heading.lower())) for heading in headings}


def broken(page: Path) -> Iterator[str]:
    """Yield the links of a page that lead to no file, or to no heading of a page."""
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" not in link and not (target.is_file() and (not anchor or anchor in anchors(target))):
            yield link


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    """Also those of README.md, which is no page of the site."""
    assert not list(broken(page))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# It is `x`, here\n[a](#it-is-x-here) [b](#x) [c](gone.md) [d](https://x.example/y)\n", encoding="utf-8"
    )
    assert list(broken(page)) == ["#x", "gone.md"]


def test_the_table_of_the_league_is_that_of_its_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """What docs/comparison.md shows is printed by the command that it names."""
    arms.publish(league_of(read_tables([ROOT / "docs" / "league" / "agent-1.csv"])), arms.Files())
    shown, _, _ = capsys.readouterr().out.partition("\n  (answers of the scripted")
    assert f"```\n{shown}\n```" in (ROOT / "docs" / "comparison.md").read_text("utf-8")
