"""Rounds of the loop: which steps a later one has, how pairs are mixed, and when no other round is begun."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from running import Command

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.places import DEMO_SERVING
from sotopia_sdpo.loop.rounds import Gain, Round, RoundSettings, all_rounds, gain_of
from sotopia_sdpo.make.digests import files_of
from sotopia_sdpo.results.stats import Estimate
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.documents import to_entry


def rounds_of(*words: str) -> list[Round]:
    settings = RoundSettings.read(words, {})
    return list(all_rounds(settings, Machine(settings)))


def commands_of(one: Round) -> dict[str, str]:
    return {step.name: " ".join(word for words in step.words() for word in words) for step in one.to_trained()}


@pytest.mark.parametrize("words", [(), ("ENV=game",), ("LOCATE_BY=replay", "SEGMENT_BY=replay")])
def test_a_later_round_has_the_steps_of_the_first_in_its_own_folder(tmp_path: Path, words: tuple[str, ...]) -> None:
    first, second, third = rounds_of(f"RUN={tmp_path}", "ROUNDS=3", *words)
    assert [one.agent.folder for one in (first, second, third)] == [
        tmp_path / "sft",
        tmp_path / "sdpo",
        tmp_path / "round-2" / "sdpo",
    ]
    names = [f"{step.name}.2" for step in first.to_trained()]
    assert [step.name for step in second.to_trained()] == [*names[:-1], "mix.2", "sdpo.2"]
    assert not any("round-" in text or ".2" in text for text in commands_of(first).values())
    written = [path for step in third.to_trained() for path in step.writes]
    assert written and all(path.is_relative_to(tmp_path / "round-3") for path in written)
    # What is read is of this round, but for the agent and the pairs of the one before.
    of_others = {
        path for step in third.to_trained() for path in step.reads if tmp_path / "round-3" not in path.parents
    }
    assert {path for path in of_others if path.is_relative_to(tmp_path)} == {
        tmp_path / "dataset_info.json",
        tmp_path / "round-2" / "preference_data_mixed.json",
        tmp_path / "round-2" / "sdpo",
    }
    for text in commands_of(third).values():
        assert "{negatives}" not in text and ".2}" not in text


SWAPPED = ("SWAP=yes", f"SERVE_CONFIG={DEMO_SERVING[1]}", "SDPO_OPTIONS=finetuning_type=lora lora_rank=16")


@pytest.mark.parametrize("words", [(), ("ENV=game",)])
def test_one_server_is_given_the_adapters_of_all_rounds(tmp_path: Path, words: tuple[str, ...]) -> None:
    rounds = rounds_of(f"RUN={tmp_path}", "ROUNDS=3", *SWAPPED, *words)
    steps = {step.name: step for one in rounds for step in (*one.to_trained(), one.evaluation())}
    (server,) = {service for step in steps.values() for service in step.services if service.name == "agent"}
    options = {"vllm_load_adapters=true", "vllm_max_lora_rank=48"}
    assert server.reads[0] == tmp_path / "sft" and options <= set(server.argv(1))
    assert not any(step.is_alone for step in steps.values())
    one, two, three = (tmp_path / folder / "sdpo" / "adapter" for folder in ("", "round-2", "round-3"))
    played = {
        "negatives": ("agent", ""),
        "negatives.2": ("agent-{sdpo}", f"{one}"),
        "sdpo_eval": ("agent-{sdpo}", f"{one}"),
        "positives.3": ("agent-{sdpo.2}", f"{one},{two}"),
        "sdpo_eval.3": ("agent-{sdpo.3}", f"{one},{two},{three}"),
    }
    for name, (served, stack) in played.items():
        *loads, sample = steps[name].actions
        assert f"custom/{served}@{{agent}}" in sample.words()
        assert [load.words()[2:] for load in loads] == (
            [("llamafactory_sdpo.load_adapter", served, stack, "{agent}")] if stack else []
        )
    for name, stack in {"sdpo": [], "sdpo.2": [one], "sdpo.3": [one, two]}.items():
        (train,) = steps[name].actions
        assert f"model_name_or_path={tmp_path / 'sft'}" in train.words() and {*stack} <= {*steps[name].reads}
        on_top = {word for word in train.words() if word.startswith(("adapter_name_or_path", "create_new_adapter"))}
        stacked = ",".join(map(str, stack))
        assert on_top == ({f"adapter_name_or_path={stacked}", "create_new_adapter=true"} if stack else set())


def test_more_rounds_do_nothing_of_the_first_ones_again(tmp_path: Path) -> None:
    """Though the server has to be started with room for more adapters."""
    few, many = ([*rounds_of(f"RUN={tmp_path}", f"ROUNDS={count}", *SWAPPED)][:2] for count in (2, 3))
    for before, after in zip(few, many, strict=True):
        steps = zip(
            (*before.to_trained(), before.evaluation()), (*after.to_trained(), after.evaluation()), strict=True
        )
        for one, other in steps:
            assert (one.words(), one.files()) == (other.words(), other.files()), one.name


def test_an_adapter_is_what_its_training_has_made(tmp_path: Path) -> None:
    """It is not merged, so its folder alone says that it is there: else each round was trained at every start."""
    for one in rounds_of(f"RUN={tmp_path}", "ROUNDS=2", *SWAPPED):
        adapter = one.model / "adapter"
        adapter.mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (adapter / name).touch()
        (written,) = one.to_trained()[-1].writes
        assert files_of(written) == sorted(adapter.iterdir())


def test_adapters_that_locate_by_replay_are_read_too(tmp_path: Path) -> None:
    second = rounds_of(f"RUN={tmp_path}", "ROUNDS=2", "LOCATE_BY=replay", *SWAPPED)[1]
    reads = {step.name: tmp_path / "sdpo" / "adapter" in step.reads for step in second.to_pairs()}
    assert reads["locate.2"] and not reads["segments.2"] and "load_adapter" in commands_of(second)["locate.2"]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (SWAPPED[:2], "SWAP=yes: SDPO trains no adapters; add finetuning_type=lora to SDPO_OPTIONS"),
        ((SWAPPED[0], SWAPPED[2], f"SERVE_CONFIG={DEMO_SERVING[0]}"), "SWAP=yes: .*demo_hf.yaml does not serve with"),
    ],
)
def test_where_nothing_can_be_swapped(words: tuple[str, ...], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        rounds_of(*words)


def test_paid_answers_are_those_of_the_run(tmp_path: Path) -> None:
    """They lie in the data folder, so the scripts that ask are not given another one."""
    commands = commands_of(rounds_of(f"RUN={tmp_path}", "ROUNDS=2")[1])
    for name in ("locate.2", "segments.2"):
        assert "--data-dir" not in commands[name] and f"--output {tmp_path}/round-2/" in commands[name]
    for name in ("filter.2", "positives.2", "pairs.2"):
        assert f"--data-dir {tmp_path}/round-2" in commands[name]


def test_the_reference_is_the_agent_it_starts_from_or_the_sft_agent(tmp_path: Path) -> None:
    where = f"RUN={tmp_path}"
    assert "ref_model" not in "".join(commands_of(one)[name] for one, name in _trainings(where))
    held = [commands_of(one)[name] for one, name in _trainings(where, "REFERENCE=sft")]
    assert ["ref_model" in text for text in held] == [False, True, True]
    assert f"ref_model={tmp_path}/sft" in held[2] and f"model_name_or_path={tmp_path}/round-2/sdpo" in held[2]
    given = [commands_of(one)[name] for one, name in _trainings(where, "REFERENCE=sft", f"AGENT={tmp_path}")]
    assert given[1].endswith(f"ref_model={tmp_path}")


def _trainings(*words: str) -> list[tuple[Round, str]]:
    return [(one, one.to_trained()[-1].name) for one in rounds_of("ROUNDS=3", *words)]


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("ROUNDS=0", "ROUNDS=0: expected 1 or more"),
        ("ROUNDS=two", "ROUNDS=two: expected a whole number"),
        ("REFERENCE=base", "REFERENCE=base: expected last or sft"),
        ("STOP_EARLY=1", "STOP_EARLY=1: expected yes or no"),
        ("ROUND=3", "did you mean ROUNDS=3"),
    ],
)
def test_what_is_refused(word: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        RoundSettings.read([word], {})


@pytest.mark.parametrize(
    ("low", "high", "is_shown"),
    [(0.1, 0.5, True), (0.0, 0.0, False), (-0.1, 0.5, False), (-0.5, -0.1, False), (math.nan, math.nan, True)],
)
def test_a_gain_is_shown_by_an_interval_above_0(low: float, high: float, is_shown: bool) -> None:
    """One scenario gives no interval, which says nothing."""
    assert Gain("goal", Estimate((low + high) / 2, low, high, 9, 3)).is_shown is is_shown


def test_the_gain_of_a_round_is_paired(home: Path) -> None:
    """By scenario 3, 2 and 4: the mean is 3, and the standard error 1/sqrt(3) times t(0.975, 2) = 4.303 is 2.48."""
    goals = {"last": {"e1": 2, "e2": 4, "e3": 6, "e4": 10}, "newest": {"e1": 5, "e2": 6, "e3": 10}}
    episodes = [
        tiny_run.episode(
            f"{tag}-{env}", "all", env, [], [(goal, 1), (9, 3)], tag=tag, agent_position=0, models=["j", tag, "p"]
        )
        for tag, found in goals.items()
        for env, goal in found.items()
    ]
    with open_store(f"sqlite:///{home / 'sotopia.db'}") as store:
        store.put_entries(map(to_entry, episodes))
        gain = gain_of(store, ["last"], ["newest"])
        assert gain.line() == "goal +3.00, 95 % interval [0.52, 5.48]" and gain.is_shown
        assert not gain_of(store, ["newest"], ["last"]).is_shown


def side(env: str, role: int, episode: str, which: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "You are Ann."}, {"from": "gpt", "value": which}]
    return {
        "conversations": turns,
        "episode": episode if which == "negative" else f"{episode}-new",
        "env": env,
        "agents": ["a", "b"],
        "agent_position": role,
        "goal": 3 if which == "negative" else 8,
        "relationship": 1,
        "side": which,
        "pair": f"{episode}/{role}",
        "segment": [1, 2],
        "reason": "x",
    }


def write_pairs(path: Path, *pairs: tuple[str, int, str]) -> str:
    path.write_text(json.dumps([side(*pair, which) for pair in pairs for which in ("negative", "positive")]))
    return str(path)


def test_of_one_place_the_pairs_of_the_newest_file_are_taken(tmp_path: Path, home: Path, inside: Command) -> None:
    """Two of e1's first role are new; of the old ones those of the other role and of e2 are left, and all of e3."""
    new = write_pairs(tmp_path / "new.json", ("e1", 0, "n1"), ("e1", 0, "n2"))
    old = write_pairs(tmp_path / "old.json", ("e1", 0, "o1"), ("e1", 1, "o2"), ("e2", 0, "o3"))
    oldest = write_pairs(tmp_path / "oldest.json", ("e2", 0, "p1"), ("e3", 0, "p2"), ("e3", 0, "p3"))
    done = inside("mix", new, old, oldest)
    assert done.code == 0, done.err
    assert done.out.startswith("kept 6 of 8 pairs (2 of a place that a newer file has too) -> ")
    rows = json.loads((home / "preference_data_mixed.json").read_text())
    found = [row["pair"] for row in rows]
    assert found[::2] == found[1::2] == ["n1/0", "n2/0", "o2/1", "o3/0", "p2/0", "p3/0"]
    assert rows == [side(row["env"], row["agent_position"], row["pair"].split("/")[0], row["side"]) for row in rows], (
        "nothing of a record is changed"
    )


def test_pairs_that_tell_no_scenario_are_refused(tmp_path: Path, home: Path, inside: Command) -> None:
    plain = tmp_path / "plain.json"
    turns = [{"from": "human", "value": "You are Ann."}, {"from": "gpt", "value": "x"}]
    plain.write_text(json.dumps([{"conversations": turns}] * 2))
    found = inside("mix", str(plain))
    assert found.code == 2 and found.err.count("\n") == 1 and "do not tell their scenarios" in found.err
    assert not (home / "preference_data_mixed.json").exists()
