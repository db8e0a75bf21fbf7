"""Figures: drawn whole from the numbers of the tables, or not at all."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from judges_world import world, write_judge, write_people
from test_results_league import arm

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results import figures
from sotopia_sdpo.results.figures import Curve, Dots, curves_figure, dots_figure, league_figure
from sotopia_sdpo.results.judges import judges
from sotopia_sdpo.results.league import league_of
from sotopia_sdpo.results.stats import Estimate


PNG = b"\x89PNG\r\n\x1a\n"
ONE = Estimate(1.0, float("nan"), float("nan"), 3, 1)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[Dots]]]:
    """Note what is drawn instead of drawing it."""
    seen: list[tuple[list[str], list[Dots]]] = []
    monkeypatch.setattr(figures, "dots_figure", lambda rows, panels, path: seen.append((rows, panels)))
    return seen


def test_a_league_is_drawn_by_its_means_and_gains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    league = league_of([arm("sft", 1), arm("sdpo", 1, gain=3), arm("eto", 1)])
    seen = drawn(monkeypatch)
    league_figure(league, tmp_path / "f.png")
    ((rows, (means, gains)),) = seen
    assert rows == ["sft", "sdpo", "eto"] and means.rows["sdpo"] == league.means["sdpo"]["goal"].estimate
    assert gains.rows == {name: league.gaps["sft", name]["goal"].found.estimate for name in ("sdpo", "eto")}
    assert gains.marked == {"sdpo"} and gains.zero == 0


def test_a_figure_is_a_file_of_its_kind_and_leaves_no_draft(tmp_path: Path) -> None:
    dots_figure(["a", "b"], [Dots("t", {"a": ONE})], tmp_path / "dots.png")
    curves_figure({"loss": [Curve("a", [0, 1], [2, 1])], "margin": [Curve("b", [0], [1])]}, tmp_path / "curves.png")
    assert (tmp_path / "dots.png").read_bytes()[:8] == PNG == (tmp_path / "curves.png").read_bytes()[:8]
    for name in ("f.nonsense", "none/f.png", "dots.png/f.png"):
        with pytest.raises(UserError, match="cannot be drawn .* name a file like results.png"):
            dots_figure(["a"], [Dots("t", {"a": ONE})], tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "dots.png"]


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    yield


def test_what_a_figure_needs_is_told(without_matplotlib: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figures need matplotlib: pip install 'sotopia-sdpo\[figures\]'"):
        dots_figure(["a"], [Dots("t", {"a": ONE})], tmp_path / "f.png")


def test_judges_are_drawn_beside_people(tmp_path: Path) -> None:
    sessions = world(sessions=40)
    people = write_people(tmp_path / "people.csv", sessions)
    scores = write_judge(tmp_path / "judge.json", sessions, lambda side: side.noisy(1, 2))
    judges([str(people)], [f"gpt-4={scores}"], (), None, None, tmp_path / "judges.png")
    assert (tmp_path / "judges.png").read_bytes()[:8] == PNG
