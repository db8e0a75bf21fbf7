"""The oracle itself, against cases small enough to be worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llamafactory.data.template import Template, get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments
from oracle import (
    IGNORE,
    TOY_SPECIAL_TOKENS,
    Message,
    Side,
    encode_side,
    first_difference,
    pair_loss,
    random_llama,
    scored,
    segment_spans,
    session_spans,
    token_logps,
    toy_tokenizer,
    turn_weight,
)
from transformers import PreTrainedTokenizerFast


TOKENIZER = toy_tokenizer()

# Two sessions over a vocabulary of three: two agent turns of a token each, and one agent turn of a token.
CHOSEN = Side(input_ids=[0, 1, 2], labels=[IGNORE, 1, 2], turns=[0, 1, 2])
REJECTED = Side(input_ids=[0, 2], labels=[IGNORE, 2], turns=[0, 1])


class FixedModel:
    """Stands for a model: for each known sequence of token ids one row of next-token probabilities a position."""

    def __init__(self, rows: dict[tuple[int, ...], list[list[float]]]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        assert attention_mask.shape == input_ids.shape and bool(attention_mask.all())
        return SimpleNamespace(logits=torch.tensor([self.rows[tuple(input_ids[0].tolist())]]).log() + 5.0)


# The last row of a sequence predicts a token after its end and must not matter.
POLICY = FixedModel(
    {
        (0, 1, 2): [[0.25, 0.5, 0.25], [0.125, 0.125, 0.75], [0.9, 0.05, 0.05]],
        (0, 2): [[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]],
    }
)
REFERENCE = FixedModel(
    {
        (0, 1, 2): [[0.25, 0.25, 0.5], [0.25, 0.5, 0.25], [0.2, 0.3, 0.5]],
        (0, 2): [[0.25, 0.25, 0.5], [0.3, 0.3, 0.4]],
    }
)


def dialogue(*contents: str) -> list[Message]:
    """Alternate user and assistant messages."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def fixed_template(name: str) -> tuple[Template, PreTrainedTokenizerFast]:
    """Return a host template and a fresh tokenizer fixed with it."""
    tokenizer = toy_tokenizer()
    return get_template_and_fix_tokenizer(tokenizer, DataArguments(template=name)), tokenizer


def text_of_turn(tokenizer: PreTrainedTokenizerFast, side: Side, turn: int) -> str:
    """Decode the labels of one agent turn."""
    return tokenizer.decode([label for label, t in zip(side.labels, side.turns, strict=True) if t == turn])


def as_tokens(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    """Write ids as tokens, and IGNORE as '-'."""
    return ["-" if i == IGNORE else tokenizer.convert_ids_to_tokens(i) for i in ids]


def test_llama3_scores_both_answers_and_their_ends():
    """Of each agent turn its text and its <|eot_id|>; Ċ is a newline."""
    template, tokenizer = fixed_template("llama3")
    side = encode_side(template, tokenizer, dialogue("Q", "A", "R", "B"))
    user, assistant = tokenizer.tokenize("user"), tokenizer.tokenize("assistant")
    opening = ["<|eot_id|>", "<|start_header_id|>", *assistant, "<|end_header_id|>", "Ċ", "Ċ"]
    first = ["<s>", "<|start_header_id|>", *user, "<|end_header_id|>", "Ċ", "Ċ", "Q", *opening]
    second = ["<|start_header_id|>", *user, "<|end_header_id|>", "Ċ", "Ċ", "R", *opening]
    assert as_tokens(tokenizer, side.input_ids) == [*first, "A", "<|eot_id|>", *second, "B", "<|eot_id|>"]
    assert side.turns == [0] * len(first) + [1, 1] + [0] * len(second) + [2, 2]
    assert side.labels == [i if t else IGNORE for i, t in zip(side.input_ids, side.turns, strict=True)]


def test_efficient_eos_puts_the_end_of_an_inner_turn_on_the_next_human_token():
    """`fewshot` writes contents and newlines only: the label at R is the end of turn 1, R itself stays context."""
    template, tokenizer = fixed_template("fewshot")
    assert template.efficient_eos
    side = encode_side(template, tokenizer, dialogue("Q", "A", "R", "B"))
    assert as_tokens(tokenizer, side.input_ids) == ["Q", "A", "Ċ", "Ċ", "R", "B", "Ċ", "Ċ", "</s>"]
    assert as_tokens(tokenizer, side.labels) == ["-", "A", "Ċ", "Ċ", "</s>", "B", "Ċ", "Ċ", "</s>"]
    assert side.turns == [0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("system", ["", "Be kind."])
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("llama3", "", "<|eot_id|>"),
        ("chatml", "", "<|im_end|>\n"),
        ("qwen", "", "<|im_end|>\n"),
        ("mistral", " ", "</s>"),
        ("falcon", "", "\n</s>"),
        ("breeze", "", "</s>"),
        ("qwen3", "<think>\n\n</think>\n\n", "<|im_end|>\n"),
    ],
)
def test_labels_of_each_turn(name: str, before: str, after: str, system: str):
    template, tokenizer = fixed_template(name)
    side = encode_side(template, tokenizer, dialogue("one?", "It is ten.", "too much …", "nine ☂", "ok", ""), system)
    assert set(side.turns) == {0, 1, 2, 3}
    for turn, content in enumerate(["It is ten.", "nine ☂", ""], start=1):
        assert text_of_turn(tokenizer, side, turn) == before + content + after
    assert all((label == IGNORE) == (turn == 0) for label, turn in zip(side.labels, side.turns, strict=True))
    assert (system in tokenizer.decode(side.input_ids)) and side.turns[0] == 0


