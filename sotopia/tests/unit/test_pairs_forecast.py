"""What is forecast is what a run would then ask for, and nothing is called or written."""

from pathlib import Path

import pytest
from annotator_double import MODEL, Annotator, questions, run, run_and_finish

from sotopia_sdpo.pairs import forecast as forecasts
from sotopia_sdpo.pairs.annotate import AskOptions
from sotopia_sdpo.pairs.forecast import forecast


def said(folder: Path, *texts: str, model: str = MODEL, seed: int = 0) -> str:
    return forecast(questions(*texts), AskOptions(model, seed=seed), folder)


def test_nothing_is_made(tmp_path: Path) -> None:
    expected = "2 of 2 questions to ask, 0 answered before: about 302 tokens, cost unknown, at 150 tokens an answer"
    assert said(tmp_path / "new", "a" * 4, "b" * 7) == expected and not list(tmp_path.iterdir())
    assert said(tmp_path, "same", "same", "other").startswith("2 of 3 questions to ask, 0 answered before")
    assert said(tmp_path).startswith("0 of 0 questions to ask, 0 answered before: about 0 tokens")


def test_what_is_there_is_not_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = Annotator(monkeypatch, lambda text, _: "nonsense" if text == "bad" else text)
    texts = ("good", "bad", "new")
    run(tmp_path, *texts[:2])
    for found, expected in ((said(tmp_path, *texts), "1 of 3"), (said(tmp_path, *texts, seed=1), "3 of 3")):
        assert found.startswith(f"{expected} questions to ask, {3 - int(expected[0])} answered before")
    run_and_finish(tmp_path, *texts[:2])
    calls = len(annotator.asked)
    assert said(tmp_path, *texts).startswith("2 of 3 questions to ask, 1 answered before")
    assert said(tmp_path, *texts, model="custom/other@http://h/v1").startswith("3 of 3 ")
    assert len(annotator.asked) == calls


def test_a_price_is_told_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "cost_of", lambda name, asked, told: asked + told / 100 if name == "gpt" else None)
    assert "about 151 tokens, $2.50," in said(tmp_path, "a" * 4, model="gpt")
    assert "cost unknown" in said(tmp_path, "a" * 4, model="strange")
