"""One training without flagged pairs, from the host's entry to the card of the model, and what the card says."""

import json
from pathlib import Path

import pytest
import small

from llamafactory_sdpo.data.flags import digest_of
from llamafactory_sdpo.data.formats import Format
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.arguments import FinetuningArguments
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner
from llamafactory_sdpo.step.card import MODEL, sections_of


install()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flags")
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    return folder


def flags_of(home: Path, *digests: str) -> str:
    records = json.loads((home / "data" / "pairs.json").read_text(encoding="utf-8"))
    found = [*digests, *(digest_of(records[start : start + 2], Format()) for start in (4, 10))]
    (home / "flags.json").write_text(json.dumps({"pairs": [{"digest": one} for one in found]}), encoding="utf-8")
    return str(home / "flags.json")


def test_ten_of_twelve_pairs_and_a_card_that_says_so(home):
    """Three of the ten are held out; the rows are kept and read again, as ranks do, and refused to other flags."""
    options = {"val_size": 3, "do_eval": True, "tokenized_path": str(home / "rows"), "pref_beta": 0.25}
    chosen = small.config(home, drop_pairs=flags_of(home), finetuning_type="lora", **options)
    for _ in range(2):  # the first one writes the rows
        host_tuner.run_exp(chosen)
    card = (home / "out" / "README.md").read_text(encoding="utf-8")
    held_out = json.loads((home / "out" / "eval_results.json").read_text(encoding="utf-8"))
    assert held_out["eval_pairs"] == 3
    for line in (
        "| stage | `sdpo`: segment-level DPO on the key segment of two dialogues |",
        f"| base | `{home / 'model'}` |",
        "| β | 0.25 |",
        "- Pairs of `pairs`: 7 pairs trained on, 3 pairs held out.",
        "- Pairs that are flagged in `flags.json` were left out.",
        f"margin {held_out['eval_rewards/margins']:.3f}, loss {held_out['eval_loss']:.3f}.",
    ):
        assert line in card, line
    assert card.startswith("---\nlibrary_name: peft") and card.count("More information needed") == 1
    with pytest.raises(UserError, match="was written with another drop_pairs"):
        host_tuner.run_exp({**chosen, "drop_pairs": None})


@pytest.mark.parametrize(
    ("options", "adapters", "lines"),
    [
        ({}, [], ["| reference | `m` |", "| loss | `sigmoid` |"]),
        # A new adapter on that of SFT, which the reference has too.
        (
            {"loss_norm": "length"},
            ["sft"],
            ["| reference | `m` with `sft` |", "| loss | `sigmoid`, its sums divided by"],
        ),
        ({"ref_model": "r", "ref_model_adapters": "x,y"}, ["sft"], ["| reference | `r` with `x` with `y` |"]),
        ({"pref_loss": "simpo"}, [], ["| reference | none |"]),
    ],
)
def test_what_the_card_calls_the_reference_and_the_loss(options, adapters, lines):
    said = sections_of(FinetuningArguments(stage="sdpo", **options), "m", adapters, ["pairs"], {}, [])[MODEL]
    assert all(line in said for line in lines), said


def test_a_flag_of_another_file_stops_before_anything_is_written(home):
    with pytest.raises(UserError, match="flag 0: no pair of the dataset has the digest"):
        host_tuner.run_exp(small.config(home, drop_pairs=flags_of(home, "0" * 16), output_dir=str(home / "none")))
    assert not (home / "none").exists()
