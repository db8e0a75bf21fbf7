"""Token ids and labels: token for token what the host's SFT trains on, for every template, and never a lost turn."""

import copy
from dataclasses import replace

import oracle
import pytest
from dialogues import segment_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from llamafactory.data.template import TEMPLATES
from templates import PLAIN, TEXT_TEMPLATES, encoder_of, messages_of

from llamafactory_sdpo.data.encoding import IGNORE_INDEX, DialogueEncoder
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.templates import dialogue_encoder


@pytest.fixture(scope="module")
def encoders() -> dict[str, DialogueEncoder]:
    return {name: encoder_of(name) for name in [*PLAIN, "qwen3", "deepseekr1", "fewshot"]}


def expect_sft(encoder: DialogueEncoder, turns: list[str], system: str = "") -> None:
    """The encoder agrees with the host's SFT, and its turn lengths with the oracle's turn of each label."""
    ours = encoder.dialogue(messages_of(turns, system))
    side = oracle.encode_side(encoder.template, encoder.tokenizer, messages_of(turns), system)
    assert ours.input_ids == side.input_ids
    assert ours.labels == side.labels
    numbers = [turn for turn, label in zip(side.turns, side.labels, strict=True) if label != IGNORE_INDEX]
    assert numbers == [turn for turn, length in enumerate(ours.turn_lengths, 1) for _ in range(length)]


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from([*PLAIN, "qwen3", "deepseekr1", "fewshot"]),
    data=segment_pairs(),
    system=st.sampled_from(["", "Be kind."]),
)
def test_random_dialogues_are_the_hosts(encoders, name, data, system):
    """Unicode, empty arguments, merges across the boundary of a turn, one turn or many, with and without a system."""
    history, rejected, _ = data
    expect_sft(encoders[name], history + rejected, system)


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_every_text_template_of_the_host(name):
    """All of them are either encoded as the host's SFT does, or refused by name."""
    encoder = encoder_of(name)
    encoder.check_template(name)
    turns = ["Background é", '{"a": "b"}', "Hm. ", '{"a": ""}', "…", "x"]
    for system in ("", "Be kind."):
        expect_sft(encoder, turns, system)


@pytest.mark.parametrize("thinking", [True, False])
def test_reasoning_templates_put_a_thought_before_every_turn(thinking):
    """With enable_thinking the empty thought is trained on, without it is context; inner turns have it either way."""
    encoder = encoder_of("qwen3", enable_thinking=thinking)
    encoder.check_template("qwen3")
    turns = ["u0", "a0", "u1", "a1"]
    expect_sft(encoder, turns)
    encoded = encoder.dialogue(messages_of(turns))
    assert encoder.tokenizer.decode(encoded.input_ids).count("<think>\n\n</think>") == 2
    trained = encoder.tokenizer.decode([label for label in encoded.labels if label != IGNORE_INDEX])
    assert trained.count("<think>") == (2 if thinking else 0)


def test_thoughts_that_are_there_stay():
    encoder = encoder_of("qwen3")
    encoded = encoder.dialogue(messages_of(["u0", "<think>\nhm\n</think>\n\na0", "u1", "a1"]))
    assert "<think>\nhm\n</think>" in encoder.tokenizer.decode(encoded.input_ids)


def test_the_end_of_turn_of_an_inner_turn_is_a_label_where_it_is_not_an_input():
    """gemma2 has `efficient_eos`: label and input differ on the first token of the next human turn."""
    encoder = encoder_of("gemma2")
    encoded = encoder.dialogue(messages_of(["u0", "a0", "u1", "a1"]))
    eos = encoder.tokenizer.eos_token_id
    differing = [
        (token, label)
        for token, label in zip(encoded.input_ids, encoded.labels, strict=True)
        if label not in (IGNORE_INDEX, token)
    ]
    assert len(differing) == 1 and differing[0][1] == eos
    assert encoded.labels[-1] == encoded.input_ids[-1] == eos


