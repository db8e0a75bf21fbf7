"""compare.sh with tuning and several SFT agents: which steps run, on which scenarios, once; with a runner that pretends.

Steps, their order, keys and records are the real ones; what a command would make is made up, and goals are by arm.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import compare, plan, scenarios, tuning
from sotopia_sdpo.loop.compare_settings import CompareSettings
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.methods import FLAGS
from sotopia_sdpo.loop.plan import Planner, lines_of, table
from sotopia_sdpo.make.digests import files_of
from sotopia_sdpo.make.lines import Line
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.make.steps import Command, Step
from sotopia_sdpo.places import TRAINING
from sotopia_sdpo.results.league import league_of
from sotopia_sdpo.results.league_tables import record_of
from sotopia_sdpo.results.score_files import read_tables
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.documents import to_entry
from sotopia_sdpo.world.cast import demo_splits


PAIR_ARMS = ("dpo", "eto", "dmpo", "sdpo", "sdpo_3", "sdpo_rest")
GOALS = {"sft": 3.0, "sdpo": 6.0}
BEST = {"learning_rate": "0.0001", "pref_beta": "0.3"}


class Pretending(Runner):
    """Does no step, and writes what one would leave behind."""

    done: list[tuple[Path, Step]] = []

    def _do(self, step: Step, key: str, line: Line) -> dict[str, Any]:
        type(self).done.append((self.run, step))
        for path in step.writes:
            target = path / "model.safetensors" if not path.suffix else path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps([step.name]))
        made = [episode for tag in self.tags(step) for episode in episodes(step.name, tag)]
        with open_store(self.database.url) as store:
            store.put_entries(map(to_entry, made))
        wrote = [str(file.relative_to(self.run)) for path in step.writes for file in files_of(path)]
        record = {"key": key, "made": 1, "wrote": wrote, "seconds": 60.0, **self.database.took(self.tags(step))}
        (self.run / "done" / step.name).write_text(json.dumps(record))
        return record


def episodes(name: str, tag: str) -> Iterator[dict[str, Any]]:
    """Make up episodes; tuning finds that the options of BEST are better, and that the largest rate forgets its form."""
    arm, draw = name.split(".")[1] if "." in name else "", random.Random(name)
    goal = GOALS.get(arm, 3.0)
    if name.startswith("dev."):
        goal += sum(f"{option}-{value}" in name for option, value in BEST.items())
    for env, role in product(range(4), (0, 1)):
        scores = [(max(0, min(10, goal + env / 2 + draw.gauss(0, 0.2))), 1)] * 2
        failed = (
            {"status": "failed", "failure": "form", "rewards": []} if "learning_rate-0.001" in name and env else {}
        )
        models = {"models": ["j", f"a{role}", "p"], "agent_position": role}
        usage = {"usage": {"agent_0": {"calls": 3}, "judge": {"calls": 1}, "seconds": 1.0}}
        made = tiny_run.episode(f"{tag}-{env}{role}", "all", f"e{env}", [], scores, tag=tag, **models)
        yield made | usage | failed


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    Pretending.done = []


def settings_for(tmp_path: Path, *words: str) -> CompareSettings:
    plain = {**FLAGS["--tune"], "RUN": str(tmp_path / "run"), "RATES": "1 2 20", "SEEDS": "1 2", "ARMS": "dmpo sdpo"}
    return CompareSettings.read(list(words), plain)


def compete(settings: CompareSettings) -> list[str]:
    """Run the comparison, and list the steps that were done."""
    Pretending.done = []
    settings.run.mkdir(parents=True, exist_ok=True)
    with Pretending(settings.run, {"batch": "10"}) as runner:
        compare.loop(settings, Machine(settings), runner)
    return [f"{run.name}/{step.name}" for run, step in Pretending.done]


def words_of(name: str) -> list[str]:
    """Return the words of the last command of a step."""
    step = next(step for _, step in Pretending.done if step.name == name)
    return list([action for action in step.actions if isinstance(action, Command)][-1].argv)


def test_all_arms_get_as_many_trainings_and_what_was_picked_holds(tmp_path: Path) -> None:
    """Three rates and two values of β or γ each, on agent 1 alone; the rate that forgets the form is passed over."""
    names = compete(settings_for(tmp_path, "AGENTS=2"))
    tuned = {arm: [name for name in names if name.startswith(f"run/tune.{arm}.")] for arm in ("dmpo", "sdpo")}
    assert {len(found) for found in tuned.values()} == {5}
    assert not any("agent-2/tune" in name or "agent-2/dev" in name for name in names)
    picked = json.loads((tmp_path / "run" / "tuning.json").read_text())
    assert picked["sdpo"]["picked"] == BEST
    assert picked["dmpo"]["picked"]["learning_rate"] == "0.0001"
    assert [one["scored"] for one in picked["sdpo"]["tried"]] == [8, 8, 2, 8, 8]
    trained = words_of("train.sdpo.2")
    for word in ("learning_rate=0.0001", "pref_beta=0.3", "val_size=40", "seed=2", "dataset=preference_data"):
        assert word in trained
    assert sum(word.startswith(("learning_rate=", "val_size=")) for word in trained) == 2


def test_at_once_is_as_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same steps, picks and table; the plan takes as many times less of what runs at once."""
    one = compete(settings_for(tmp_path, "AGENTS=2", f"RUN={tmp_path}/one/run"))
    table_of_one = capsys.readouterr().out.split("sft", 1)
    several = compete(settings_for(tmp_path, "AGENTS=2", f"RUN={tmp_path}/two/run", "AT_ONCE=3"))
    assert sorted(several) == sorted(one) and several != one
    assert (tmp_path / "one/run/tuning.json").read_text() == (tmp_path / "two/run/tuning.json").read_text()
    assert (tmp_path / "one/run/scores.csv").read_text() == (tmp_path / "two/run/scores.csv").read_text()
    assert len(table_of_one) == 2 and compete(settings_for(tmp_path, "AGENTS=2", f"RUN={tmp_path}/two/run")) == []
    wide = settings_for(tmp_path, "AGENTS=2", f"RUN={tmp_path}/two/run", "AT_ONCE=3", "SEEDS=1 2 7 8")
    planner, narrow = Planner(wide.run, {"batch": "10"}), Planner(wide.run, {"batch": "10"})
    compare.loop(wide, Machine(wide), planner)
    compare.loop(replace(wide, at_once=1), Machine(wide), narrow)
    minutes = [{line.kind: line.seconds for line in lines_of(one.planned)} for one in (planner, narrow)]
    assert 0 < minutes[0]["train"] * 3 == minutes[1]["train"] and minutes[0]["eval"] * 3 == minutes[1]["eval"]


