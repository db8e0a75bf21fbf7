"""The loss: against the oracle for all stages, against hand-computed numbers, and against the host's own DPO."""

import math
import os
from functools import cache

import oracle
import pytest
import torch
from accelerate.state import AcceleratorState
from dialogues import histories, pair, segment_pairs, sessions
from hypothesis import given, settings
from hypothesis import strategies as st
from llamafactory.data.template import TEMPLATES
from llamafactory.hparams.training_args import TrainingArguments
from small import token_weights
from transformers import EvalPrediction

from llamafactory_sdpo.data.encoding import IGNORE_INDEX, PairProcessor
from llamafactory_sdpo.data.pairing import Rules, make_pairs
from llamafactory_sdpo.data.reading import Format
from llamafactory_sdpo.host.arguments import FinetuningArguments
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import CustomDPOTrainer
from llamafactory_sdpo.host.templates import dialogue_encoder
from llamafactory_sdpo.step import loss
from llamafactory_sdpo.step.logps import batch_inputs
from llamafactory_sdpo.step.loss import scored_tokens, token_logps, turn_weights, weighted
from llamafactory_sdpo.step.masks import SegmentDataCollator
from llamafactory_sdpo.step.trainer import SegmentTrainer, evaluation_metrics


install()
TOKENIZER = oracle.toy_tokenizer()
TEMPLATE = TEMPLATES["llama3"]
OUTPUT = f"{os.environ['HF_DATASETS_CACHE']}/../trainers"  # trainers make their folder even if they write nothing
POLICY, REFERENCE = (oracle.random_llama(len(TOKENIZER), seed) for seed in (1, 2))


def trainer_for(
    stage: str, trainer_class: type = SegmentTrainer, policy=POLICY, reference=REFERENCE, **options: object
):
    """A trainer of the stage around two tiny models, without a dataset."""
    tuning = FinetuningArguments(stage=stage, finetuning_type="full", **{"pref_beta": 0.3, **options})
    arguments = TrainingArguments(output_dir=OUTPUT, use_cpu=True, report_to="none", remove_unused_columns=False)
    collator = SegmentDataCollator(
        template=TEMPLATE,
        model=policy,
        tokenizer=TOKENIZER,
        pad_to_multiple_of=8,
        stage=stage,
        gamma=tuning.dmpo_gamma,
    )
    return trainer_class(
        model=policy,
        ref_model=reference,
        finetuning_args=tuning,
        processor=None,
        args=arguments,
        data_collator=collator,
        tokenizer=TOKENIZER,
    )


_made_trainer = cache(trainer_for)


def shared_trainer(stage: str):
    """One trainer a stage; made anew after a test that has reset the state which trainers share."""
    if not AcceleratorState._shared_state:
        _made_trainer.cache_clear()
    return _made_trainer(stage)


def encode(records: list[dict], rules: Rules) -> list[dict]:
    """The rows that the collator gets, by our own way from records."""
    pairs = [made._asdict() for made in make_pairs(enumerate(records), Format(), rules, "test")]
    assert not any(made["error"] for made in pairs), pairs
    processor = PairProcessor(dialogue_encoder(TEMPLATE, TOKENIZER, None, 100_000, "llama3"), False, rules.stage)
    columns = processor.preprocess_dataset({name: [made[name] for made in pairs] for name in pairs[0]})
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def messages_of(turns: list[str]) -> list[dict[str, str]]:
    return [{"role": "assistant" if index % 2 else "user", "content": turn} for index, turn in enumerate(turns)]


def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
    return torch.autograd.grad(loss, list(POLICY.parameters()))