def test_a_function_call_is_an_agent_turn():
    template, tokenizer = fixed_template("llama3")
    messages = dialogue("price?", '{"name": "f", "arguments": {"x": 1}}', "3", "It is 3.")
    messages[1]["role"], messages[2]["role"] = "function", "observation"
    side = encode_side(template, tokenizer, messages, tools='[{"name": "f", "description": "", "parameters": {}}]')
    assert text_of_turn(tokenizer, side, 1) == '{"name": "f", "parameters": {"x": 1}}<|eot_id|>'
    assert text_of_turn(tokenizer, side, 2) == "It is 3.<|eot_id|>"


def test_scored_keeps_a_closed_span():
    side = Side(input_ids=[5] * 7, labels=[IGNORE, 5, 5, IGNORE, 5, IGNORE, 5], turns=[0, 1, 1, 0, 2, 0, 3])
    assert scored(side, 1, 3) == [0, 1, 1, 0, 2, 0, 3]
    assert scored(side, 2, 3) == [0, 0, 0, 0, 2, 0, 3]
    assert scored(side, 2, 2) == [0, 0, 0, 0, 2, 0, 0]


def test_turn_weights_of_dmpo():
    """1 - 0.7^3 = 0.657, 1 - 0.7^2 = 0.51, 1 - 0.7 = 0.3; the first turn always weighs 1."""
    assert [turn_weight("dmpo", t, 3, 0.7) for t in (1, 2, 3)] == pytest.approx([1, 0.51 / 0.657, 0.3 / 0.657])
    assert [turn_weight("dmpo", t, 3, 0.7) for t in (1, 2, 3)] == pytest.approx([1, 0.7762557, 0.4566210])
    assert turn_weight("dmpo", 1, 1, 0.7) == 1


def test_turn_weights_of_dmpo_at_the_limit():
    assert [turn_weight("dmpo", t, 4, 1) for t in (1, 2, 3, 4)] == [1, 0.75, 0.5, 0.25]
    for t in (1, 2, 3, 4):
        assert turn_weight("dmpo", t, 4, 1 - 1e-6) == pytest.approx(turn_weight("dmpo", t, 4, 1), abs=1e-5)


def test_turn_weights_of_the_others():
    assert [turn_weight(stage, t, 3, 0.7) for stage in ("sdpo", "eto") for t in (1, 2, 3)] == [1.0] * 6
    with pytest.raises(KeyError):
        turn_weight("dpo", 1, 1, 0.7)


def test_token_logps_read_the_position_before():
    """p(1 | 0) = 0.5 and p(2 | 0, 1) = 0.75, whatever constant is added to the logits."""
    assert [float(x) for x in token_logps(POLICY, CHOSEN)] == pytest.approx([0, math.log(0.5), math.log(0.75)])


def test_token_logps_skip_what_is_not_scored():
    context = Side(input_ids=[0, 1, 2], labels=[IGNORE, IGNORE, 2], turns=[0, 0, 1])
    assert [float(x) for x in token_logps(POLICY, context)] == pytest.approx([0, 0, math.log(0.75)])


def test_token_logps_use_the_label_and_not_the_input():
    """The shape of `efficient_eos`: at position 1 token 0 is expected, though token 1 is what comes in."""
    side = Side(input_ids=[0, 1, 2], labels=[IGNORE, 0, 2], turns=[0, 1, 2])
    assert [float(x) for x in token_logps(POLICY, side)] == pytest.approx([0, math.log(0.25), math.log(0.75)])


