"""The loop's settings: where they come from, what is refused, and what the steps depend on of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import compare, demo
from sotopia_sdpo.loop.common_steps import CommonSteps
from sotopia_sdpo.loop.compare import CompareSettings
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.settings import DEMO_SERVING, Settings
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Session, load_template, sharegpt_of


BACKGROUND = "It is:\nScenario: two meet\nParticipants: Ann and Bo\nAnn's goal: win\nBo's goal: Unknown"


def test_the_command_line_wins_over_the_environment_and_this_over_the_default() -> None:
    settings = Settings.read(["TRIALS=5", "EXPERTS=a b"], {"TRIALS": "4", "BATCH": "7", "PATH": "x"})
    assert (settings.trials, settings.batch, settings.sft_trials) == (5, 7, 3)
    assert settings.experts == ("a", "b")


def test_an_empty_value_is_one_for_options_alone() -> None:
    settings = Settings.read([], {"NEG_OPTIONS": "", "SDPO_OPTIONS": "", "TRIALS": "", "PARTNER": ""})
    assert settings.neg_options == settings.sdpo_options == ()
    assert settings.trials == 3 and settings.partner == "simulated/gpt-4o"


def test_methods_on_pairs_take_sdpos_options_unless_they_have_their_own() -> None:
    assert CompareSettings.read([], {}).pair_options == Settings.read([], {}).sdpo_options
    assert CompareSettings.read(["SDPO_OPTIONS=a=1"], {}).pair_options == ("a=1",)
    assert CompareSettings.read(["SDPO_OPTIONS=a=1", "PAIR_OPTIONS="], {}).pair_options == ()


def test_files_may_be_patterns_and_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jsonl", "a.jsonl", "dump.rdb"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in Settings.read(["IMPORT=*.jsonl dump.rdb"], {}).import_] == [
        "a.jsonl",
        "b.jsonl",
        "dump.rdb",
    ]
    (tmp_path / "model").mkdir()
    assert Settings.read(["BASE=model"], {}).base == tmp_path / "model"
    assert Settings.read(["BASE=meta-llama/Llama-3.1-8B"], {}).base == "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("TRAILS=5", "no setting is named TRAILS; did you mean TRIALS=5"),
        ("trials=5", "did you mean TRIALS=5"),
        ("XYZ=5", "no setting is named XYZ; --help lists"),
        ("fast", "expected NAME=VALUE"),
        ("TRIALS=many", "TRIALS=many: expected a whole number"),
        ("SFT_CONFIG=none.yaml", "SFT_CONFIG=none.yaml: .*none.yaml is not a file"),
        ("PROMPT_TEMPLATE=none.txt", "PROMPT_TEMPLATE=none.txt: .*none.txt is not a file"),
        ("ARMS=kto", "no arm is named kto; there are preferred_sft dpo"),
    ],
)
def test_what_is_refused(word: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        CompareSettings.read([word], {})


def test_a_misspelt_variable_is_found() -> None:
    """Other variables of a shell are not meant, however many there are."""
    shell = (
        "HOME",
        "PATH",
        "TERM",
        "USER",
        "LANG",
        "SHELL",
        "PWD",
        "TMPDIR",
        "EDITOR",
        "LOGNAME",
        "DISPLAY",
        "TZ",
        "_",
    )
    given = dict.fromkeys([*shell, "TRAILS", "SPLIT", "TRIALS", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"], "1")
    assert Settings.misspelt(given) == {"TRAILS": "TRIALS", "SPLIT": "SPLITS"}


@pytest.mark.parametrize("script", [demo, compare])
def test_help_fits_a_terminal(script: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "  TRIALS\n      New sessions of every negative. (default: 3)\n" in out
    assert max(map(len, out.splitlines())) <= 80 and str(Path.home()) not in out


def steps_of(settings: Settings) -> dict[str, object]:
    common = CommonSteps(settings, Machine(settings))
    steps = [*common.to_agent(), *common.to_pairs(), demo.sdpo(common), common.evaluated("sft_eval", "evaluate it")]
    return {step.name: (step.words(), step.files()) for step in steps}


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("BATCH=50", set()),
        (f"SERVE_CONFIG={DEMO_SERVING[1]}", set()),
        ("SFT_OPTIONS=a=1", {"sft"}),
        ("SDPO_OPTIONS=a=1", {"sdpo"}),
        ("ANNOTATOR=x", {"locate", "segments"}),
        ("NEG_COMBOS=1", {"negatives"}),
        ("NEG_OPTIONS=", {"filter"}),
        ("EVAL_TASK=hard", {"sft_eval"}),
        ("BASE=x", {"sft"}),
        (
            "PROMPT_TEMPLATE=published",
            {"experts", "sft_data", "negatives", "filter", "positives", "pairs", "sft_eval"},
        ),
        ("TEMPLATE=x", {"sft", "sdpo", "negatives", "positives", "sft_eval"}),
    ],
)
def test_which_steps_a_setting_is_of(changed: str, steps: set[str]) -> None:
    """Those after them are done again as well."""
    before, after = steps_of(Settings.read([], {})), steps_of(Settings.read([changed], {}))
    assert {name for name in before if before[name] != after[name]} == steps


TALKER = """
import sys
from sotopia_sdpo.loop import command_line
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.runner import say
from sotopia_sdpo.loop.settings import Settings

def loop(*_):
    while True:
        say("a line")

sys.exit(command_line.run(command_line.Script("talk", "", Settings, loop), sys.argv[1:], Machine))
"""


def test_a_reader_that_goes_away_ends_it_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TALKER, f"RUN={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        assert process.wait(60) == 141 and process.stderr.read() == ""


def test_help_that_nobody_reads_is_no_bug() -> None:
    command = [sys.executable, "-c", "from sotopia_sdpo.loop import demo; raise SystemExit(demo.main(['--help']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.wait(60) == 141 and process.stderr.read() == ""


def test_data_that_is_worded_in_another_way_is_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(("Ann", "Bo"), (BACKGROUND, ""), (Action("leave"),))
    given = tmp_path / "given.json"
    given.write_text(json.dumps([{"conversations": sharegpt_of(session, 0, load_template("published"))}]))
    assert demo.main([f"RUN={tmp_path}/run", f"SFT_DATA={given}"]) == 2
    err = capsys.readouterr().err
    assert "1 of 1 first turns are not what the prompt template agent.txt" in err and "PROMPT_TEMPLATE=FILE" in err
    assert not (tmp_path / "run").exists()