def expect_oracle(stage: str, rows: list[dict], losses: list[torch.Tensor]) -> None:
    """Loss and every gradient of a batch are the means of the oracle's; Llama casts to float32 inside, so 1e-5."""
    trainer = shared_trainer(stage)
    loss, metrics = trainer.get_batch_loss_metrics(POLICY, trainer.data_collator(rows))
    expected = torch.stack(losses).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients(loss), gradients(expected), strict=True):
        scale = max(theirs.abs().max().item(), 1e-4)
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * scale)
    # The same numbers through evaluation, which averages over pairs.
    _, predicted, _ = trainer.prediction_step(POLICY, trainer.data_collator(rows), prediction_loss_only=False)
    for one, their in zip(predicted, losses, strict=True):
        assert one[0].item() == pytest.approx(their.item(), rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(data=st.lists(segment_pairs(), min_size=1, max_size=3), scope=st.sampled_from(["segment", "turn"]))
def test_sdpo_is_the_oracle(data, scope):
    records = [record for history, rejected, chosen in data for record in pair(history, rejected, chosen)]
    losses = []
    for history, rejected, chosen in data:
        messages = [messages_of(history + side) for side in (chosen, rejected)]
        spans = oracle.segment_spans(*messages, scope=scope)
        sides = [oracle.encode_side(TEMPLATE, TOKENIZER, side) for side in messages]
        losses.append(oracle.pair_loss(POLICY, REFERENCE, *sides, *spans, "sdpo", beta=0.3))
    expect_oracle("sdpo", encode(records, Rules("sdpo", scope=scope)), losses)


@settings(deadline=None, max_examples=12)
@given(data=st.lists(st.tuples(histories, sessions()), min_size=1, max_size=2), stage=st.sampled_from(["eto", "dmpo"]))
def test_whole_sessions_are_the_oracle(data, stage):
    """From the first differing agent turn on, also where the partner's turn before it differs already."""
    records, losses = [], []
    for history, (rejected, chosen) in data:
        records += pair(history, rejected, chosen)
        messages = [messages_of(history + side) for side in (chosen, rejected)]
        sides = [oracle.encode_side(TEMPLATE, TOKENIZER, side) for side in messages]
        spans = oracle.session_spans(*messages)
        losses.append(oracle.pair_loss(POLICY, REFERENCE, *sides, *spans, stage, beta=0.3, gamma=0.7))
    expect_oracle(stage, encode(records, Rules(stage)), losses)


def test_the_history_does_not_count_in_dmpos_discount():
    """Task/OK/Go shared, then 4 chosen turns and 1 rejected: 1 - 0.7^4 = 0.7599, 0.657 / 0.7599 = 0.865, and so on."""
    history, chosen = ["Task.", "OK", "Go."], ["a", "x", "b", "y", "c", "z", "d"]
    (row,) = encode(pair(history, ["n"], chosen), Rules("dmpo"))
    batch = shared_trainer("dmpo").data_collator([row])
    weights = [[round(weight, 3) for weight in side[side > 0].unique().tolist()] for side in token_weights(batch)]
    assert weights == [[0.395, 0.671, 0.865, 1.0], [1.0]]
    texts = [TOKENIZER.decode(labels[labels != IGNORE_INDEX]) for labels in batch["labels"]]
    end = "<|eot_id|>"
    assert texts == [f"a{end}b{end}c{end}d{end}", f"n{end}"]


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo", "orpo", "simpo"])
def test_shared_turns_cancel_in_sums_alone(loss_type):
    """Scored or not, they leave the differences of `eto` as they are; means over tokens are others with them."""
    rows = encode(pair(["u", "OK, let us go", "v"], ["no", "w", "never"], ["yes"]), Rules("eto"))
    assert rows[0]["first_turn"] == 1
    trainer = trainer_for("eto", pref_loss=loss_type)
    without, including = (
        trainer.get_batch_loss_metrics(POLICY, trainer.data_collator([{**rows[0], "first_turn": first}]))[0].item()
        for first in (1, 0)
    )
    if loss_type in ("sigmoid", "hinge"):
        assert without == pytest.approx(including, rel=1e-5)
    else:
        assert abs(without - including) > 1e-3


def test_a_given_segment_scores_its_turns_alone():
    """History of one agent turn, then two that differ, of which the segment holds the first."""
    turns = ["u0", "a0", "u1"], ["a1", "u2", "a2"], ["b1", "u2", "b2"]
    rows = encode(pair(*turns, segment=[3, 4]), Rules("sdpo"))
    messages = [messages_of(turns[0] + side) for side in (turns[2], turns[1])]
    sides = [oracle.encode_side(TEMPLATE, TOKENIZER, side) for side in messages]
    expected = oracle.pair_loss(POLICY, REFERENCE, *sides, (2, 2), (2, 2), "sdpo", beta=0.3)
    expect_oracle("sdpo", rows, [expected])


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo", "orpo", "simpo"])
def test_a_segment_that_is_the_whole_answer_is_the_hosts_dpo(loss_type):
    """One human turn, one differing answer: same batch, same loss as the host's own trainer, for its variants too."""
    rows = encode(
        pair(["u0 é"], ['{"a": "worse"}'], ['{"a": "better one"}']) + pair(["v"], ["x"], ["y y y"]), Rules("sdpo")
    )
    options = {"pref_loss": loss_type, "pref_ftx": 0.2}
    ours = trainer_for("sdpo", **options)
    theirs = trainer_for("dpo", CustomDPOTrainer, **options)
    batch = ours.data_collator(rows)
    host_batch = {name: value.clone() for name, value in {**batch_inputs(batch), "labels": batch["labels"]}.items()}
    our_loss, our_metrics = ours.get_batch_loss_metrics(POLICY, batch)
    host_loss, host_metrics = theirs.get_batch_loss_metrics(POLICY, host_batch)
    assert our_loss.item() == pytest.approx(host_loss.item(), rel=1e-6, abs=1e-6)
    for name in host_metrics:
        if not name.startswith("logits/"):
            assert our_metrics[name] == pytest.approx(host_metrics[name], abs=1e-5), name
    _, predicted, _ = ours.prediction_step(POLICY, batch, prediction_loss_only=False)
    assert predicted[:, 0].mean().item() == pytest.approx(host_loss.item(), rel=1e-6, abs=1e-6)


# ---- weights and masks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "turns", "first", "gamma", "expected"),
    [
        ("sdpo", 3, 1, 0.7, [0, 1, 1]),
        ("eto", 3, 0, 0.7, [1, 1, 1]),
        # (1 - 0.7^3, 1 - 0.7^2, 1 - 0.7) / (1 - 0.7^3) = (0.657, 0.51, 0.3) / 0.657
        ("dmpo", 3, 0, 0.7, [1, 0.51 / 0.657, 0.3 / 0.657]),
        ("dmpo", 1, 0, 0.7, [1]),
        ("dmpo", 4, 0, 1.0, [1, 3 / 4, 2 / 4, 1 / 4]),
    ],
)
def test_turn_weights(stage, turns, first, gamma, expected):
    assert turn_weights(stage, turns, first, gamma) == pytest.approx(expected)


