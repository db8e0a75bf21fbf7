"""Weights as data: read, paired, masked and scored as the oracle does it, and filled by a rule where none is given."""

import json
import math
from pathlib import Path

import oracle
import pytest
import small
import torch
from datasets import Dataset
from dialogues import histories, pair, record, segment_pairs, sessions
from hypothesis import given, settings
from hypothesis import strategies as st
from small import token_weights
from test_dataset import load
from test_loss import POLICY, REFERENCE, TEMPLATE, TOKENIZER, encode, expect_oracle, messages_of, trainer_for
from test_pairing import one, pairs_of, texts
from test_sharing import EXACT_TALKERS

from llamafactory_sdpo.data.encoding import IGNORE_INDEX, PairProcessor
from llamafactory_sdpo.data.pairing import Rules
from llamafactory_sdpo.data.weights import UNWEIGHTED
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.arguments import FinetuningArguments
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner
from llamafactory_sdpo.host.templates import dialogue_encoder
from llamafactory_sdpo.stages import by_doubt
from llamafactory_sdpo.step.loss import tokens_of, weights_of
from llamafactory_sdpo.step.references import References


install()

END = "<|eot_id|>"
ENCODER = dialogue_encoder(TEMPLATE, TOKENIZER, None, 100_000, "llama3")


def weigh(dialogue: dict, *weights: float | None) -> dict:
    """The record with weights on its last agent turns, and none where one is None."""
    mine = [turn for turn in dialogue["conversations"] if turn["from"] == "gpt"]
    for turn, weight in zip(mine[len(mine) - len(weights) :], weights, strict=True):
        turn |= {} if weight is None else {"weight": weight}
    return dialogue


def weighed(history: list[str], rejected: list[str], chosen: list[str], worse=(), better=(), **extra) -> list[dict]:
    """Two adjacent records; the weights are those of the last agent turns of either."""
    negative, positive = pair(history, rejected, chosen, **extra)
    return [weigh(negative, *worse), weigh(positive, *better)]


def scored(records: list[dict], rules: Rules, stage_batch=None) -> list[dict[str, float]]:
    """The text of each scored turn and its weight: of the chosen side, then of the rejected one."""
    batch = trainer_for(rules.stage).data_collator(encode(records, rules)) if stage_batch is None else stage_batch
    found = []
    for labels, turns, weights in zip(batch["labels"], batch["turns"], weights_of(batch), strict=True):
        is_scored = labels != IGNORE_INDEX
        by_turn = [labels[is_scored & (turns == turn)] for turn in turns[is_scored].unique()]
        kept = weights[turns[is_scored].unique()].tolist()
        found.append({TOKENIZER.decode(ids): weight for ids, weight in zip(by_turn, kept, strict=True)})
    return found


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, -1, "1", True, [1], 10**400, 1e30, {}])
def test_what_is_no_weight_is_refused(value):
    """On an agent's turn and on a partner's alike, by its place."""
    for at in (1, 2):
        records = pair(["u"], ["a", "v", "b"], ["c", "w", "d"])
        records[1]["conversations"][at]["weight"] = value
        (made,) = pairs_of(records)
        assert made.error.startswith(f"data.json records 0 and 1: the second (positive): turn {at} has ")
        assert "as 'weight', expected a number from 0 to 1,000,000, or nothing" in made.error


@pytest.mark.parametrize("value", [0, 0.5, 1, 3, 1e6])
def test_a_weight_is_a_number_from_0_to_a_million(value):
    made = one(weighed(["u"], ["a", "v", "b"], ["c", "w", "d"], better=[value, 1]), rules=Rules("eto"))
    assert [message.get("weight") for message in made.chosen] == [None, float(value), None, 1.0]
    assert [set(message) for message in made.rejected] == [{"role", "content"}] * 4


def test_a_partners_turn_may_have_the_weight_0_alone():
    for tag, at in (("human", 0), ("system", 0)):
        records = [record("u", end, system="s" if tag == "system" else None) for end in ("a", "b")]
        for row in records:
            row["conversations"][at]["weight"] = 0
        assert one(records).chosen[0].keys() == {"role", "content"}
        records[0]["conversations"][at]["weight"] = 1
        (made,) = pairs_of(records)
        assert "turn 0 has weight 1, but only turns of the agent's carry loss" in made.error


def test_null_is_no_weight():
    records = pair(["u"], ["a"], ["b"])
    for row in records:
        for turn in row["conversations"]:
            turn["weight"] = None
    assert one(records) == one(pair(["u"], ["a"], ["b"]))


