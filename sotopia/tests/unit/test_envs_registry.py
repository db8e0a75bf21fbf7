"""Opening an environment by its name, and what is said where it cannot be."""

import pytest

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.registry import ENVIRONMENTS, Row, open_environment
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