def test_dmpo_weights_approach_their_limit():
    assert turn_weights("dmpo", 5, 0, 1 - 1e-7) == pytest.approx(turn_weights("dmpo", 5, 0, 1.0), rel=1e-5)


def test_a_batch_by_hand():
    """Two pairs; the scored tokens decoded, and their weights, row by row: chosen sides first."""
    records = pair(["u0", "a0", "u1"], ["worse"], ["better"]) + pair(["w"], ["n1", "p", "n2"], ["y1", "q", "y2"])
    batch = shared_trainer("sdpo").data_collator(encode(records, Rules("sdpo")))
    scored = [TOKENIZER.decode(row[row != IGNORE_INDEX]) for row in batch["labels"]]
    end = "<|eot_id|>"
    assert scored == [f"better{end}", f"y1{end}y2{end}", f"worse{end}", f"n1{end}n2{end}"]
    assert torch.equal(token_weights(batch) > 0, batch["labels"] != IGNORE_INDEX)
    assert set(token_weights(batch).unique().tolist()) == {0.0, 1.0}
    assert batch["labels"].shape[1] % 8 == 0
    assert torch.equal(
        batch["labels"][batch["labels"] != IGNORE_INDEX], batch["input_ids"][batch["labels"] != IGNORE_INDEX]
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_weights_follow_the_padding(side, monkeypatch):
    monkeypatch.setattr(TOKENIZER, "padding_side", side)
    rows = encode(pair([], ["u", "aaaa", "u", "b"], ["u", "c"]), Rules("dmpo"))
    batch = shared_trainer("dmpo").data_collator(rows)
    assert torch.equal(token_weights(batch) > 0, batch["labels"] != IGNORE_INDEX)
    late = pytest.approx(0.3 / 0.51)  # the second of two turns: (1 - 0.7) / (1 - 0.7^2)
    assert [sorted(set(row[row > 0].tolist())) for row in token_weights(batch)] == [[1.0], [late, 1.0]]


def test_the_log_counts_turns_and_tokens_a_side():
    trainer = shared_trainer("sdpo")
    rows = encode(pair(["u"], ["a", "u", "b"], ["c", "u", "d"]) + pair(["u"], ["a"], ["c"]), Rules("sdpo"))
    _, metrics = trainer.get_batch_loss_metrics(POLICY, trainer.data_collator(rows))
    # One pair scores two turns a side, the other one; every turn is one letter and its end.
    assert (metrics["turns/chosen"], metrics["turns/rejected"]) == (1.5, 1.5)
    assert (metrics["tokens/chosen"], metrics["tokens/rejected"]) == (3, 3)


def test_scored_tokens_by_hand():
    """Two rows of two turns and of one; the label at position 0 has nothing that predicts it."""
    labels = torch.tensor([[2, 1, IGNORE_INDEX, 3], [IGNORE_INDEX, 5, IGNORE_INDEX, IGNORE_INDEX]])
    turns = torch.tensor([[0, 0, 7, 1], [7, 0, 7, 7]])
    weights = torch.tensor([[1.0, 0.5], [0.25, 0.0]], dtype=torch.float64)
    scored = scored_tokens(labels, turns)
    assert [part.tolist() for part in scored] == [[0, 0, 1], [0, 2, 0], [1, 3, 5], [0, 1, 0]]
    sums = scored.by_turn(torch.tensor([-1.0, -2.0, -4.0]), weights)
    assert sums.tolist() == [[-1.0, -2.0], [-4.0, 0.0]]
    tokens = scored.by_turn(torch.ones(3), weights)
    wholes, averages = weighted(sums, tokens, weights, torch.float32)
    assert (wholes.tolist(), wholes.dtype) == ([-2.0, -1.0], torch.float32)
    assert averages.tolist() == pytest.approx([-2 / 1.5, -4.0])


def test_token_logps_by_hand():
    """Uniform logits over 4 tokens: every token costs ln 4, whatever the type; the gradient is 1/4 - [is target]."""
    logits = torch.zeros(2, 4, dtype=torch.bfloat16, requires_grad=True)
    logps = token_logps(logits, torch.tensor([0, 1, 1]), torch.tensor([3, 0, 1]))
    assert logps.dtype == torch.float32
    assert logps.tolist() == pytest.approx([-math.log(4)] * 3)
    (gradient,) = torch.autograd.grad(logps.sum(), logits)
    assert gradient.tolist() == [[-0.25, -0.25, -0.25, 0.75], [0.5, 0.5, -0.5, -0.5]]


@settings(deadline=None, max_examples=30)
@given(data=st.data(), rows=st.integers(1, 5), vocabulary=st.integers(2, 9), chunk=st.integers(1, 20))
def test_token_logps_are_those_of_log_softmax(data, rows, vocabulary, chunk):
    """Value and gradient, whatever the chunks, with logits that predict several tokens and some that predict none."""
    source = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=8)))
    targets = torch.tensor(
        data.draw(st.lists(st.integers(0, vocabulary - 1), min_size=len(source), max_size=len(source)))
    )
    logits = (torch.randn(rows, vocabulary, dtype=torch.float64) * 5).requires_grad_()
    factors = torch.randn(len(source), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "CHUNK_LOGITS", chunk)
        ours = token_logps(logits, source, targets)
        (our_gradient,) = torch.autograd.grad((ours * factors).sum(), logits)
    theirs = logits.log_softmax(-1)[source, targets]
    (their_gradient,) = torch.autograd.grad((theirs * factors).sum(), logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-12, atol=1e-12)


