"""The chat template that a server renders gives the tokens of training, for every template of the tests of the masks."""

import copy
import re

import pytest
import small
from dialogues import segment_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from llamafactory.data.template import TEMPLATES, ReasoningTemplate
from templates import PLAIN, TEXT_TEMPLATES, encoder_of, messages_of

from llamafactory_sdpo.data.encoding import DialogueEncoder
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.serving import host_api, load_template, template_parts
from llamafactory_sdpo.serving import probe, prompting


MIXED = [*PLAIN, "qwen3", "deepseekr1", "fewshot"]
MERGING = {"breeze", "empty", "ernie_nothink", "fewshot"}
"""Templates with a boundary of a turn that is plain text, at which the toy tokenizer merges characters of both sides
into one token. Training encodes the sides apart, a server the whole text."""


def served_by(encoder: DialogueEncoder):
    """What a server makes of a chat: transformers' own rendering of our template, and the tokens of the whole text."""
    parts = template_parts(encoder.template, encoder.tokenizer)
    return prompting.rendered_ids(prompting.Prompting(encoder, parts, []))


@pytest.fixture(scope="module")
def mixed() -> dict[str, tuple]:
    encoders = {(name, on): encoder_of(name, enable_thinking=on) for name in MIXED for on in (True, False)}
    return {key: (encoder, served_by(encoder)) for key, encoder in encoders.items()}


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_every_text_template_of_the_host(name):
    """Dialogues of 1 to 7 human turns, with and without a system turn, thinking or not: token for token."""
    for thinking in (True, False, None) if isinstance(TEMPLATES[name], ReasoningTemplate) else (True,):
        encoder = encoder_of(name, enable_thinking=thinking)
        served = served_by(encoder)
        if name in MERGING:
            with pytest.raises(UserError, match=f"template {name}: .* at token .*infer_backend=huggingface"):
                probe.compare(encoder, name, served)
        else:
            assert probe.compare(encoder, name, served) == 14
        for prompt in probe.prompts(encoder):
            assert encoder.tokenizer.decode(served(prompt.messages)) == encoder.tokenizer.decode(prompt.ids)


@settings(deadline=None, max_examples=80)
@given(
    name=st.sampled_from(MIXED),
    thinking=st.booleans(),
    data=segment_pairs(),
    system=st.sampled_from(["", "Be kind.", 'It\'s {{ "x" }} \\n {% y %}']),
)
def test_random_dialogues_have_the_text_of_training(mixed, name, thinking, data, system):
    """Unicode, quotes, braces and empty arguments, whatever the tokenizer merges."""
    history, rejected, _ = data
    encoder, served = mixed[name, thinking]
    turns = (history + rejected)[: len(history) + len(rejected) - (len(history) + len(rejected) + 1) % 2]
    messages = messages_of(turns, system)
    assert encoder.tokenizer.decode(served(messages)) == encoder.tokenizer.decode(encoder.prompt(messages))


@settings(deadline=None, max_examples=150)
@given(
    thinking=st.booleans(),
    pieces=st.lists(
        st.sampled_from(["<think>\n", "\n</think>\n\n", "<think>", "</think>", "a", "\n", "{"]), max_size=7
    ),
)
def test_thoughts_of_the_history_are_treated_as_in_training(mixed, thinking, pieces):
    """Whole ones go under `enable_thinking: false`, torn ones stay, and a turn with any of the words gets none."""
    encoder, served = mixed["qwen3", thinking]
    messages = messages_of(["u0", "".join(pieces), "u1"])
    assert encoder.tokenizer.decode(served(messages)) == encoder.tokenizer.decode(encoder.prompt(messages))


def test_the_empty_thought_is_prompted_where_it_was_not_trained(mixed):
    """Two agent turns of the history and the one to come; with thinking the agent writes the last thought itself."""
    messages = messages_of(["u0", "a0", "u1", "a1", "u2"])
    for thinking, count in ((False, 3), (True, 2)):
        encoder, served = mixed["qwen3", thinking]
        assert encoder.tokenizer.decode(served(messages)).count("<think>\n\n</think>") == count


def test_a_prompted_empty_thought_stands_where_it_was_trained(mixed):
    """Trained with thinking on dialogues without thoughts, served without: the tokens before the answer are the same."""
    messages = messages_of(["u0", "a0", "u1", "a1", "u2", "a2"])
    trained, _ = mixed["qwen3", True]
    _, served = mixed["qwen3", False]
    prompt = served(messages[:-1])
    whole = trained.dialogue(messages)
    assert whole.input_ids[: len(prompt)] == prompt
    assert trained.tokenizer.decode(whole.input_ids[len(prompt) :]).startswith("a2")


def test_a_prompt_is_the_beginning_of_the_next_one(mixed):
    """So a server's prefix cache knows all but the last two turns."""
    for _, served in mixed.values():
        turns = ["u0", '{"a": 0}', "u1", '{"a": 1}', "u2"]
        first, second, third = (served(messages_of(turns[:n], "s")) for n in (1, 3, 5))
        assert second[: len(first)] == first and third[: len(second)] == second


def test_what_training_never_saw_is_refused(mixed):
    _, served = mixed["llama3", True]
    with pytest.raises(Exception, match="alternates"):
        served([*messages_of(["u0"]), *messages_of(["u1"])])
    with pytest.raises(Exception, match="alternates"):
        served([*messages_of(["u0", "a0"]), {"role": "system", "content": "s"}])
    for messages in ([{"role": "system", "content": "s"}], messages_of(["u0", "a0"], "s")):
        with pytest.raises(Exception, match="a chat ends on a user turn"):
            served(messages)
    with pytest.raises(Exception, match="a turn is text"):
        served([{"role": "user", "content": None}])


def test_the_checkpoints_own_template_is_found_out():
    """Llama-3's form without the header of the system turn: the error says where the ids part."""
    encoder = encoder_of("llama3")

    def own(messages):
        return encoder.prompt([message for message in messages if message["role"] != "system"])

    with pytest.raises(UserError) as err:
        probe.compare(encoder, "llama3", own)
    text = str(err.value)
    assert "the prompt of 1 human turn with a system turn is served otherwise than it was trained" in text
    parting = r"at token 2, after '<s><.start_header_id.>', training has \[.*\] 'system.*the server \[.*\] 'user"
    assert re.search(parting, text)


def test_an_ending_that_is_missing_is_found_out():
    encoder = encoder_of("llama3")
    with pytest.raises(UserError, match="the server the end"):
        probe.compare(encoder, "llama3", lambda messages: encoder.prompt(messages)[:-3])


@pytest.mark.parametrize(
    ("name", "thinking"),
    [("llama3", True), ("llama2", True), ("gemma2", True), ("fewshot", True), ("qwen3", True), ("qwen3", False)],
)
def test_the_hosts_own_engine_has_the_prompts_of_training(tmp_path, name, thinking):
    """Also where the whole text has other tokens, and where the host itself would drop the thoughts of the history."""
    small.write_model(tmp_path)
    before = TEMPLATES[name]
    TEMPLATES[name] = copy.deepcopy(before)
    try:
        keys = {"model_name_or_path": str(tmp_path), "template": name, "enable_thinking": thinking}
        args = {**keys, "infer_backend": "huggingface", "resize_vocab": True}
        encoder = load_template(args)
        _, prompt_ids = host_api(args)
        assert probe.compare(encoder, name, prompt_ids) == 14
    finally:
        TEMPLATES[name] = before
