"""Trainings from a config to a saved model, in this process: everything of the host works with the new stages."""

import json
import math
from pathlib import Path

import pytest
import small
import torch
from dialogues import pair
from peft import PeftModel
from transformers import AutoModelForCausalLM

from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_dpo_trainer, host_tuner


install()
LN2 = pytest.approx(math.log(2), abs=1e-6)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    return folder


def train(home: Path, name: str, **options: object) -> str:
    output = str(home / name)
    host_tuner.run_exp(small.config(home, output_dir=output, **options))
    return output


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
@pytest.mark.parametrize("finetuning_type", ["full", "freeze", "lora"])
def test_every_stage_with_every_way_of_tuning(home, stage, finetuning_type):
    """The first loss is ln 2, since policy and reference are the same; then it falls, as all pairs say the same."""
    options = {} if finetuning_type != "freeze" else {"freeze_trainable_layers": 1}
    output = train(home, f"{stage}-{finetuning_type}", stage=stage, finetuning_type=finetuning_type, **options)
    found = small.losses(output)
    assert found[0] == LN2
    assert found[-1] < found[0]
    before = weights(home / "model")
    if finetuning_type == "lora":
        assert (Path(output) / "adapter_model.safetensors").is_file()
        return
    after = weights(output)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    if finetuning_type == "freeze":
        assert all("layers.1." in name for name in changed)


def test_the_log_of_a_step(home):
    entry = small.history(train(home, "log"))[0]
    assert {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"} <= set(
        entry
    )
    assert (entry["turns/chosen"], entry["turns/rejected"]) == (2, 2)
    assert entry["tokens/chosen"] > 4


def test_both_forms_of_the_data_train_the_same(home):
    assert small.losses(train(home, "adjacent")) == small.losses(train(home, "ranked", dataset="ranked"))


def test_gradient_checkpointing_changes_nothing(home):
    """It is on by default in the host."""
    plain = small.losses(train(home, "plain", disable_gradient_checkpointing=True))
    assert small.losses(train(home, "checkpointed")) == pytest.approx(plain, rel=1e-5)


def test_segment_scope_turn_trains_on_less(home):
    whole, turn = (small.history(train(home, scope, segment_scope=scope))[0] for scope in ("segment", "turn"))
    assert (turn["turns/chosen"], whole["turns/chosen"]) == (1, 2)
    assert turn["tokens/chosen"] < whole["tokens/chosen"]


@pytest.mark.parametrize("switch", ["shared_history", "scored_logits_only", "reference_once"])
def test_what_makes_it_fast_changes_nothing(home, switch):
    """Every switch on its own, with evaluation and the host's gradient checkpointing."""
    options = {"val_size": 3, "do_eval": True}
    fast, slow = (small.history(train(home, f"{switch}-{on}", **options, **{switch: on})) for on in (True, False))
    for ours, theirs in zip(fast, slow, strict=True):
        for name in ours.keys() & {
            "loss",
            "grad_norm",
            "rewards/margins",
            "logps/chosen",
            "logits/chosen",
            "eval_loss",
        }:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name


def test_batches_of_pairs_of_a_length(home, tmp_path, monkeypatch):
    """transformers' own sampler reads the length that every encoded pair carries.

    Of 48 pairs every other one is long; in blocks of six batches of two that are sorted, one a block can be mixed, and
    two where the sampler moves the longest pair to the front: 6 of 24 at most, where chance mixes 12.
    """
    from llamafactory_sdpo.step.trainer import SegmentTrainer

    histories = [[f"Situation {n}. " + "So it is. " * 20 * (n % 2)] for n in range(48)]
    records = [record for n, history in enumerate(histories) for record in pair(history, [f"no {n}"], [f"yes {n}"])]
    info = {"file_name": "long.json", "formatting": "sharegpt", "columns": {"messages": "conversations"}}
    for name, content in (("long.json", records), ("dataset_info.json", {"long": info})):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    spreads = []
    step = SegmentTrainer.training_step

    def observed(self, model, inputs, *args, **kwargs):
        lengths = inputs["attention_mask"].sum(-1)
        spreads.append((lengths.max() - lengths.min()).item())
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SegmentTrainer, "training_step", observed)
    options = {"dataset_dir": str(tmp_path), "dataset": "long", "max_steps": -1, "num_train_epochs": 1}
    train(home, "grouped", train_sampling_strategy="group_by_length", **options)
    assert len(spreads) == 24 and sum(spread > 20 for spread in spreads) <= 6, spreads