def test_nothing_is_done_twice_and_more_seeds_or_values_add_cells_alone(tmp_path: Path) -> None:
    first = compete(settings_for(tmp_path, "AGENTS=2"))
    assert len(first) == len(set(first)) and compete(settings_for(tmp_path, "AGENTS=2")) == []
    more = compete(settings_for(tmp_path, "AGENTS=2", "SEEDS=1 2 3"))
    assert {name.rsplit(".", 1)[1] for name in more} == {"3"} and len(more) == 2 * (1 + 2 * 2)
    wider = compete(settings_for(tmp_path, "AGENTS=2", "SEEDS=1 2 3", "RATES=1 2 20 0.5"))
    assert sorted(wider) == sorted(
        f"run/{kind}.{arm}.learning_rate-2.5e-05" for kind in ("tune", "dev") for arm in ("dmpo", "sdpo")
    )


def test_agents_share_the_experts_and_nothing_else(tmp_path: Path) -> None:
    names = compete(settings_for(tmp_path, "AGENTS=2"))
    assert sum(name.endswith("/negatives") for name in names) == 2
    second = next(step for run, step in Pretending.done if run.name == "agent-2" and step.name == "sft")
    assert "seed=2" in second.words()[-1]
    asked = next(step for run, step in Pretending.done if run.name == "agent-2" and step.name == "experts")
    assert asked.actions == ()
    given = next(step for run, step in Pretending.done if run.name == "agent-2" and step.name == "sft_data")
    assert given.reads == (tmp_path / "run" / "sft_data.json",)


