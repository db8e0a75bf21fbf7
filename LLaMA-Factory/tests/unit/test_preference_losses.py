"""Every value of `pref_loss` computes its published formula, under our stages and under the host's `dpo`.

With x = log π/π_ref of a side, β, and the mean log-probability a of a side's tokens:

    sigmoid   -log σ(β(x_w - x_l))                          DPO, arXiv 2305.18290, equation 7
    hinge     max(0, 1 - β(x_w - x_l))                      SLiC-HF, arXiv 2305.10425, on DPO's ratios as in 2309.06657
    ipo       (x_w - x_l - 1/(2β))², x of the means         IPO, arXiv 2310.12036, equation 17
    orpo      -a_w - β log σ(log odds_w - log odds_l)       ORPO, arXiv 2403.07691, equations 6 and 7, odds = p/(1 - p)
    simpo     -log σ(β(a_w - a_l) - γ)                      SimPO, arXiv 2405.14734, equation 6
"""

import math

import oracle
import pytest
import torch
from dialogues import pair
from test_loss import TOKENIZER, encode, shared_trainer, trainer_for

from llamafactory_sdpo.data.pairing import Rules
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host import install as host_install
from llamafactory_sdpo.host.arguments import PREFERENCE_LOSSES, FinetuningArguments, parse_anywhere
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import CustomDPOTrainer
from llamafactory_sdpo.host.seams import seam
from llamafactory_sdpo.step.logps import batch_inputs
from llamafactory_sdpo.step.trainer import SegmentTrainer


install()

BETA, GAMMA = 0.3, 0.5
VOCABULARY = len(TOKENIZER)
AT_REFERENCE = {
    "sigmoid": math.log(2),
    "hinge": 1.0,
    "ipo": (1 / (2 * BETA)) ** 2,
    # A uniform model: every mean is -ln V, so the odds are equal.
    "orpo": math.log(VOCABULARY) + BETA * math.log(2),
    "simpo": math.log(1 + math.exp(GAMMA)),
}


def uniform() -> torch.nn.Module:
    """A model that finds every token equally likely."""
    model = oracle.random_llama(VOCABULARY, seed=1)
    torch.nn.init.zeros_(model.lm_head.weight)
    return model


@pytest.mark.parametrize("loss", PREFERENCE_LOSSES)
@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo", "dpo"])
def test_the_first_loss_of_a_training(stage, loss):
    """Policy and reference are the same, as in step 1; unequal sides, so that sums and means differ."""
    masks = "sdpo" if stage == "dpo" else stage
    rows = encode(pair(["u", "a", "v"], ["no, never"], ["yes"]), Rules(masks))
    kind = CustomDPOTrainer if stage == "dpo" else SegmentTrainer
    options = {"pref_loss": loss, "pref_beta": BETA, "simpo_gamma": GAMMA}
    trainer = trainer_for(stage, kind, uniform(), uniform(), **options)
    batch = shared_trainer(masks).data_collator(rows)
    if stage == "dpo":
        batch = {**batch_inputs(batch), "labels": batch["labels"]}
    found, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    assert found.item() == pytest.approx(AT_REFERENCE[loss], rel=1e-5)


CHOSEN, REJECTED = (-1.5, -0.5), (-2.0, -3.0)
"""Log-probabilities of a side: the policy's and the reference's. Log ratios -1 and 1, so x_w - x_l = -2."""


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def odds(logp: float) -> float:
    return math.exp(logp) / (1 - math.exp(logp))


AWAY_FROM_IT = {
    "sigmoid": -log_sigmoid(BETA * -2),
    "hinge": 1 + BETA * 2,
    "ipo": (-2 - 1 / (2 * BETA)) ** 2,
    "orpo": 1.5 - BETA * log_sigmoid(math.log(odds(-1.5) / odds(-2.0))),
    "simpo": -log_sigmoid(BETA * (-1.5 + 2.0) - GAMMA),
}