def test_evaluation_is_over_pairs():
    """Losses 1, 2, 6; rewards (1, 0), (0, 1), (2, 1): two of three right, margin (1 - 1 + 1) / 3."""

    class Prediction:
        predictions = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 1.0], [6.0, 2.0, 1.0]]).numpy()

    metrics = evaluation_metrics(Prediction())
    assert metrics["loss"] == 3 and metrics["pairs"] == 3
    assert metrics["rewards/accuracies"] == pytest.approx(2 / 3)
    assert metrics["rewards/margins"] == pytest.approx(1 / 3)


# ---- losses that are divided ----------------------------------------------------------------------------------------


def slow_score(norm: str, stage: str, side: oracle.Side, span: tuple[int, int]) -> torch.Tensor:
    """Σ w (log π - log π_ref) over the tokens of a span, over Σ w of its tokens or of its turns: one by one."""
    weights = oracle.side_weights(stage, span, 0.7, {})
    policy, reference = oracle.token_logps(POLICY, side), oracle.token_logps(REFERENCE, side)
    at = [place for place, turn in enumerate(side.turns) if turn in weights and place > 0]
    total = sum(weights[side.turns[place]] * (policy[place] - reference[place].detach()) for place in at)
    by_turn = sum(weights.values())
    return total / (sum(weights[side.turns[place]] for place in at) if norm == "length" else by_turn)