# ---- pairing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
def test_weights_are_no_difference(stage):
    """The shared turn weighs something else on either side: it is shared all the same, and carries no loss."""
    found = scored(
        weighed(["u", "same", "v"], ["a"], ["b"], worse=[5, None], better=[0, None]),
        Rules(stage),
    )
    assert found == [{f"b{END}": 1.0}, {f"a{END}": 1.0}]
    for rules in (Rules(stage), Rules(stage, unequal="truncate")):
        (made,) = pairs_of(weighed(["u"], ["a", "v", "b"], ["a", "v", "b"], worse=[1, 0], better=[2, 2]), rules=rules)
        assert made.error.endswith("the two dialogues never differ; remove the pair")


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
def test_dialogues_end_with_their_last_turn_that_weighs(stage):
    made = one(
        weighed(["u"], ["a", "v", "b", "w", "c"], ["d", "v", "e", "w", "f"], worse=[1, 0, 0], better=[None, 0, 0]),
        rules=Rules(stage),
    )
    assert (texts(made.rejected), texts(made.chosen)) == (["u", "a"], ["u", "d"])


@pytest.mark.parametrize(
    ("rules", "worse", "extra", "turns"),
    [
        (Rules("sdpo"), [0, 0], {}, "1, 3"),
        (Rules("eto"), [0, 0], {}, "1, 3"),
        (Rules("dmpo"), [0, 0], {}, "1, 3"),
        (Rules("sdpo", scope="turn"), [0, 1], {}, "1"),
        (Rules("sdpo"), [0, 1], {"segment": [1, 2]}, "1"),
        (Rules("sdpo", unequal="truncate"), [0, 0], {"system": "s"}, "2, 4"),
    ],
)
def test_a_side_without_a_turn_that_weighs_is_a_bad_pair(rules, worse, extra, turns):
    (made,) = pairs_of(weighed(["u"], ["a", "v", "b"], ["c", "w", "d"], worse=worse, **extra), rules=rules)
    assert f"the first (negative): every turn to be scored has weight 0 (turn {turns})" in made.error


def test_the_shared_turns_do_not_make_a_side_scored():
    """All that the negative adds weighs 0: its shared turn, which carries no loss, does not help."""
    (made,) = pairs_of(weighed(["u", "same", "v"], ["a"], ["b"], worse=[7, 0]), rules=Rules("eto"))
    assert "every turn to be scored has weight 0 (turn 3)" in made.error


def test_a_session_that_ends_where_the_other_goes_on_with_weight_0_is_the_same():
    """u a | u a v b with b of weight 0: what is left of both is u a."""
    records = weighed([], ["u", "a"], ["u", "a", "v", "b"], better=[None, 0])
    (made,) = pairs_of(records, rules=Rules("eto"))
    assert made.error.endswith("the two dialogues never differ; remove the pair")
    assert one(weighed([], ["u", "a"], ["u", "a", "v", "b"], better=[0, 1]), rules=Rules("eto")).first_turn == 0


def test_turns_that_weigh_are_counted():
    """Three turns and two, of which two and two weigh; then two and one."""
    sides = (["u"], ["a", "v", "b", "w", "c"], ["d", "v", "e"])
    assert not one(weighed(*sides, worse=[1, 0, 1])).unequal
    uneven = weighed(*sides, worse=[1, 0, 2], better=[0, 1])
    (made,) = pairs_of(uneven)
    assert "the segments have 2 (negative) and 1 (positive) agent turns to score" in made.error
    assert one(uneven, rules=Rules("sdpo", unequal="warn")).unequal
    cut = one(uneven, rules=Rules("sdpo", unequal="truncate"))
    assert (texts(cut.rejected), texts(cut.chosen), cut.unequal) == (["u", "a"], ["u", "d", "v", "e"], False)


def test_weights_inside_a_segment():
    """The segment holds two of three turns, of which the second weighs 0."""
    records = weighed(["u"], ["a", "v", "b", "w", "c"], ["d", "v", "e", "w", "f"], worse=[2, 0, 9], segment=[1, 4])
    assert scored(records, Rules("sdpo", unequal="truncate")) == [{f"d{END}": 1.0}, {f"a{END}": 2.0}]


# ---- masks ----------------------------------------------------------------------------------------------------------


