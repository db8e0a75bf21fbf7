"""The reference's log-probabilities: asked once, kept on disk, found again only when nothing that matters has changed."""

import gc
import logging
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import small
import torch
from safetensors.torch import save

from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import CustomDPOTrainer, host_dpo_workflow, host_tuner
from llamafactory_sdpo.step import references
from llamafactory_sdpo.step.references import TurnLogps
from llamafactory_sdpo.step.trainer import SegmentTrainer


install()


@pytest.fixture
def home(tmp_path):
    small.write_data(tmp_path / "data")
    small.write_model(tmp_path / "model")
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """How often the reference model was run, by how many pairs it was asked of."""
    counts = []
    host = CustomDPOTrainer.compute_reference_log_probs

    def counted(self, model, batch):
        counts.append(len(batch["pair_keys"]))
        return host(self, model, batch)

    monkeypatch.setattr(CustomDPOTrainer, "compute_reference_log_probs", counted)
    return counts


def train(home, **options):
    """Train for three steps with the cache of this test; return the losses."""
    output = str(home / "out")
    host_tuner.run_exp(small.config(home, output_dir=output, cache_dir=str(home / "cache"), **options))
    return small.losses(output)


def tables(home):
    return sorted((home / "cache" / "sdpo-reference").glob("*"))


@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
def test_it_is_asked_once_and_then_read(home, asked, finetuning_type):
    """Twelve pairs, each once, evaluation included; then never, with the same losses, which are those of every step.

    The host has gradient checkpointing on, so the policy's layers run again after the reference was asked.
    """
    options = {"finetuning_type": finetuning_type, "val_size": 3, "do_eval": True}
    first = train(home, **options)
    assert sum(asked) == 12 and len(tables(home)) == 1
    asked.clear()
    assert train(home, **options) == first and asked == []
    every_step = train(home, **options, reference_once=False)
    assert asked and first == pytest.approx(every_step, rel=1e-5)


def test_no_reference_model_is_kept(home, monkeypatch):
    """It is made for the pass and then nobody's; with the table on disk it is not made at all."""
    made, alive = [], []
    create = host_dpo_workflow.create_ref_model

    def observed_create(model_args, finetuning_args):
        model = create(model_args, finetuning_args)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(host_dpo_workflow, "create_ref_model", observed_create)
    step = SegmentTrainer.training_step

    def observed(self, *args, **kwargs):
        gc.collect()
        alive.append(self.ref_model is not None or any(model() is not None for model in made))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(SegmentTrainer, "training_step", observed)
    train(home)
    assert len(made) == 1 and alive == [False] * 3
    train(home)
    assert len(made) == 1


def test_ranks_that_hold_other_pairs(monkeypatch, tmp_path):
    """As on machines with copies of their own; the order counts, since ranks draw their batches by it."""
    kept = references.References(lambda: None, lambda: None, lambda *_: None, tmp_path)
    kept.trainer = SimpleNamespace(train_dataset={"key": [1, 2]}, eval_dataset=None)
    monkeypatch.setattr(references, "gather_object", lambda mine: [*mine, hash((2, 1))])
    with pytest.raises(UserError, match="the ranks do not hold the same pairs; give every machine the same data"):
        kept.on_train_begin()


def change_weight(home):
    path = home / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def change_data(home):
    path = home / "data" / "pairs.json"
    path.write_text(path.read_text(encoding="utf-8").replace("always", "Always", 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (change_weight, {}),
        (change_data, {}),
        (None, {"template": "mistral"}),
        (None, {"segment_scope": "turn"}),
        (None, {"rope_scaling": "linear"}),
    ],
    ids=["weights", "data", "template", "masks", "model"],
)
def test_what_matters_is_in_the_key(home, asked, change, options):
    train(home)
    asked.clear()
    if change is not None:
        change(home)
    train(home, **options)
    assert sum(asked) == 12 and len(tables(home)) == 2


