"""The order of a curriculum, by hand and in a training; and the best checkpoint by a rule of ours."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small
import torch
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, skip_first_batches
from dialogues import pair
from safetensors.torch import load_file
from torch.utils.data import BatchSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from llamafactory_sdpo.data.gaps import gap_of
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host import running
from llamafactory_sdpo.host.arguments import parse_args
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_parser, host_tuner
from llamafactory_sdpo.step.curriculum import Curriculum
from llamafactory_sdpo.step.groups import SeededGroups
from llamafactory_sdpo.step.masks import SegmentDataCollator
from llamafactory_sdpo.step.trainer import SegmentTrainer


def test_short_pairs_with_a_large_gap_come_first() -> None:
    """Ranks of lengths 2 0 1 2 and of gaps 0 2 1 2 (the last ties): sums 2 2 2 4; the first three in a seeded order."""
    order = list(Curriculum([30, 10, 20, 30], [5, 1, 3, 1], seed=3))
    assert order[-1] == 3 and sorted(order) == [0, 1, 2, 3]
    assert list(Curriculum([10, 20, 30], [0, 0, 0], 1)) == [0, 1, 2]
    assert list(Curriculum([5, 5, 5], [1, 3, 2], 1)) == [1, 2, 0]


def test_later_epochs_are_in_another_order_that_a_seed_repeats() -> None:
    lengths, gaps = list(range(30)), [0.0] * 30
    found = []
    for seed in (1, 1, 2):
        sampler = Curriculum(lengths, gaps, seed)
        sampler.set_epoch(1)
        found.append(list(sampler))
    assert found[0] == found[1] != found[2] and sorted(found[0]) == lengths and found[0] != lengths


@pytest.mark.parametrize(("data_seed", "seed"), [(None, 5), (0, 0), (3, 3)])
def test_the_seed_is_that_of_the_data_if_there_is_one(data_seed: int | None, seed: int) -> None:
    """0 is one."""
    trainer = SimpleNamespace(
        finetuning_args=SimpleNamespace(pair_order="curriculum"),
        train_dataset={"length": [1, 2], "gap": [0.0, 0.0]},
        args=SimpleNamespace(seed=5, data_seed=data_seed),
    )
    assert SegmentTrainer._get_train_sampler(trainer).seed == seed


@pytest.mark.parametrize(
    ("record", "gap"),
    [
        ({"goal_gain": 4.0, "relationship_gain": 9}, 4.0),
        ({"outcome_gains": {"reward": 0.5, "other": 9}}, 0.5),
        ({}, 0.0),
        ({"goal_gain": None}, 0.0),
        ({"goal_gain": float("nan")}, 0.0),
        ({"goal_gain": 10**400}, 0.0),
        ([], 0.0),
    ],
)
def test_the_gap_is_the_gain_that_the_record_tells(record: object, gap: float) -> None:
    assert gap_of(record) == gap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small.write_data(tmp_path / "data")
    small.write_model(tmp_path / "model")
    return tmp_path


def train(folder: Path, **options: object) -> None:
    install()
    host_tuner.run_exp(small.config(folder, **options))


def test_a_training_goes_through_the_pairs_in_this_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps 0 to 5 of pairs that are equally long, so the last comes first."""
    records = [{**record, "goal_gain": n} for n in range(6) for record in pair(["u"], [f"no {n}"], [f"yes {n}"])]
    (folder / "data" / "pairs.json").write_text(json.dumps(records))
    seen: list[int] = []
    collate = SegmentDataCollator.__call__

    def noting(self: SegmentDataCollator, features: list[dict]) -> dict[str, torch.Tensor]:
        seen.extend(int(feature["gap"]) for feature in features)
        return collate(self, features)

    monkeypatch.setattr(SegmentDataCollator, "__call__", noting)
    train(folder, pair_order="curriculum", reference_once=False, max_steps=6)
    assert seen[:6] == [5, 4, 3, 2, 1, 0]
    assert sorted(seen[6:12]) == [0, 1, 2, 3, 4, 5] and seen[6:12] != seen[:6]


@pytest.mark.parametrize("order", [{"pair_order": "curriculum"}, {"train_sampling_strategy": "group_by_length"}])
def test_a_resumed_training_goes_on_in_its_order(folder: Path, order: dict[str, object]) -> None:
    """In the middle of the second of two epochs of six steps; the first training had a reference's pass to run."""
    options = {**order, "max_steps": 12, "cache_dir": str(folder / "cache")}
    train(folder, **options, save_strategy="steps", save_steps=8)
    whole = small.losses(folder / "out")
    kept = (folder / "out" / "checkpoint-8").rename(folder / "checkpoint-8")
    train(folder, **options, resume_from_checkpoint=str(kept))
    assert small.losses(folder / "out") == whole and len(whole) == 12


@pytest.mark.parametrize(
    "sampler",
    [
        Curriculum([1] * 12, [float(gap) for gap in range(12)], seed=3),
        SeededGroups(LengthGroupedSampler(2, lengths=list(range(12))), seed=3),
    ],
    ids=["curriculum", "groups"],
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_ranks_go_on_in_it_too(sampler: Any, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers resumes the third epoch behind its first batch: by a loader that skips, around the one of a rank."""

    def loader() -> DataLoaderShard:
        batches: BatchSampler = BatchSampler(sampler, 2, drop_last=False)
        batches = BatchSamplerShard(batches, ranks, 0) if ranks > 1 else batches
        return DataLoaderShard(list(range(12)), batch_sampler=batches, collate_fn=list)

    def resumed(_: object, *, epoch: int, train_dataloader: DataLoaderShard) -> None:
        rest = skip_first_batches(train_dataloader, 1)
        rest.set_epoch(epoch)
        seen.extend(rest)

    sampler.set_epoch(2)
    whole, seen = list(loader().batch_sampler), []
    sampler.set_epoch(0)
    monkeypatch.setattr(running, "_run_epoch", resumed)
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=5, max_steps=9))
    running.run_epoch(trainer, epoch=2, train_dataloader=loader())
    assert seen == whole[1:] and len(seen) == 6 // ranks - 1


def test_another_order_besides_is_refused(folder: Path) -> None:
    install()
    config = small.config(folder, pair_order="curriculum", train_sampling_strategy="group_by_length")
    with pytest.raises(UserError, match="pair_order: curriculum and train_sampling_strategy: group_by_length both"):
        parse_args(host_parser.get_train_args, config)


def test_the_best_checkpoint_by_the_share_of_chosen_sides_that_gained(folder: Path) -> None:
    """Two steps, evaluated and saved at each; what is kept in the end is the better one's, by what was logged."""
    rule = {"load_best_model_at_end": True, "metric_for_best_model": "rewards/chosen_positive"}
    each = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    train(folder, val_size=4, max_steps=2, do_eval=True, learning_rate=3e-2, **rule, **each)
    state = json.loads((folder / "out" / "trainer_state.json").read_text())
    name = "eval_rewards/chosen_positive"
    by_step = {one["step"]: one[name] for one in reversed(state["log_history"]) if name in one}
    best = max(by_step.values())
    assert state["best_metric"] == best and by_step[state["best_global_step"]] == best
    kept = load_file(folder / "out" / "model.safetensors")
    chosen = load_file(folder / "out" / f"checkpoint-{state['best_global_step']}" / "model.safetensors")
    assert all(torch.equal(kept[key], chosen[key]) for key in kept)
    assert any("rewards/chosen_positive" in one for one in state["log_history"])