def test_a_dialogue_cut_at_a_turn_predicts_the_same_of_it():
    """The labels of a record that goes on after its segment begin with the labels of the cut record."""
    for name in PLAIN:
        encoder = encoder_of(name)
        whole = encoder.dialogue(messages_of(["u0", "a0", "u1", "a1"]))
        cut = encoder.dialogue(messages_of(["u0", "a0"]))
        assert whole.turn_lengths[0] == cut.turn_lengths[0]
        assert whole.labels[: len(cut.labels)] == cut.labels


# ---- templates that cannot be used ----------------------------------------------------------------------------------


def test_a_template_whose_history_changes_is_refused():
    encoder = encoder_of("llama3")
    plain = encoder.template.encode_multiturn

    def forgetful(tokenizer, messages, system, tools):
        encoded = plain(tokenizer, messages, system, tools)
        return [(source, target[1:]) for source, target in encoded[:-1]] + encoded[-1:]

    encoder.template.encode_multiturn = forgetful
    with pytest.raises(UserError, match="template mine: a prefix of a dialogue is not a prefix"):
        encoder.check_template("mine")


def test_a_template_of_another_tokenizer_is_refused():
    tokenizer = oracle.toy_tokenizer()
    encoder = dialogue_encoder(copy.deepcopy(TEMPLATES["chatglm3"]), tokenizer, None, 100, "chatglm3")
    with pytest.raises(UserError, match="template chatglm3: the tokenizer lacks"):
        encoder.check_template("chatglm3")


def test_nothing_between_two_agent_turns_is_refused():
    with pytest.raises(UserError, match="nothing between two agent turns"):
        encoder_of("fewshot").dialogue(messages_of(["u0", "a0", "", "a1"]))


# ---- dialogues that are too long -------------------------------------------------------------------------------------


def test_shortening_drops_the_oldest_inner_turns_of_the_history():
    """u0 a0 u1 a1 u2 | a2: (a0, u1) goes; u0, the turns from a1 on and the scored turn always stay."""
    history = ["u0 " * 5, "a0", "u1", "a1", "u2"]
    whole = encoder_of("llama3").pair(messages_of([*history, "x"]), messages_of([*history, "y"]), 2)
    encoder = encoder_of("llama3", cutoff_len=len(whole.chosen.input_ids) - 1)
    pair = encoder.pair(messages_of([*history, "x"]), messages_of([*history, "y"]), 2, shorten=True)
    assert (pair.dropped_turns, pair.first_turn, pair.fits) == (1, 1, True)
    for side, last in ((pair.chosen, "x"), (pair.rejected, "y")):
        assert side == encoder_of("llama3").dialogue(messages_of(["u0 " * 5, "a1", "u2", last]))