def test_every_file_that_makes_the_values_is_in_the_key(tmp_path, monkeypatch):
    """The table of stages, which has the weights, and all of the step but the table of values, orders and the card."""
    step = Path(references.__file__).parent
    files = [(step / name).resolve() for name in references.CODE]
    others = ("__init__.py", "references.py", "curriculum.py", "groups.py", "card.py")
    makers = {path for path in step.glob("*.py") if path.name not in others}
    assert set(files) == {*makers, step.parent / "stages.py"}
    copies = [Path(shutil.copy(path, tmp_path)) for path in files]
    monkeypatch.setattr(references, "CODE", tuple(map(str, copies)))
    table = references.References(lambda: {}, lambda: None, lambda *_: None, tmp_path)
    found = {table._path([1])}
    for copy in copies:
        copy.write_text(f"{copy.read_text(encoding='utf-8')}#", encoding="utf-8")
        found.add(table._path([1]))
    assert len(found) == len(copies) + 1


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 1e-5, "seed": 6, "pref_beta": 0.5, "per_device_train_batch_size": 3},
        {"stage": "eto"},
        {"stage": "dmpo", "dmpo_gamma": 0.5, "pref_loss": "ipo"},
        {"turn_weights": "confidence"},
    ],
    ids=["steps", "stage", "weights and averages", "rule"],
)
def test_what_does_not_matter_is_not(home, asked, options):
    """The table has values of turns, so it knows nothing of what they weigh; all of these score the same turns."""
    train(home)
    asked.clear()
    found = train(home, **options)
    assert asked == [] and len(tables(home)) == 1
    if options.get("turn_weights") != "confidence":
        assert found == pytest.approx(train(home, **options, reference_once=False), rel=1e-5)


def test_a_table_of_an_older_form_is_not_read(tmp_path, caplog):
    """One value a side, as it once was: named, and computed again."""
    path = tmp_path / "t.safetensors"
    old = {"keys": torch.tensor([1]), "logps": torch.tensor([[-1.0, -2.0]], dtype=torch.float64)}
    path.write_bytes(save(old, metadata={"sha256": "0" * 64}))
    assert references.read(path, [1]) is None and f"{path} is damaged" in caplog.text