def test_tuning_learning_and_evaluation_have_scenarios_of_their_own(tmp_path: Path) -> None:
    compete(settings_for(tmp_path))
    demo = demo_splits()
    learning, development = (
        json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("splits", "splits_dev")
    )
    assert words_of("negatives")[words_of("negatives").index("--splits") + 1].endswith("/splits.json")
    played = next(step for _, step in Pretending.done if step.name.startswith("dev.sdpo."))
    words = played.words()[0]
    assert (
        words[words.index("--splits") + 1].endswith("/splits_dev.json") and words[words.index("--task") + 1] == "all"
    )
    learnt = {env for name, found in learning.items() if not name.startswith("sotopia") for env in found}
    chosen, evaluated = set(development["sotopia_env"]), set(demo["sotopia_env"])
    assert chosen == set(demo["dev-round-1"]) and learning["sotopia_env"] == demo["sotopia_env"]
    assert not chosen & evaluated and not chosen & learnt and not learnt & evaluated
    assert ["--seed", "2"] == words_of("eval.sdpo.2")[-2:]


@pytest.mark.parametrize(
    ("development", "fault"),
    [
        (["none"], "the split file has no 'none'"),
        (["sotopia_hard_env"], "scenario demo-env-02 is evaluated on"),
        (["dev-round-1", "selftrain-round-2", "selftrain-round-3", "selftrain-round-4"], "leave none of dev-round-1"),
        ([], "0 scenarios"),
    ],
)
def test_scenarios_that_cannot_be_for_development(development: list[str], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        scenarios.separated(demo_splits(), development)


def test_a_model_of_tuning_is_not_trained_again_and_a_knob_can_be_left_alone(tmp_path: Path) -> None:
    names = compete(settings_for(tmp_path, "KNOBS=no", "SEEDS=0 1", "AGENTS=2"))
    assert sum(name.startswith("run/tune.sdpo.") for name in names) == 3
    trained = {name for name in names if ".sdpo" in name and "train" in name}
    assert trained == {"run/train.sdpo.1", "agent-2/train.sdpo.0", "agent-2/train.sdpo.1"}
    (picked,) = [step for run, step in Pretending.done if run.name == "run" and step.name == "eval.sdpo.0"]
    assert tmp_path / "run" / "tune" / "sdpo.learning_rate-0.0001" in picked.services[0].reads


def test_the_league_has_the_runs_of_all_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compete(settings_for(tmp_path, "AGENTS=2", "CSV=yes", "LATEX=yes"))
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "compare.json").read_text())
    assert list(found) == ["sft", "dmpo", "sdpo"] and len(found["sdpo"]["goal_by_run"]) == 4
    gain = found["sdpo"]["gain"]["goal"]
    assert (gain["runs"], gain["scenarios"], gain["units"]) == (4, 4, 16) and gain["p_holm"] < 0.05
    assert found["dmpo"]["gain"]["goal"]["p_holm"] > 0.05
    assert "unit: scenarios x run (4 scenarios x 4 runs: 16 units" in out
    pooled = league_of(read_tables([tmp_path / "run" / "scores.csv"]))
    assert [record_of(pooled, arm) for arm in pooled.arms] == list(found.values())
    assert (tmp_path / "run" / "compare.csv").exists() and (tmp_path / "run" / "compare.tex").exists()