def test_two_segments_in_one_pair():
    """Turns 1 and 3 of three are compared, and the one between them is context."""
    records = weighed(["u"], ["a", "v", "b", "w", "c"], ["d", "v", "e", "w", "f"], worse=[1, 0, 1], better=[1, 0, 1])
    assert scored(records, Rules("sdpo")) == [{f"d{END}": 1.0, f"f{END}": 1.0}, {f"a{END}": 1.0, f"c{END}": 1.0}]


def test_a_weight_stands_in_the_place_of_dmpos():
    """T is 3 on either side: (1 - 0.7^2) / (1 - 0.7^3) = 0.51 / 0.657 is left where nothing is given."""
    records = weighed(["u"], ["a", "v", "b", "w", "c"], ["d", "v", "e", "w", "f"], better=[0.25, None, 4])
    chosen, rejected = scored(records, Rules("dmpo"))
    assert chosen == {f"d{END}": 0.25, f"e{END}": pytest.approx(0.51 / 0.657), f"f{END}": 4.0}
    assert list(rejected.values()) == pytest.approx([1, 0.51 / 0.657, 0.3 / 0.657])


def test_no_float_of_a_batch_can_be_cast():
    """DeepSpeed makes 16-bit numbers of them: 0.1 would be 0.10009765625."""
    records = weighed(["u"], ["a"], ["b"], better=[0.1])
    batch = trainer_for("sdpo").data_collator(encode(records, Rules("sdpo")))
    assert not any(value.is_floating_point() for value in batch.values())
    assert weights_of(batch).tolist() == [[0.1], [1.0]]


def test_turns_whose_labels_touch_are_counted_apart():
    """As with templates whose next human turn is one token, the end of the turn before it."""
    row = {"first_turn": 0, "key": 1}
    for side in ("chosen", "rejected"):
        row |= {f"{side}_input_ids": [5, 6, 7, 8, 9], f"{side}_labels": [IGNORE_INDEX, 6, 7, 8, 9]}
        row |= {f"{side}_turn_lengths": [2, 2], f"{side}_turn_weights": [UNWEIGHTED] * 2}
    trainer = trainer_for("sdpo")
    batch = trainer.data_collator([row])
    assert tokens_of(batch).tolist() == [[2.0, 2.0]] * 2
    _, metrics = trainer.get_batch_loss_metrics(POLICY, batch)
    assert (metrics["turns/chosen"], metrics["tokens/chosen"]) == (2, 4)


def test_the_log_counts_turns_that_weigh():
    """Of three turns of one letter and its end, two weigh."""
    records = weighed(["u"], ["a", "v", "b", "w", "c"], ["d", "v", "e", "w", "f"], worse=[1, 0, 1], better=[3, 0, 0.5])
    trainer = trainer_for("sdpo")
    _, metrics = trainer.get_batch_loss_metrics(POLICY, trainer.data_collator(encode(records, Rules("sdpo"))))
    assert [metrics[f"{name}/{side}"] for name in ("turns", "tokens") for side in ("chosen", "rejected")] == [
        2,
        2,
        4,
        4,
    ]


@pytest.mark.parametrize("stage", ["sdpo", "dmpo"])
def test_shortening_leaves_weights_with_their_turns(stage):
    """Two inner turns of the history go, with the weights on them."""
    history = ["u", "old " * 20, "v", "older " * 20, "w", "kept", "x"]
    records = weighed(history, ["a", "y", "b"], ["c", "y", "d"], worse=[9, 8, 7, 2, 3], better=[None, 0.5])
    made = one(records, rules=Rules("sdpo"))
    whole = ENCODER.pair(made.chosen, made.rejected, made.first_turn)
    processor = PairProcessor(
        dialogue_encoder(TEMPLATE, TOKENIZER, None, len(whole.chosen.input_ids) - 30, "llama3"), True, stage
    )
    columns = processor.preprocess_dataset({name: [value] for name, value in made._asdict().items()})
    assert (columns["dropped_turns"], columns["first_turn"], columns["fits"]) == ([1], [2], [True])
    assert columns["chosen_turn_weights"] == [[UNWEIGHTED] * 3 + [0.5]]
    assert columns["rejected_turn_weights"] == [[8.0, 7.0, 2.0, 3.0]]
    batch = trainer_for("sdpo").data_collator([{name: values[0] for name, values in columns.items()}])
    assert scored([], Rules("sdpo"), batch) == [{f"c{END}": 1.0, f"d{END}": 0.5}, {f"a{END}": 2.0, f"b{END}": 3.0}]


