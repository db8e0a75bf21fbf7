"""The arithmetic of `--check`: memory and steps, with sums worked out by hand."""

import pytest

from llamafactory_sdpo.check import steps_of
from llamafactory_sdpo.memory import GIB, Model, Setting, activations, before_the_first_step, optimizer_bytes, parts


B = 10**9
EIGHT = Model(parameters=8 * B, trained=8 * B, added=0, layers=32, hidden=4096, vocabulary=128_256)
PLAIN = Setting(
    ranks=8, zero=3, offloaded=(), width=2, frozen_width=2, reference_width=2, is_pure=False, optimizer="adamw_torch",
    reference="once", tokens=1000, logits=500, recomputes=True,
)  # fmt: skip


def test_all_weights_under_zero3_take_16_bytes_a_parameter():
    """2 + 2 + 4 + 8, over 8 ranks: 16 GB each."""
    sizes = parts(EIGHT, PLAIN)
    assert [sizes[name] for name in ("weights", "gradients", "optimizer")] == [2 * B, 2 * B, 12 * B]


@pytest.mark.parametrize(
    ("zero", "ranks", "weights", "gradients", "optimizer"),
    [(0, 4, 32, 32, 64), (1, 4, 16, 16, 24), (2, 4, 16, 4, 24), (3, 4, 4, 4, 24), (3, 1, 16, 16, 96)],
)
def test_what_each_stage_of_zero_shards(zero, ranks, weights, gradients, optimizer):
    """Without it the host trains in float32: 4 + 4 + 8."""
    sizes = parts(EIGHT, PLAIN._replace(zero=zero, ranks=ranks))
    found = [sizes[name] / B for name in ("weights", "gradients", "optimizer")]
    assert found == [weights, gradients, optimizer]


@pytest.mark.parametrize(
    ("options", "weights", "gradients", "optimizer"),
    [
        ({"is_pure": True}, 16, 16, 32),
        ({"width": 4, "frozen_width": 4}, 32, 32, 64),
        ({"optimizer": "adamw_bnb_8bit"}, 32, 32, 16),
        ({"optimizer": "sgd"}, 32, 32, 0),
        ({"zero": 2, "ranks": 1, "offloaded": ("optimizer",)}, 16, 16, 0),
    ],
)
def test_other_ways_of_training(options, weights, gradients, optimizer):
    sizes = parts(EIGHT, PLAIN._replace(**{"zero": 0, **options}))
    assert [sizes[name] / B for name in ("weights", "gradients", "optimizer")] == [weights, gradients, optimizer]


def test_an_adapter_on_frozen_weights():
    """16 GB of weights, or 4 at 4 bits; 16 bytes for each of 40 million parameters of the adapter: 0.64 GB."""
    model = EIGHT._replace(trained=0, added=40_000_000)
    setting = PLAIN._replace(zero=0, ranks=1, reference="policy")
    sizes = parts(model, setting)
    assert sizes["weights"] / B == pytest.approx(16 + 0.16)
    assert (sizes["gradients"] + sizes["optimizer"]) / B == pytest.approx(0.16 + 0.32)
    assert sizes["reference"] == before_the_first_step(model, setting) == 0
    assert parts(model, setting._replace(frozen_width=0.5))["weights"] / B == pytest.approx(4 + 0.16)


def test_a_reference_of_its_own():
    """Once: before the first step, beside the policy, under ZeRO beside the optimizer too. Always: in every step."""
    assert before_the_first_step(EIGHT, PLAIN) / B == 2 + 2 + 12
    assert before_the_first_step(EIGHT, PLAIN._replace(zero=0)) / B == 32 + 16
    assert parts(EIGHT, PLAIN)["reference"] == 0
    assert parts(EIGHT, PLAIN._replace(reference="always"))["reference"] / B == 2


def test_what_is_in_the_machines_memory():
    """Where the weights are, the reference's are too: gradients alone are left, and nothing before the first step."""
    away = PLAIN._replace(offloaded=("weights", "optimizer"))
    for setting in (away, away._replace(reference="always")):
        sizes = parts(EIGHT, setting)
        assert [sizes[name] / B for name in ("weights", "gradients", "optimizer", "reference")] == [0, 2, 0, 0]
        assert before_the_first_step(EIGHT, setting) == 0


def test_activations_and_logits():
    """32 layers x 1000 tokens x 4096 x 2 bytes, and one layer at 34; logits in bf16, float32, and their gradient."""
    unit = 1000 * 4096
    assert activations(EIGHT, PLAIN) == 32 * unit * 2 + unit * 34
    assert activations(EIGHT, PLAIN._replace(recomputes=False)) == 32 * unit * 34
    assert parts(EIGHT, PLAIN)["logits"] == 500 * 128_256 * 8
    assert parts(EIGHT, PLAIN)["logits"] < GIB


def test_optimizers():
    assert [optimizer_bytes(name) for name in ("adamw_torch_fused", "paged_adamw_8bit", "adafactor", "muon")] == [
        8, 2, 0, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "size", "ranks", "accumulated", "epochs", "most", "expected"),
    [
        (180, 4, 1, 1, 3, -1, (45, 135)),
        (181, 4, 1, 1, 3, -1, (46, 138)),
        (1000, 2, 8, 2, 2, -1, (32, 64)),
        (3, 4, 2, 8, 1.5, -1, (1, 2)),
        (180, 4, 1, 1, 3, 7, (45, 7)),
    ],
)
def test_steps(rows, size, ranks, accumulated, epochs, most, expected):
    assert steps_of(rows, size, ranks, accumulated, epochs, most) == expected


def test_steps_without_batches_that_are_not_full():
    """Of 9 rows in twos: 4 batches, or 2 for each of two ranks, or 1 of three."""
    assert [steps_of(9, 2, ranks, 1, 2, -1, drops=True)[1] for ranks in (1, 2, 3)] == [8, 4, 2]
