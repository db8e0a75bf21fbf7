"""The loop's settings: where they come from, what is refused, and what the steps depend on of them."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from llamafactory.hparams.parser import get_train_args

from llamafactory_sdpo.host.arguments import checked_keys
from llamafactory_sdpo.host.install import install
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import compare, demo
from sotopia_sdpo.loop.common_steps import CommonSteps
from sotopia_sdpo.loop.compare_settings import CompareSettings
from sotopia_sdpo.loop.configs import read_config
from sotopia_sdpo.loop.machine import Machine, with_named_files
from sotopia_sdpo.loop.presets import PRESETS
from sotopia_sdpo.loop.rounds import Round, RoundSettings
from sotopia_sdpo.loop.settings import DEMO_SERVING, Settings
from sotopia_sdpo.make import runner
from sotopia_sdpo.make.runner import Runner
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
        ("AGENTS=0", "AGENTS=0: expected 1 or more"),
        ("SEEDS=1 two", "SEEDS=1 two: expected whole numbers with blanks between them"),
        ("SEEDS=  ", "expected whole numbers with blanks between them"),
        (f"BASE={'x' * 300}", "BASE=xxx.*: .*File name too long"),
        ("RUN=~nobody-is-called-so/run", "RUN=~nobody-is-called-so/run: "),
    ],
)
def test_what_is_refused(word: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        CompareSettings.read([word], {})


def test_what_is_named_twice_is_done_once() -> None:
    """Else an arm had twice as many evaluations as runs when the table was made."""
    settings = CompareSettings.read(["ARMS=sdpo dpo sdpo", "SEEDS=2 1 2"], {})
    assert (settings.arms, settings.seeds) == (("sdpo", "dpo"), ("2", "1"))


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


def steps_of(settings: RoundSettings) -> dict[str, object]:
    one = Round(settings, Machine(settings))
    steps = [*one.to_agent(), *one.to_trained(), one.evaluated("sft_eval", "evaluate it")]
    return {step.name: (step.words(), step.files()) for step in steps}


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("BATCH=50", set()),
        (f"SERVE_CONFIG={DEMO_SERVING[1]}", set()),
        ("SFT_OPTIONS=a=1", {"sft"}),
        ("SDPO_OPTIONS=a=1", {"sdpo"}),
        ("ANNOTATOR=x", {"locate", "segments"}),
        ("LOCATE_BY=replay", {"locate", "positives", "pairs"}),
        ("SEGMENT_BY=replay", {"segments"}),
        ("NEG_COMBOS=1", {"negatives"}),
        ("NEG_OPTIONS=", {"filter"}),
        ("EVAL_TASK=hard", {"sft_eval"}),
        ("ROUNDS=3", set()),
        ("REFERENCE=sft", set()),
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
    before, after = steps_of(RoundSettings.read([], {})), steps_of(RoundSettings.read([changed], {}))
    assert {name for name in before if before[name] != after[name]} == steps


def test_as_many_quests_are_played_however_often_each_is(tmp_path: Path) -> None:
    for trials, limit in (("1", "40"), ("3", "120")):
        settings = RoundSettings.read([f"RUN={tmp_path}", "ENV=game", "NEG_QUESTS=40", f"NEG_TRIALS={trials}"], {})
        ((words, _), *_) = [found for name, found in steps_of(settings).items() if name == "negatives"]
        assert words[0][words[0].index("--limit") + 1] == limit
        assert words[0][words[0].index("--trials") + 1] == trials


def test_a_preset_changes_defaults_and_nothing_that_is_typed() -> None:
    quests = Settings.read(["ENV=scienceworld", "MODEL=smollm2", "TRIALS=5", "TASKS_OF=find-plant,find-animal"], {})
    assert (quests.locate_by, quests.segment_by, quests.trials, quests.neg_options) == ("replay", "replay", 5, ())
    assert (quests.base, quests.template, quests.serve_config) == ("smollm2", "smollm", DEMO_SERVING[1])
    assert quests.tasks_of == ("find-plant", "find-animal")
    assert Settings.read(["MODEL=smollm2"], {"BASE": "other"}).base == "other"
    # The file that a shell reads when it starts is no environment.
    assert (
        Settings.read([], {"ENV": "/etc/shrc"}).env == "sotopia" and Settings.read([], {"ENV": "game"}).env == "game"
    )


@pytest.mark.parametrize("options", ["sft_options", "sdpo_options", "preferred_sft_options"])
@pytest.mark.parametrize("model", [f"MODEL={name}" for name in PRESETS["MODEL"]])
def test_the_training_side_reads_the_options_of_presets(model: str, options: str, tmp_path: Path) -> None:
    """As it checks a config before a training: what the steps add to it is named in test_steps.py."""
    install()
    settings = CompareSettings.read([model], {})
    config = settings.sdpo_config if options == "sdpo_options" else settings.sft_config
    given = dict(word.split("=", 1) for word in getattr(settings, options))
    values = {name: yaml.safe_load(value) for name, value in given.items()}
    merged = read_config(config) | values | {"model_name_or_path": str(tmp_path), "output_dir": str(tmp_path / "out")}
    assert get_train_args(checked_keys(merged))[2].do_train


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("ENV=game2", "ENV=game2: expected sotopia or scienceworld or game"),
        ("MODEL=gpt-2", "MODEL=gpt-2: expected smollm2"),
        ("AGENT=none/here", "AGENT=none/here: none/here is not a folder"),
    ],
)
def test_what_is_no_preset_is_refused(word: str, found: str) -> None:
    with pytest.raises(UserError, match=found):
        Settings.read([word], {})
    with pytest.raises(UserError, match="only sessions of SOTOPIA have it"):
        Settings.read(["ENV=game", "PROMPT_TEMPLATE=published"], {})


@pytest.mark.parametrize(
    ("options", "is_adapter"),
    [("", False), ("finetuning_type=lora", True), ("finetuning_type=lora finetuning_type=full", False)],
)
def test_an_adapter_is_merged_before_anything_takes_it(options: str, is_adapter: bool) -> None:
    settings = Settings.read([f"SFT_OPTIONS={options} a=1", "MODEL=smollm2"], {})
    (sft,) = [step for step in CommonSteps(settings, Machine(settings)).to_agent() if step.name == "sft"]
    train, *merge = sft.words()
    folder = settings.run / "sft"
    assert f"output_dir={folder / 'adapter' if is_adapter else folder}" in train and sft.writes == (folder,)
    assert [words[3:] for words in merge] == is_adapter * [
        ["export", "--model_name_or_path", "smollm2", "--adapter_name_or_path", str(folder / "adapter"),
         "--finetuning_type", "lora", "--template", "smollm", "--export_dir", str(folder)]
    ]  # fmt: skip


def test_a_config_may_say_that_it_makes_an_adapter() -> None:
    lora = DEMO_SERVING[0].parents[1] / "demo" / "sdpo_lora.yaml"
    machine = Machine(Settings.read([], {}))
    assert machine.is_adapter(lora, ()) and not machine.is_adapter(lora.with_name("sdpo.yaml"), ())
    assert not machine.is_adapter(lora, ("finetuning_type=full",))


def test_an_agent_that_is_there_is_one(tmp_path: Path) -> None:
    settings = CompareSettings.read(["AGENTS=2", f"AGENT={tmp_path}", f"RUN={tmp_path}/run"], {})
    with pytest.raises(UserError, match="AGENTS=2: AGENT=.* is one agent"):
        compare.loop(settings, Machine(settings), Runner(settings.run))


def test_a_text_of_a_config_is_not_taken_for_a_path(tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text(f"default_system: {'x' * 300}\ndeepspeed: {config}\n")
    assert with_named_files(config) == (config, config)


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "file").touch()
    assert demo.main([f"RUN={tmp_path}/file"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file: File exists; mend that, and the same command ")

    def full(path: Path, _: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runner, "write_whole", full)
    assert demo.main([f"RUN={tmp_path}/run"]) == 2
    err = capsys.readouterr().err
    assert (
        err == f"error: {tmp_path}/run: No space left on device; mend that, and the same command goes on from here\n"
    )


TALKER = """
import sys
from sotopia_sdpo.loop import command_line
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.make.lines import say
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


@pytest.mark.parametrize(
    "word", ["redis://:hunter22@h/0", "TRAILS=redis://h/0?password=hunter22", "BATCH=redis://:hun'ter22@h/0"]
)
def test_a_password_where_none_is_expected_is_not_shown(word: str) -> None:
    with pytest.raises(UserError, match="expected|no setting is named") as caught:
        Settings.read([word], {})
    assert "ter22" not in str(caught.value)