def loss_of(stage: str, kind: type, **options: object) -> float:
    """The loss of one pair with the log-probabilities above."""
    trainer = trainer_for(stage, kind, pref_beta=BETA, simpo_gamma=GAMMA, **options)
    logps = [torch.tensor([side[at]], dtype=torch.float64) for at in (0, 1) for side in (CHOSEN, REJECTED)]
    losses, _, _ = trainer.compute_preference_loss(*logps)
    return losses.item()


@pytest.mark.parametrize(("stage", "kind"), [("sdpo", SegmentTrainer), ("dpo", CustomDPOTrainer)])
@pytest.mark.parametrize("loss", PREFERENCE_LOSSES)
def test_the_formula_away_from_the_reference(stage, kind, loss):
    assert loss_of(stage, kind, pref_loss=loss) == pytest.approx(AWAY_FROM_IT[loss], rel=1e-9)


@pytest.mark.parametrize("loss", PREFERENCE_LOSSES)
@pytest.mark.parametrize("stage", ["sdpo", "dpo"])
def test_a_step_with_sft_on_top(stage, loss):
    """`pref_ftx` is added in place by the host; a backward pass must bear that, and the sum is f times -a_w more."""
    rows = encode(pair(["u"], ["no, never"], ["yes"]), Rules("sdpo"))
    batch = shared_trainer("sdpo").data_collator(rows)
    if stage == "dpo":
        batch = {**batch_inputs(batch), "labels": batch["labels"]}
    kind = CustomDPOTrainer if stage == "dpo" else SegmentTrainer
    trainer = trainer_for(stage, kind, uniform(), uniform(), pref_loss=loss, pref_beta=BETA, pref_ftx=0.2)
    found, _ = trainer.get_batch_loss_metrics(trainer.model, dict(batch))
    assert found.item() == pytest.approx(AT_REFERENCE[loss] + 0.2 * math.log(VOCABULARY), rel=1e-5)
    found.backward()
    gradient = trainer.model.lm_head.weight.grad
    assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize(("stage", "kind"), [("sdpo", SegmentTrainer), ("dpo", CustomDPOTrainer)])
def test_label_smoothing(stage, kind):
    """cDPO: a share e of the labels is taken to be wrong; (1 - e) · loss + e · loss of the pair turned round."""
    expected = -0.9 * log_sigmoid(BETA * -2) - 0.1 * log_sigmoid(BETA * 2)
    assert loss_of(stage, kind, dpo_label_smoothing=0.1) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo"])
def test_the_weight_of_bco(loss):
    """BCO (arXiv 2404.04656): -log σ(βx_w - δ) - log σ(δ - βx_l), δ the running mean of βx; here (-0.3 + 0.3) / 2 = 0.

    The host takes the mean with its loss, weighted by `pref_bco_weight` and 1.
    """
    bco = -log_sigmoid(-BETA) - log_sigmoid(-BETA)
    expected = (AWAY_FROM_IT[loss] + 0.5 * bco) / 1.5
    assert loss_of("sdpo", SegmentTrainer, pref_loss=loss, pref_bco_weight=0.5) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("stage", ["sdpo", "dpo"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pref_loss": "kto_pair"}, "`pref_loss` is 'kto_pair', expected one of sigmoid, hinge, ipo, orpo, simpo"),
        ({"pref_loss": "robust"}, "`pref_loss` is 'robust', expected one of sigmoid"),
        ({"pref_loss": "simpo", "pref_bco_weight": 0.5}, "`pref_bco_weight` needs a reference"),
    ],
)
def test_what_would_be_another_loss_is_refused(stage, options, message):
    with pytest.raises(ValueError, match=message):
        FinetuningArguments(stage=stage, **options)
    with pytest.raises(UserError, match=message):
        parse_anywhere({"stage": stage, "model_name_or_path": "m", **options})


def test_the_seam_of_the_loss():
    """TRL takes the name of the loss as an argument; after the install, the host passes it."""
    seam(CustomDPOTrainer.__mro__[1], "dpo_loss", "loss_type")
    assert CustomDPOTrainer.dpo_loss is host_install.dpo_loss