def first_that_fits(encoder: DialogueEncoder, sides: list[list[dict[str, str]]], first_turn: int) -> tuple:
    """The pair with the fewest turns dropped, found by encoding it with none, one, two, ..."""
    for dropped in range(max(first_turn, 1)):
        short = [encoder.dialogue(side[:1] + side[1 + 2 * dropped :]) for side in sides]
        if max(len(side.input_ids) for side in short) <= encoder.cutoff_len:
            return (*short, first_turn - dropped, dropped, True)
    return (*short, first_turn - dropped, dropped, False)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["llama3", "qwen3", "fewshot"]),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9).filter(lambda found: len(found) % 2),
    thoughts=st.booleans(),
    cutoff=st.integers(10, 200),
)
def test_shortening_drops_as_few_turns_as_a_naive_search(encoders, name, lengths, thoughts, cutoff):
    """Also where a thought of the template's own stands before some turns and not before others."""
    history = ["w " * length for length in lengths]
    if thoughts:
        history[1::4] = [f"<think>\nso\n</think>\n\n{turn}" for turn in history[1::4]]
    plain = encoders[name]
    encoder = replace(plain, cutoff_len=cutoff)
    sides = [messages_of([*history, answer]) for answer in ("yes", "no no")]
    assert encoder.pair(*sides, len(history) // 2, shorten=True) == first_that_fits(encoder, sides, len(history) // 2)


def test_shortening_is_linear_in_the_number_of_turns(monkeypatch):
    """A dialogue is encoded a few times, however many of its turns go: here 998 of 1,000."""
    history = [f"u{turn}" if turn % 2 == 0 else "a" for turn in range(2_001)]
    encoder = encoder_of("llama3", cutoff_len=60)
    encoded = []
    plain = encoder.template.encode_multiturn
    monkeypatch.setattr(
        encoder.template,
        "encode_multiturn",
        lambda tokenizer, messages, *rest: encoded.append(len(messages)) or plain(tokenizer, messages, *rest),
    )
    pair = encoder.pair(messages_of([*history, "x"]), messages_of([*history, "y"]), 1_000, shorten=True)
    assert pair.fits and pair.dropped_turns > 990
    assert sum(encoded) < 4 * len(history)


def test_shortening_keeps_the_system_message():
    history = ["u0", "a0 " * 20, "u1", "a1", "u2"]
    encoder = encoder_of("llama3", cutoff_len=80)
    pair = encoder.pair(messages_of([*history, "x"], "s"), messages_of([*history, "y"], "s"), 2, shorten=True)
    assert pair.fits and pair.chosen == encoder.dialogue(messages_of(["u0", "a1", "u2", "x"], "s"))


def test_shortening_keeps_what_the_scored_turn_answers():
    """u0 a0 u1 | a1: the only inner turn stays, and the pair is too long."""
    history = ["u0", "a0 " * 90, "u1"]
    pair = encoder_of("llama3", cutoff_len=60).pair(
        messages_of([*history, "x"]), messages_of([*history, "y"]), 1, shorten=True
    )
    assert (pair.dropped_turns, pair.first_turn, pair.fits) == (0, 1, False)


@settings(deadline=None, max_examples=60)
@given(data=segment_pairs(), cutoff=st.integers(10, 400))
def test_no_scored_turn_is_ever_cut(encoders, data, cutoff):
    """Whatever the cutoff: the scored turns are there as a whole on both sides, or the pair is marked as too long."""
    history, rejected, chosen = data
    plain = encoders["llama3"]
    encoder = replace(plain, cutoff_len=cutoff)
    sides = [messages_of(history + side) for side in (chosen, rejected)]
    pair = encoder.pair(*sides, first_turn=len(history) // 2, shorten=True)
    for ours, messages in zip((pair.chosen, pair.rejected), sides, strict=True):
        whole = plain.dialogue(messages)
        scored = sum(whole.turn_lengths[len(history) // 2 :])
        labels = [label for label in ours.labels if label != IGNORE_INDEX]
        assert labels[-scored:] == [label for label in whole.labels if label != IGNORE_INDEX][-scored:]
        assert ours.turn_lengths[pair.first_turn :] == whole.turn_lengths[len(history) // 2 :]
        assert (len(ours.input_ids) <= cutoff) or not pair.fits
    unshortened = encoder.pair(*sides, first_turn=len(history) // 2)
    assert unshortened.dropped_turns == 0
    if unshortened.fits:
        assert unshortened == pair


def test_the_length_and_the_key_of_a_pair(encoders):
    """What both sides begin with counts once; the key is another one as soon as a token, a label or a turn is."""
    encoder = encoders["llama3"]
    sides = messages_of(["u", "a", "u", "good"]), messages_of(["u", "a", "u", "bad bad"])
    pair = encoder.pair(*sides, first_turn=1)
    chosen, rejected = (side.input_ids for side in (pair.chosen, pair.rejected))
    shared = next(index for index, tokens in enumerate(zip(chosen, rejected, strict=False)) if len(set(tokens)) == 2)
    assert pair.length == len(chosen) + len(rejected) - shared
    assert encoder.pair(*sides, first_turn=1).key == pair.key
    labels = [IGNORE_INDEX, *pair.chosen.labels[1:-1], IGNORE_INDEX]
    others = [
        encoder.pair(*sides, first_turn=0),
        encoder.pair(*sides[::-1], first_turn=1),
        encoder.pair(sides[0], messages_of(["u", "a", "u", "bad"]), first_turn=1),
        pair._replace(chosen=pair.chosen._replace(labels=labels)),
        pair._replace(rejected=pair.rejected._replace(turn_lengths=[*pair.rejected.turn_lengths[::-1], 0])),
    ]
    assert len({pair.key, *(other.key for other in others)}) == 6
    assert all(-(2**63) <= other.key < 2**63 for other in others)