def test_a_damaged_table_is_noticed(home, asked, caplog):
    """One bit, half of the file, nothing of it: each time it is said, computed again and mended."""
    first = train(home)
    (path,) = tables(home)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    for damage in (bytes(flipped), whole[: len(whole) // 2], b""):
        path.write_bytes(damage)
        asked.clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="llamafactory_sdpo"):
            assert train(home) == first
        assert sum(asked) == 12 and f"{path} is damaged" in caplog.text
        assert path.read_bytes() == whole


def test_a_resumed_run_asks_nobody(home, asked):
    """The policy is another by then; its reference is not."""
    whole = train(home, save_strategy="steps", save_steps=2, max_steps=4)
    checkpoint = home / "out" / "checkpoint-2"
    moved = checkpoint.rename(home / "checkpoint-2")
    asked.clear()
    assert train(home, max_steps=4, resume_from_checkpoint=str(moved)) == whole
    assert asked == []
    for path in tables(home):
        path.unlink()
    assert train(home, max_steps=4, resume_from_checkpoint=str(moved)) == pytest.approx(whole, rel=1e-6)


def test_streamed_pairs_ask_in_every_step(home, asked):
    assert train(home, streaming=True, max_steps=2) and len(asked) == 2


def test_a_loss_without_a_reference_has_no_table(home, asked):
    train(home, pref_loss="simpo")
    assert not tables(home)


def test_a_disk_that_refuses_costs_no_run(tmp_path, caplog):
    (tmp_path / "file").touch()
    references.write(tmp_path / "file" / "x.safetensors", {1: (TurnLogps([-0.5], [2]), TurnLogps([-0.25], [1]))})
    assert "are not kept" in caplog.text


def test_a_table_comes_back_as_it_was(tmp_path):
    """Keys have 64 bits with a sign; values are kept in float64. A pair that it lacks is a reason to compute."""
    table = {
        -(2**63): (TurnLogps([-123.456789012345, -0.1, 0.0], [60, 3, 1]), TurnLogps([-0.1], [7])),
        2**63 - 1: (TurnLogps([0.0], [0]), TurnLogps([-1e-9, -2.5], [1, 2])),
    }
    path = tmp_path / "new" / "t.safetensors"
    references.write(path, table)
    assert references.read(path, table) == table
    assert references.read(path, [*table, 5]) is None
    assert references.read(tmp_path / "none", []) is None
    assert [file.name for file in path.parent.iterdir()] == ["t.safetensors"]


def test_a_model_that_is_not_on_this_machine_is_not_cached():
    model_args = SimpleNamespace(
        model_name_or_path="nobody/nothing",
        adapter_name_or_path=None,
        adapter_folder=None,
        model_revision="main",
        cache_dir=None,
    )
    tuning = SimpleNamespace(ref_model=None)
    assert references.identity_of(model_args, SimpleNamespace(), tuning) is None


def test_a_seed_counts_where_rows_of_the_model_are_drawn_by_it(tmp_path):
    """As with tokens that the template adds; other options of the steps do not."""
    found = {}
    for resize in (False, True):
        for seed in (1, 2):
            options = {"model_name_or_path": str(tmp_path), "resize_vocab": resize, "seed": seed, "stage": "sdpo"}
            model_args, _, training_args, tuning, _ = small.arguments(**options)
            found[resize, seed] = references.identity_of(model_args, training_args, tuning)
    assert found[False, 1] == found[False, 2] and found[True, 1] != found[True, 2]


@pytest.mark.parametrize("is_own", [False, True], ids=["policy", "reference"])
def test_adapters_count_by_the_weights_that_are_read(tmp_path, is_own):
    """Those of their subfolder, where `adapter_folder` names one; a reference of its own has them in one text."""
    for name, content in (("model", "m"), ("a/one", "1"), ("a/two", "2"), ("b/one", "1"), ("b/two", "1")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "adapter_model.safetensors").write_text(content)
    model, both = str(tmp_path / "model"), f"{tmp_path}/a, {tmp_path}/b"
    named = {"ref_model": model, "ref_model_adapters": both} if is_own else {"adapter_name_or_path": both}
    found = []
    for folder in ("one", "two", "one"):
        options = {"stage": "sdpo", "model_name_or_path": model, "adapter_folder": folder, **named}
        model_args, _, training_args, tuning, _ = small.arguments(**options)
        found.append(references.identity_of(model_args, training_args, tuning)["weights"])
    assert found[0] == found[2] != found[1] and [len(weights) for weights in found] == [3, 3, 3]


def test_every_byte_of_a_checkpoint_counts(tmp_path, monkeypatch):
    """Also in files of several pieces, and as a part of the file that it is in."""
    monkeypatch.setattr(references, "PIECE", 7)
    contents = {"config.json": b"{}", "model-1.safetensors": bytes(range(20)), "model-2.safetensors": b"end"}

    def digest(**changed):
        for name, content in {**contents, **changed}.items():
            (tmp_path / name).write_bytes(content)
        return references.weights_digest(tmp_path)

    first = digest()
    assert digest() == first
    whole = contents["model-1.safetensors"]
    others = [whole[:at] + b"\xff" + whole[at + 1 :] for at in range(20)] + [whole[:-1], whole + b"\0"]
    found = {digest(**{"model-1.safetensors": other}) for other in others}
    found.add(digest(**{"model-1.safetensors": whole + b"e", "model-2.safetensors": b"nd"}))
    assert len(found) == 23 and first not in found
    (tmp_path / "README.md").write_text("not read")
    assert digest() == first