def test_rows_of_files_with_and_without_weights(write, tmp_path):
    """JSON, and Parquet, which has a null where there is none; each row a batch, the first without any weight."""
    plain, weighted = pair(["u"], ["a"], ["b"]), weighed(["u"], ["c", "v", "d"], ["e", "v", "f"], better=[0, 2])
    write(plain + weighted)
    options = {"preprocessing_batch_size": 1, "overwrite_cache": True}
    first = load(tmp_path, unequal_segments="warn", **options)["train_dataset"]
    assert first["chosen_turn_weights"][:] == [[UNWEIGHTED], [0.0, 2.0]]
    assert first["rejected_turn_weights"][:] == [[UNWEIGHTED], [UNWEIGHTED, UNWEIGHTED]]
    Dataset.from_list(plain + weighted).to_parquet(tmp_path / "pairs.parquet")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    info["pairs"]["file_name"] = "pairs.parquet"
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    second = load(tmp_path, unequal_segments="warn", **options)["train_dataset"]
    for name in set(first.column_names) - {"origin"}:
        assert first[name] == second[name], name


def test_a_printed_example_shows_weights(capsys):
    records = weighed(["u"], ["a", "v", "b"], ["c", "v", "d"], worse=[1, None], better=[0, 0.5])
    (row,) = encode(records, Rules("sdpo", unequal="warn"))
    PairProcessor(ENCODER, False, "sdpo").print_data_example(row)
    assert capsys.readouterr().out.splitlines() == [
        "test records 0 and 1",
        f"  rejected, agent turn 0: [a{END}]",
        f"  rejected, agent turn 1: [b{END}]",
        f"  chosen, agent turn 0, weight 0: [c{END}]",
        f"  chosen, agent turn 1, weight 0.5: [d{END}]",
    ]


# ---- losses ---------------------------------------------------------------------------------------------------------

weights = st.sampled_from([None, None, 0, 0.25, 1, 1.5, 3])


def weights_for(data: st.DataObject, agent_turns: int, first: int) -> list[float | None]:
    """A weight or none for each agent turn of a side; one that is scored, from turn `first` on, is not 0."""
    drawn = data.draw(st.lists(weights, min_size=agent_turns, max_size=agent_turns))
    at = data.draw(st.integers(first, agent_turns - 1))
    drawn[at] = drawn[at] or data.draw(st.sampled_from([None, 0.5, 2]))
    return drawn