@pytest.mark.parametrize("name", ["llama3", "fewshot"])
def test_token_logps_agree_with_the_loss_of_transformers(name: str):
    """Its loss is the mean over the labels of -log p."""
    template, tokenizer = fixed_template(name)
    side = encode_side(template, tokenizer, dialogue("Q", "It is ten.", "R", "Nine."))
    model = random_llama(len(tokenizer), seed=1)
    with torch.no_grad():
        mean = model(input_ids=torch.tensor([side.input_ids]), labels=torch.tensor([side.labels])).loss
        total = sum(token_logps(model, side))
    assert float(total) == pytest.approx(-float(mean) * sum(turn > 0 for turn in side.turns), rel=1e-5)


@pytest.mark.parametrize(
    ("stage", "chosen_span", "beta", "gamma", "ratio"),
    [
        pytest.param("eto", (1, 2), 1.0, 0.7, 2 * 3 * 2, id="eto: ln 2 + ln 3 + ln 2"),
        pytest.param("sdpo", (2, 2), 1.0, 0.7, 3 * 2, id="sdpo, turn 2 only: ln 3 + ln 2"),
        pytest.param("sdpo", (2, 2), 0.5, 0.7, math.sqrt(6), id="sdpo, half of it"),
        pytest.param("dmpo", (1, 2), 1.0, 0.5, 2 * 3 ** (2 / 3) * 2, id="dmpo: weights 1, 0.5 / 0.75; rejected 1"),
        pytest.param("dmpo", (1, 2), 1.0, 1.0, 2 * 3 ** (1 / 2) * 2, id="dmpo at the limit: weights 1, 1/2"),
        pytest.param("dmpo", (2, 2), 1.0, 0.5, 3 * 2, id="dmpo of a span of one turn: T and t are those of the span"),
    ],
)
def test_pair_loss_by_hand(stage: str, chosen_span: tuple[int, int], beta: float, gamma: float, ratio: float):
    """Chosen turn 1 ln(0.5 / 0.25) = ln 2, turn 2 ln(0.75 / 0.25) = ln 3; rejected ln(0.25 / 0.5) = -ln 2.

    And -log sigmoid(ln r) = ln(1 + 1 / r).
    """
    loss = pair_loss(POLICY, REFERENCE, CHOSEN, REJECTED, chosen_span, (1, 1), stage, beta, gamma)
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(math.log(1 + 1 / ratio), rel=1e-6)


def encoded_pair() -> tuple[Side, Side, int]:
    """Return two sides of three turns that differ from turn 2 on, and the size of the vocabulary."""
    template, tokenizer = fixed_template("llama3")
    chosen = encode_side(template, tokenizer, dialogue("one?", "ten", "hm", "nine", "ok", "deal"))
    rejected = encode_side(template, tokenizer, dialogue("one?", "ten", "hm", "never!", "bye", "go away"))
    return chosen, rejected, len(tokenizer)


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
def test_loss_of_an_unchanged_policy(stage: str):
    """Every log ratio is 0, so the loss is ln 2; the chosen side is what a first step makes likelier."""
    chosen, rejected, vocab_size = encoded_pair()
    policy, reference = random_llama(vocab_size, seed=0), random_llama(vocab_size, seed=0)
    loss = pair_loss(policy, reference, chosen, rejected, (2, 3), (2, 3), stage, beta=0.1)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    loss.backward()
    assert all(parameter.grad is None for parameter in reference.parameters())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter -= 0.01 * parameter.grad
    after = pair_loss(policy, reference, chosen, rejected, (2, 3), (2, 3), stage, beta=0.1)
    assert after.item() < math.log(2)


