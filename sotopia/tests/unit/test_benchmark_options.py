"""What `sotopia benchmark` makes of its options, before anything is opened or called."""

import json
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo import benchmark
from sotopia_sdpo.benchmark import Options
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Session, load_template, sharegpt_of


MODEL = "custom/agent@http://127.0.0.1:9/v1"
BACKGROUND = "It is:\nScenario: two meet\nParticipants: Ann and Bo\nAnn's goal: win\nBo's goal: Unknown"


def options(**changes: Any) -> Options:
    return Options(
        **{"models": (MODEL,), "partner_model": MODEL, "evaluator_model": "judge", "task": "all", **changes}
    )


def trained_on(path: Path, template: str) -> Path:
    """Write SFT data in the wording of a template."""
    session = Session(("Ann", "Bo"), (BACKGROUND, ""), (Action("leave"),))
    path.write_text(json.dumps([{"conversations": sharegpt_of(session, 0, load_template(template))}]))
    return path


def test_training_data_that_is_named_must_agree_with_the_prompts(tmp_path: Path) -> None:
    path = trained_on(tmp_path / "data.json", "published")
    with pytest.raises(UserError, match="1 of 1 first turns are not what the prompt template agent.txt"):
        benchmark._runs(options(sft_data=path))
    benchmark._runs(options(sft_data=path, prompt_template=Path("published")))


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({}, True),
        ({"task": "sft"}, False),
        ({"models": ("gpt-4o",)}, False),
        ({"prompt_template": "published"}, False),
    ],
)
def test_training_data_of_the_data_folder_that_disagrees_is_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], is_told: bool
) -> None:
    """It need not be this agent's, so the run goes on."""
    trained_on(tmp_path / "sft_data.json", "published")
    benchmark._runs(options(data_dir=tmp_path, **changes))
    err = capsys.readouterr().err
    assert err.startswith("note: ") and "sotopia template --from" in err if is_told else err == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (None, None)),
        ({"preset": "published"}, (0.7, 50)),
        ({"preset": "published", "top_p": 1.0}, (1.0, 50)),
        ({"top_k": 5}, (None, 5)),
    ],
)
def test_what_is_drawn_from(changes: dict[str, Any], expected: tuple[float | None, int | None]) -> None:
    """The published agents had the defaults of the host's server: 0.7 and 50."""
    (run,) = benchmark._runs(options(**changes))
    assert (run.top_p, run.top_k) == (run.settings()["top_p"], run.settings()["top_k"]) == expected