def draw_pair(data: st.DataObject, stage: str) -> tuple[list[dict], list[oracle.Side], list, list[oracle.Given]]:
    """Two records with weights; for the oracle both sides, spans and given weights, chosen first."""
    if stage == "sdpo":
        history, *sides = data.draw(segment_pairs())
    else:
        history, sides = data.draw(st.tuples(histories, sessions()))
    messages = [messages_of(history + side) for side in sides[::-1]]
    spans = oracle.segment_spans(*messages) if stage == "sdpo" else oracle.session_spans(*messages)
    given = [weights_for(data, len(side) // 2, span[0] - 1) for side, span in zip(messages, spans, strict=True)]
    records = weighed(history, *sides, worse=given[1], better=given[0])
    by_turn = [{turn: weight for turn, weight in enumerate(side, 1) if weight is not None} for side in given]
    return records, [oracle.encode_side(TEMPLATE, TOKENIZER, side) for side in messages], spans, by_turn


@settings(deadline=None, max_examples=25)
@given(data=st.data(), stage=st.sampled_from(["sdpo", "eto", "dmpo"]))
def test_weighted_losses_are_the_oracles(data, stage):
    """Loss and every gradient; the oracle encodes the dialogues whole, also what stands after the last scored turn."""
    records, sides, spans, by_turn = draw_pair(data, stage)
    expected = oracle.pair_loss(POLICY, REFERENCE, *sides, *spans, stage, 0.3, 0.7, *by_turn)
    expect_oracle(stage, encode(records, Rules(stage, unequal="warn")), [expected])


@settings(deadline=None, max_examples=10)
@given(data=st.data(), stage=st.sampled_from(["sdpo", "dmpo"]), loss=st.sampled_from(["ipo", "orpo", "simpo"]))
def test_weighted_averages_are_the_oracles(data, stage, loss):
    """Σ w · logp / Σ w, in the loss and in `pref_ftx`; by the fast way and by the plain one, which is in float64."""
    records, sides, spans, by_turn = draw_pair(data, stage)
    policy, reference = (EXACT_TALKERS[seed] for seed in (1, 2))
    of_turns = [oracle.side_weights(stage, span, 0.7, side) for span, side in zip(spans, by_turn, strict=True)]
    means = [
        [oracle.weighted_mean(model, side, each) for side, each in zip(sides, of_turns, strict=True)]
        for model in (policy, reference)
    ]
    expected = oracle.averaged_loss(loss, *map(tuple, means), beta=0.3, simpo_gamma=0.5) - 0.2 * means[0][0]
    rows = encode(records, Rules(stage, unequal="warn"))
    for switches in ({}, {"shared_history": False, "scored_logits_only": False}):
        trainer = trainer_for(stage, policy=policy, reference=reference, pref_loss=loss, pref_ftx=0.2, **switches)
        found, _ = trainer.get_batch_loss_metrics(policy, trainer.data_collator(rows))
        assert found.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)


def test_label_smoothing_of_a_weighted_pair():
    """(1 - e) · loss + e · loss of the pair turned round; the negative's second turn is context."""
    records = weighed(["u"], ["a", "v", "b"], ["c"], worse=[2, 0], better=[0.5])
    sides = [oracle.encode_side(TEMPLATE, TOKENIZER, messages_of(["u", *side])) for side in (["c"], ["a", "v", "b"])]
    spans, by_turn = [(1, 1), (1, 2)], [{1: 0.5}, {1: 2.0, 2: 0.0}]
    straight, turned = (
        oracle.pair_loss(POLICY, REFERENCE, *sides[::way], *spans[::way], "sdpo", 0.3, 0.7, *by_turn[::way]).item()
        for way in (1, -1)
    )
    trainer = trainer_for("sdpo", dpo_label_smoothing=0.1)
    found, _ = trainer.get_batch_loss_metrics(POLICY, trainer.data_collator(encode(records, Rules("sdpo"))))
    assert found.item() == pytest.approx(0.9 * straight + 0.1 * turned, rel=1e-5)


# ---- a rule ---------------------------------------------------------------------------------------------------------


def test_doubt_by_hand():
    """Probabilities 1/2 and 3/4: doubts 1/2 and 1/4, whose mean is 3/8."""
    assert by_doubt([math.log(0.5), math.log(0.75)]) == pytest.approx([4 / 3, 2 / 3])
    assert by_doubt([-0.7]) == [1.0]
    assert by_doubt([-0.7] * 3) == pytest.approx([1.0] * 3)
    assert by_doubt([0.0, 0.0]) == [1.0, 1.0], "certain of all"
    assert by_doubt([0.0, -1.0]) == [0.0, 2.0], "certain of one"
    assert by_doubt([-1e4, -1e5]) == [1.0, 1.0], "lost with both"
    assert by_doubt([1e-12, 0.0]) == [1.0, 1.0], "rounded above 0"
    assert by_doubt([]) == []


@given(means=st.lists(st.floats(-1e3, 0), min_size=1, max_size=8))
def test_doubt_weighs_the_less_likely_more_and_one_on_average(means):
    factors = by_doubt(means)
    assert sum(factors) == pytest.approx(len(means))
    assert min(factors) >= 0
    in_order = [factor for _, factor in sorted(zip(means, factors, strict=True))]
    assert in_order == sorted(factors, reverse=True)


def filled_trainer(rows: list[dict], stage: str = "sdpo", **options: object):
    """A trainer under `turn_weights: confidence` whose table is filled as when a training begins."""
    trainer = trainer_for(stage, turn_weights="confidence", **options)
    trainer.data_collator.rule = "confidence"
    trainer.train_dataset, trainer.ref_model = Dataset.from_list(rows), None
    table = References(lambda: None, lambda: REFERENCE, lambda _, model: model, Path("none"))
    table.trainer = trainer
    trainer._references = table
    table.on_train_begin()
    return trainer


@settings(deadline=None, max_examples=12)
@given(data=st.data(), stage=st.sampled_from(["sdpo", "dmpo"]))
def test_confidence_is_the_oracles(data, stage):
    """The stage's weight times 1 - exp(mean log p) over its mean, of the turns that have no weight, side by side."""
    records, sides, spans, by_turn = draw_pair(data, stage)
    for side, span, own in zip(sides, spans, by_turn, strict=True):
        of_stage = oracle.side_weights(stage, span, 0.7, own)
        logps = [logp.item() for logp in oracle.token_logps(REFERENCE, side)]
        doubts = {}
        for turn in of_stage.keys() - own.keys():
            of_turn = [logp for p, logp in enumerate(logps) if side.turns[p] == turn and p > 0]
            doubts[turn] = 1 - math.exp(sum(of_turn) / len(of_turn))
        for turn, doubt in doubts.items():
            own[turn] = of_stage[turn] * doubt * len(doubts) / sum(doubts.values())
    expected = oracle.pair_loss(POLICY, REFERENCE, *sides, *spans, stage, 0.3, 0.7, *by_turn)
    rows = encode(records, Rules(stage, unequal="warn"))
    trainer = filled_trainer(rows, stage)
    loss, _ = trainer.get_batch_loss_metrics(POLICY, trainer.data_collator(rows))
    # What the table has of the reference is used twice, and its model casts to float32 inside.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_one_table_serves_pairs_that_differ_in_weights_alone():
    """Their keys are one, so the reference is asked once, and each has its own loss."""
    sides = (["u"], ["a", "v", "b"], ["c", "v", "d"])
    rows = [row for better in ([1, 1], [0.5, 2]) for row in encode(weighed(*sides, better=better), Rules("sdpo"))]
    assert rows[0]["key"] == rows[1]["key"] and rows[0]["chosen_turn_weights"] != rows[1]["chosen_turn_weights"]
    trainer = filled_trainer(rows)
    assert len(trainer._references.table) == 1
    plain = trainer_for("sdpo")
    for row in rows:
        explicit = [row | {"rejected_turn_weights": [1.0, 1.0]}]
        found, expected = (
            each.get_batch_loss_metrics(POLICY, each.data_collator(explicit))[0].item() for each in (trainer, plain)
        )
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"finetuning_type": "lora", "val_size": 3, "do_eval": True}])
def test_a_training_by_confidence(tmp_path, options):
    """It begins at ln 2, learns, and differs from the one by the stage's weights; explicit weights take its place."""
    small.write_data(tmp_path / "data")
    small.write_model(tmp_path / "model")
    shared = {"cache_dir": str(tmp_path / "cache"), "learning_rate": 1e-2, **options}

    def train(**more: object) -> list[float]:
        host_tuner.run_exp(small.config(tmp_path, **shared, **more))
        return small.losses(tmp_path / "out")

    by_rule, by_stage = train(turn_weights="confidence"), train()
    assert by_rule[0] == pytest.approx(math.log(2), abs=1e-5) and by_rule[-1] < by_rule[0]
    assert by_rule != by_stage and train(turn_weights="confidence") == by_rule
    path = tmp_path / "data" / "pairs.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([weigh(row, 1, 1) for row in records]), encoding="utf-8")
    assert train(turn_weights="confidence") == by_stage


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turn_weights": "doubt"}, "`turn_weights` is 'doubt', expected one of stage, confidence"),
        ({"turn_weights": "confidence", "stage": "dpo"}, "`turn_weights: confidence` belongs to stage sdpo or eto"),
        ({"turn_weights": "confidence", "reference_once": False}, "which `reference_once: false` leaves out"),
        ({"turn_weights": "confidence", "pref_loss": "simpo"}, "needs a reference, which `pref_loss: simpo` has not"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FinetuningArguments(**{"stage": "sdpo", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streaming": True}, "streamed pairs are not known; set streaming: false"),
        ({"do_train": False, "do_eval": True, "val_size": 3}, "but there is no training"),
    ],
)
def test_a_rule_needs_a_table_before_the_first_step(tmp_path, options, message):
    with pytest.raises(UserError, match=f"turn_weights: confidence needs the reference's table .*{message}"):
        small.write_model(tmp_path / "model")
        small.write_data(tmp_path / "data")
        host_tuner.run_exp(small.config(tmp_path, turn_weights="confidence", **options))


def test_a_rule_is_one_function_in_the_table(monkeypatch):
    """Another rule, put into the registry and nowhere else, is parsed and applied: here the last turn alone."""
    from llamafactory_sdpo import stages

    monkeypatch.setitem(stages.RULES, "last", lambda means: [0.0] * (len(means) - 1) + [float(len(means))])
    assert FinetuningArguments(stage="sdpo", turn_weights="last").turn_weights == "last"
    rows = encode(pair(["u"], ["a", "v", "b"], ["c", "v", "d"]), Rules("sdpo"))
    trainer = filled_trainer(rows)
    trainer.data_collator.rule = "last"
    batch = trainer.data_collator(rows)
    assert scored([], Rules("sdpo"), batch) == [{f"d{END}": 2.0}, {f"b{END}": 2.0}]
    assert token_weights(batch).max() == 2 and torch.equal(token_weights(batch) > 0, batch["labels"] != IGNORE_INDEX)