@pytest.mark.parametrize("loss", ["hinge", "ipo", "orpo", "simpo"])
def test_the_hosts_variants_of_the_loss(home, loss):
    found = small.losses(train(home, loss, pref_loss=loss, pref_ftx=0.1))
    assert len(found) == 3 and all(map(math.isfinite, found))


def test_bf16(home, caplog):
    """The trainer wraps the model's forward for it; the fast path is taken all the same, or it would be said."""
    with caplog.at_level("WARNING", logger="llamafactory_sdpo"):
        found = small.losses(train(home, "bf16", bf16=True, use_cpu=True))
    assert found[0] == pytest.approx(math.log(2), abs=1e-2)
    assert "shared_history is off" not in caplog.text


def test_evaluation_on_held_out_pairs(home):
    """Exact over pairs whatever the batch size: 5 pairs in batches of 2 and of 5 give the same numbers."""
    found = []
    for size in (2, 5):
        output = train(
            home, f"eval-{size}", val_size=5, eval_strategy="steps", eval_steps=3, per_device_eval_batch_size=size,
            plot_loss=True,
        )  # fmt: skip
        found.append([entry for entry in small.history(output) if "eval_loss" in entry][-1])
        assert {path.name for path in Path(output).glob("*.png")} == {
            "training_curves.png",
            "training_loss.png",
            "training_eval_loss.png",
            "training_rewards_accuracies.png",
        }
    for name in ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_rewards/chosen"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4)
    assert found[0]["eval_pairs"] == 5
    assert found[0]["eval_loss"] < math.log(2)


def test_a_run_goes_on_from_its_checkpoint(home):
    whole = small.losses(train(home, "whole", save_strategy="steps", save_steps=2, max_steps=4))
    resumed = train(home, "resumed", max_steps=4, resume_from_checkpoint=str(home / "whole" / "checkpoint-2"))
    assert small.losses(resumed) == whole
    for one, other in zip(weights(home / "whole").values(), weights(resumed).values(), strict=True):
        assert torch.equal(one, other)


def test_an_adapter_on_an_adapter_and_its_export(home):
    """SFT with LoRA, then SDPO on a new adapter: the reference is the SFT agent, so the first loss is ln 2."""
    sft = train(home, "sft", stage="sft", dataset="sft", finetuning_type="lora")
    sdpo = train(
        home, "on-sft", finetuning_type="lora", adapter_name_or_path=sft, create_new_adapter=True, learning_rate=1e-2
    )
    assert small.losses(sdpo)[0] == LN2
    exported = home / "exported"
    host_tuner.export_model(
        {
            "model_name_or_path": str(home / "model"),
            "adapter_name_or_path": f"{sft},{sdpo}",
            "template": "llama3",
            "finetuning_type": "lora",
            "export_dir": str(exported),
            "infer_dtype": "float32",
        }
    )
    base = AutoModelForCausalLM.from_pretrained(home / "model")
    with_sft = PeftModel.from_pretrained(base, sft).merge_and_unload()
    with_both = PeftModel.from_pretrained(with_sft, sdpo).merge_and_unload()
    tokens = torch.tensor([[5, 6, 7]])
    merged = AutoModelForCausalLM.from_pretrained(exported)
    assert torch.allclose(merged(tokens).logits, with_both(tokens).logits, atol=1e-4)


def test_the_hosts_own_dpo_is_untouched(home):
    """stage dpo still reads the host's form and runs the host's trainer: no turns in its log."""
    from llamafactory_sdpo.step.trainer import SegmentTrainer

    rows = small.Path(home / "data" / "ranked.json").read_text(encoding="utf-8")
    one_turn = [{**row, "chosen": row["chosen"][0], "rejected": row["rejected"][0]} for row in json.loads(rows)]
    (home / "data" / "host.json").write_text(json.dumps(one_turn), encoding="utf-8")
    info = json.loads((home / "data" / "dataset_info.json").read_text(encoding="utf-8"))
    info["host"] = {**info["ranked"], "file_name": "host.json"}
    (home / "data" / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    theirs = train(home, "host-dpo", stage="dpo", dataset="host")
    assert "turns/chosen" not in small.history(theirs)[0]
    assert host_dpo_trainer.CustomDPOTrainer is not SegmentTrainer
    # The same pairs of one turn through our stage: the same losses.
    ours = train(home, "host-as-sdpo", dataset="host")
    assert small.losses(ours) == pytest.approx(small.losses(theirs), abs=1e-6)
