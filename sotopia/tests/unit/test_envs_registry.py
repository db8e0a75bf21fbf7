"""Opening an environment by its name, and what is said where it cannot be."""

from pathlib import Path

import pytest

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.registry import ENVIRONMENTS, GROUP, Row, environments, max_actions_of, open_environment
from sotopia_sdpo.errors import UserError


def test_a_row_makes_an_instance() -> None:
    assert isinstance(open_environment("game"), Game) and open_environment("game") is not open_environment("game")


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'moon' is not an environment; expected one of scienceworld, game"):
        open_environment("moon")
    monkeypatch.setitem(ENVIRONMENTS, "moon", Row("no_such_module", "Moon", "moon"))
    with pytest.raises(
        UserError, match=r"the package no_such_module is not installed; `pip install -e 'sotopia\[moon\]'"
    ):
        open_environment("moon")
    with pytest.raises(UserError, match="the package no_such_module is not installed"):
        max_actions_of("moon")
    monkeypatch.setitem(ENVIRONMENTS, "moon", Row("no_such_module.envs", "Moon"))
    with pytest.raises(
        UserError, match="--env moon: the package no_such_module is not installed; no_such_module.envs"
    ):
        open_environment("moon")


def test_what_an_environment_of_others_lacks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of the loop has no instance, which may take a process of its own."""
    monkeypatch.setitem(ENVIRONMENTS, "moon", Row("sotopia_sdpo.envs.registry", "open_environment"))
    with pytest.raises(UserError, match="moon: sotopia_sdpo.envs.registry:open_environment is to be a class that has"):
        max_actions_of("moon")


def test_an_installed_package_adds_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry points; a name of ours, or one that is no part of a tag, is not taken."""
    (tmp_path / "shop.py").write_text("from sotopia_sdpo.envs.game import Game\n\n\nclass Shop(Game):\n    pass\n")
    info = tmp_path / "shop-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    rows = ("shop = shop:Shop", "game = shop:Shop", "a shop/2 = shop:Shop")
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *rows]))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(environments()) == [*ENVIRONMENTS, "shop"]
    assert type(open_environment("shop")).__name__ == "Shop" and type(open_environment("game")) is Game
    assert max_actions_of("shop") == Game.max_actions