@pytest.mark.parametrize("name", ["llama3", "fewshot"])
def test_what_follows_a_span_does_not_count(name: str):
    """A record cut at the end of its segment scores the same as one that goes on."""
    template, tokenizer = fixed_template(name)
    whole = dialogue("one?", "ten", "hm", "nine", "ok", "deal"), dialogue("one?", "ten", "hm", "no", "bye", "go away")
    policy, reference = random_llama(len(tokenizer), seed=0), random_llama(len(tokenizer), seed=1)
    losses = []
    for end in (4, 6):
        chosen, rejected = (encode_side(template, tokenizer, messages[:end]) for messages in whole)
        losses.append(pair_loss(policy, reference, chosen, rejected, (2, 2), (2, 2), "sdpo", beta=0.1).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_first_difference():
    base = dialogue("q", "a", "r", "b")
    assert first_difference(base, dialogue("q", "c", "r", "b")) == 1
    assert first_difference(base, dialogue("q", "a", "r", "c")) == 3
    assert first_difference(base, dialogue("p", "a", "r", "b")) == 0
    assert first_difference(base, base[:2]) == 2
    with pytest.raises(ValueError, match="do not differ"):
        first_difference(base, list(base))


@pytest.mark.parametrize(
    ("chosen", "rejected", "segment", "scope", "expected"),
    [
        pytest.param("qarbsc", "qarxsy", None, "segment", ((2, 3), (2, 3)), id="to the end of the record"),
        pytest.param("qarbsc", "qarx", None, "segment", ((2, 3), (2, 2)), id="unequal ends"),
        pytest.param("qarbscud", "qarxsyuz", (3, 6), "segment", ((2, 3), (2, 3)), id="segment of two turns"),
        pytest.param("qarbscud", "qarxsyuz", (3, 4), "segment", ((2, 2), (2, 2)), id="segment of one turn"),
        pytest.param("qarbscud", "qarxsyuz", (3, 7), "segment", ((2, 3), (2, 3)), id="segment with a human end"),
        pytest.param("qarbsc", "qarxsy", None, "turn", ((2, 2), (2, 2)), id="turn level"),
        pytest.param("qa", "qx", None, "segment", ((1, 1), (1, 1)), id="a single turn"),
        pytest.param("qarb", "qarx", (3, 4), "turn", ((2, 2), (2, 2)), id="difference in the last turn"),
    ],
)
def test_segment_spans(chosen: str, rejected: str, segment: tuple[int, int] | None, scope: str, expected: tuple):
    """One letter a message; the human speaks first."""
    assert segment_spans(dialogue(*chosen), dialogue(*rejected), segment, scope) == expected


def test_segment_spans_count_a_system_message_as_an_element():
    system = [{"role": "system", "content": "s"}]
    chosen, rejected = system + dialogue(*"qarbsc"), system + dialogue(*"qarxsy")
    assert segment_spans(chosen, rejected, (4, 6)) == ((2, 2), (2, 2))
    assert segment_spans(chosen, rejected, (4, 7)) == ((2, 3), (2, 3))


def test_segment_spans_count_function_calls():
    chosen, rejected = dialogue(*"qarb"), dialogue(*"qarx")
    chosen[1]["role"] = rejected[1]["role"] = "function"
    assert segment_spans(chosen, rejected) == ((2, 2), (2, 2))


def test_segment_spans_refuse_what_is_no_segment():
    with pytest.raises(ValueError, match="differs"):
        segment_spans(dialogue(*"qa"), dialogue(*"qarb"))
    with pytest.raises(ValueError, match="are at 3 and 3, the segment at 1"):
        segment_spans(dialogue(*"qarb"), dialogue(*"qarx"), (1, 4))


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        pytest.param("qarbsc", "qarxsy", ((2, 3), (2, 3)), id="a shared turn"),
        pytest.param("qarbsc", "qaxb", ((2, 3), (2, 2)), id="parted at the partner's turn"),
        pytest.param("qarb", "parb", ((1, 2), (1, 2)), id="different from the start, so every context differs"),
        pytest.param("qa", "qx", ((1, 1), (1, 1)), id="a single turn"),
        pytest.param("qarbsc", "qarb", ((1, 3), (1, 2)), id="one is the beginning of the other"),
    ],
)
def test_session_spans(chosen: str, rejected: str, expected: tuple):
    """One letter a message; the human speaks first."""
    assert session_spans(dialogue(*chosen), dialogue(*rejected)) == expected


def test_session_spans_of_different_system_messages():
    system = [{"role": "system", "content": "s"}]
    assert session_spans(system + dialogue(*"qarb"), dialogue(*"qarx")) == ((1, 2), (1, 2))
    assert session_spans(system + dialogue(*"qarb"), system + dialogue(*"qarx")) == ((2, 2), (2, 2))


def test_random_llama_depends_on_the_seed_and_on_the_context():
    state = torch.random.get_rng_state()
    model, same, other = random_llama(50, seed=3), random_llama(50, seed=3), random_llama(50, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        logits, again, others = (m(input_ids=torch.tensor([[1, 2, 3, 4]])).logits for m in (model, same, other))
        changed = model(input_ids=torch.tensor([[9, 2, 3, 4]])).logits
    assert logits.dtype == torch.float64 and torch.equal(logits, again) and not torch.equal(logits, others)
    assert float((logits[0, -1] - changed[0, -1]).abs().max()) > 0.01


def test_toy_tokenizer_knows_its_special_tokens():
    tokenizer = toy_tokenizer(["<think>", "</think>"])
    for token in (*TOY_SPECIAL_TOKENS, "<think>", "</think>"):
        assert tokenizer.encode(token, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(token)]
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert tokenizer.get_vocab() == toy_tokenizer(["<think>", "</think>"]).get_vocab()


def test_toy_tokenizer_merges():
    text = "What do you think about the blanket?"
    assert len(TOKENIZER.encode(text, add_special_tokens=False)) < len(text) * 2 / 3
    assert TOKENIZER.encode("<s>", add_special_tokens=False) == TOKENIZER.encode("<s>")


@settings(deadline=None, database=None)
@given(st.text())
def test_toy_tokenizer_round_trips(text: str):
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text