@settings(deadline=None, max_examples=5)
@given(
    data=st.tuples(histories, sessions()),
    stage=st.sampled_from(["eto", "dmpo"]),
    norm=st.sampled_from(["length", "turns"]),
)
def test_divided_losses_are_the_slow_ones(data, stage, norm):
    history, (rejected, chosen) = data
    messages = [messages_of(history + side) for side in (chosen, rejected)]
    sides = [oracle.encode_side(TEMPLATE, TOKENIZER, side) for side in messages]
    spans = oracle.session_spans(*messages)
    better, worse = (slow_score(norm, stage, *one) for one in zip(sides, spans, strict=True))
    expected = -torch.nn.functional.logsigmoid(2.0 * (better - worse))
    trainer = trainer_for(stage, loss_norm=norm, pref_beta=2.0)
    batch = trainer.data_collator(encode(pair(history, rejected, chosen), Rules(stage)))
    loss, metrics = trainer.get_batch_loss_metrics(POLICY, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["rewards/chosen"] == pytest.approx(2.0 * better.item(), rel=1e-4, abs=1e-6)
    for ours, theirs in zip(gradients(loss), gradients(expected), strict=True):
        assert torch.allclose(ours, theirs.to(ours.dtype), rtol=1e-3, atol=1e-5 * max(theirs.abs().max().item(), 1e-4))


def test_the_share_of_chosen_sides_that_gained():
    """Of every pair the reward of its chosen side, alone; batches of training and evaluation say the same."""
    trainer = shared_trainer("sdpo")
    rows = encode([record for n in range(6) for record in pair(["u"], [f"no {n}"], [f"yes {n * n}"])], Rules("sdpo"))
    _, metrics = trainer.get_batch_loss_metrics(POLICY, trainer.data_collator(rows))
    _, found, _ = trainer.prediction_step(POLICY, trainer.data_collator(rows), prediction_loss_only=False)
    share = sum(chosen > 0 for _, chosen, _ in found.tolist()) / 6
    assert metrics["rewards/chosen_positive"] == pytest.approx(share)
    three = torch.tensor([[0.5, 0.2, 0.0], [0.5, -0.2, 0.0], [0.5, 1.0, 2.0]])
    told = evaluation_metrics(EvalPrediction(three, three))
    assert told["rewards/chosen_positive"] == pytest.approx(2 / 3)
    assert told["rewards/accuracies"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"stage": "sft", "loss_norm": "length"}, "`loss_norm: length` belongs to stage sdpo or eto or dmpo"),
        ({"stage": "dpo", "pair_order": "curriculum"}, "`pair_order: curriculum` belongs to stage"),
        ({"stage": "sdpo", "loss_norm": "mean"}, "`loss_norm` is 'mean', expected one of none, length, turns"),
        ({"stage": "sdpo", "loss_norm": "turns", "pref_loss": "simpo"}, "`pref_loss: simpo` is of averages"),
    ],
)
def test_what_a_stage_would_not_read_is_refused(options, fault):
    with pytest.raises(ValueError, match=fault):
        FinetuningArguments(**options)