def test_a_plan_counts_and_makes_nothing(tmp_path: Path) -> None:
    """In the demo world 8 scenarios x 5 combos x 2 roles are evaluated; of 3 for development, twice."""

    def planned(*words: str) -> dict[str, Any]:
        settings = settings_for(tmp_path, "AGENTS=2", *words)
        planner = Planner(settings.run, {"batch": "10"})
        compare.loop(settings, Machine(settings), planner)
        assert "in all" in table(planner.planned)
        return {line.kind: line for line in lines_of(planner.planned)}

    before = planned()
    assert not (tmp_path / "run").exists()
    assert before["eval"][1:4] == (12, 0, 12 * 80) and before["eval"].calls == 12 * 80 * 21
    assert before["dev"][1:4] == (10, 0, 10 * 60) and before["tune"][1:3] == (10, 0)
    assert before["train"].seconds != before["train"].seconds  # nothing was timed
    compete(settings_for(tmp_path, "AGENTS=2"))
    after = planned("SEEDS=1 2 3")
    assert {kind for kind, line in after.items() if line.cells > line.done} == {"train", "eval"}
    # Six more evaluations as those before, of 8 episodes, 32 calls and a minute; four trainings of a minute.
    assert after["eval"][1:] == (18, 12, 6 * 8, 6 * 32, pytest.approx(6 * 60))
    assert after["train"].seconds == 4 * 60


def test_a_plan_does_not_count_a_search_as_questions(tmp_path: Path) -> None:
    """An annotator is asked once for each of 20 negatives; nobody knows before how much a search plays."""
    found, calls = {}, {}
    for by in ("model", "replay"):
        words = ["ENV=game", f"LOCATE_BY={by}", f"SEGMENT_BY={by}", "NEG_QUESTS=20", "NEG_TRIALS=1", "TUNE=no"]
        settings = settings_for(tmp_path, "AGENTS=1", *words)
        planner = Planner(settings.run, {"batch": "10"})
        compare.loop(settings, Machine(settings), planner)
        lines = {line.kind: line.calls for line in lines_of(planner.planned)}
        calls[by] = {line.kind: line.calls / max(line.episodes, 1) for line in lines_of(planner.planned)}
        assert "at most 20 an episode" in table(planner.planned)
        found[by] = lines["locate"], lines["segments"], "a search by replay" in table(planner.planned)
    assert found["model"] == (20, 20, False)
    # The game has 20 actions, each a call; nobody else is asked, and gold actions ask nobody.
    assert (calls["model"]["experts"], calls["model"]["negatives"], calls["model"]["eval"]) == (0, 20, 20)
    assert found["replay"] == (pytest.approx(math.nan, nan_ok=True), pytest.approx(math.nan, nan_ok=True), True)


def test_a_plan_asks_no_environment_for_what_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package need not be there, nor say how many actions there are."""

    def missing(env: str) -> int:
        raise UserError(f"{env} is asked")

    monkeypatch.setattr(plan, "max_actions_of", missing)
    settings = settings_for(tmp_path, "AGENTS=1", "ENV=game", "MAX_ACTIONS=7", "TUNE=no")
    planner = Planner(settings.run, {"batch": "10"})
    compare.loop(settings, Machine(settings), planner)
    assert "at most 7 an episode" in table(planner.planned)


def test_the_rule_by_hand() -> None:
    """Of those with 90 % of the episodes scored the best mean, the first of equal ones; else those with the most."""

    def tried(name: str, mean: float, scored: int) -> tuning.Tried:
        return tuning.Tried((("learning_rate", name),), mean, scored, 10)

    def picked(*found: tuning.Tried) -> str:
        return tuning.pick(found).options[0][1]

    assert picked(tried("a", 3, 10), tried("b", 5, 9), tried("c", 9, 8)) == "b"
    assert picked(tried("a", 3, 10), tried("b", 3, 10)) == "a"
    assert picked(tried("a", 3, 2), tried("b", 9, 1)) == "a"
    told = tuning.line("sdpo", [tried("1", 3, 10), tried("2", 5, 10)], (1, 2))
    assert told.endswith("of learning_rate-1 3.00, learning_rate-2 5.00; the learning rate is at an end of its range")


def test_pairs_that_are_held_out_are_looked_at(tmp_path: Path) -> None:
    """The configs of real models do not evaluate by themselves; the demo's do."""
    quiet = tmp_path / "sdpo.yaml"
    quiet.write_text("finetuning_type: full\nlearning_rate: 5.0e-5\n")
    compete(settings_for(tmp_path, f"SDPO_CONFIG={quiet}", "ARMS=sdpo preferred_sft"))
    assert {"val_size=40", "do_eval=true"} <= set(words_of("train.sdpo.1"))
    assert not {"val_size=40", "do_eval=true"} & set(words_of("train.preferred_sft.1"))
    compete(settings_for(tmp_path, "RUN=" + str(tmp_path / "demo")))
    assert "val_size=40" in words_of("train.sdpo.1") and "do_eval=true" not in words_of("train.sdpo.1")


def test_the_adapter_of_a_config_is_not_that_of_the_loop(tmp_path: Path) -> None:
    """In train_lora/ it is the one that a training by hand has left; here the agent is one model."""
    lora = TRAINING / "examples" / "train_lora" / "sdpo.yaml"
    compete(settings_for(tmp_path, f"SDPO_CONFIG={lora}", "ARMS=sdpo"))
    found = next(step for _, step in Pretending.done if step.name == "train.sdpo.1").words()[0]
    assert "adapter_name_or_path=null" in found and "tokenized_path=null" not in found
    with pytest.raises(
        UserError, match="llama3_lora_vllm.yaml: adapter_name_or_path is not that of an agent of the loop"
    ):
        compete(settings_for(tmp_path, f"SERVE_CONFIG={TRAINING / 'examples/inference/llama3_lora_vllm.yaml'}"))
    compete(settings_for(tmp_path, "RUN=" + str(tmp_path / "demo"), "ARMS=sdpo"))
    assert not any(word.startswith("adapter_name_or_path") for word in words_of("train.sdpo.1"))


def test_agents_are_not_one_and_the_same(tmp_path: Path) -> None:
    """Agents after the first have their number for a seed."""
    settings = settings_for(tmp_path, "AGENTS=3", "SFT_OPTIONS=seed=3")
    with pytest.raises(UserError, match="the first agent has seed=3, which is that of agent 3 too"):
        compare.loop(settings, Machine(settings), Planner(settings.run))


def test_a_control_needs_the_data_of_the_agent(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    settings = settings_for(tmp_path, f"AGENT={tmp_path / 'agent'}", "ARMS=sdpo sft_again")
    with pytest.raises(UserError, match="ARMS: sft_again is trained like the SFT agent, whose data AGENT=.* has not"):
        compare.loop(settings, Machine(settings), Planner(settings.run))


def test_what_a_judge_did_not_judge_is_no_failure_of_a_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the best candidate's sessions has no verdict; with these as failures it would be passed over."""
    made = episodes

    def judged(name: str, tag: str) -> Iterator[dict[str, Any]]:
        for number, one in enumerate(made(name, tag)):
            is_lost = name.startswith("dev.sdpo.learning_rate-0.0001") and number < 2
            yield one | ({"status": "unscored", "failure": "no verdict", "rewards": []} if is_lost else {})

    monkeypatch.setitem(globals(), "episodes", judged)
    compete(settings_for(tmp_path, "KNOBS=no"))
    found = json.loads((tmp_path / "run" / "tuning.json").read_text())["sdpo"]
    assert found["picked"] == {"learning_rate": "0.0001"}
    assert [(one["scored"], one["episodes"]) for one in found["tried"]] == [(8, 8), (6, 6), (2, 8)]


def test_flags_are_settings_that_others_win_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = f"RUN={tmp_path}/none"
    assert compare.main(["--tune", "--plan", run, "ARMS=sdpo", "SEEDS=1", "RATES=1"]) == 0
    out = capsys.readouterr().out
    assert "tune " in out and not (tmp_path / "none").exists()
    assert compare.main(["--tun", run]) == 2 and "argument '--tun'" in capsys.readouterr().err


def test_tags_do_not_depend_on_the_run_folder_or_on_chance(tmp_path: Path) -> None:
    """Two run folders of the same settings have the same tags, so the same names of episodes."""
    tags = []
    for name in ("one", "two"):
        compete(settings_for(tmp_path, f"RUN={tmp_path / name}"))
        with open_store(f"sqlite:///{tmp_path / name / 'sotopia.db'}") as store:
            tags.append(sorted(store.counts().episodes))
    assert tags[0] == tags[1] and len(tags[0]) > 10
