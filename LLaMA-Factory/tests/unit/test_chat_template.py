"""The chat template that a server renders gives the tokens of training, for every template of the tests of the masks."""

import copy
import json
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
from llamafactory_sdpo.host.serving import host_api, load_template
from llamafactory_sdpo.serving import probe, prompting
from llamafactory_sdpo.serving.chats import chat_of, dialogue_of
from llamafactory_sdpo.serving.tool_dialogues import TOOLS


MIXED = [*PLAIN, "qwen3", "deepseekr1", "fewshot"]
MERGING = {"breeze", "empty", "ernie_nothink", "fewshot"}
"""Templates with a boundary of a turn that is plain text, at which the toy tokenizer merges characters of both sides
into one token. Training encodes the sides apart, a server the whole text."""


PYTHON_ALONE = {"glm4_moe", "lfm2", "minimax2", "seed_oss"}
"""Forms of calls that take a loop over the arguments."""
FUSED = {"gemma", "gemma2"}
"""They have a header for the agent's turn, but no place for a system message where it speaks first."""


def served_by(encoder: DialogueEncoder, no_tools: str = ""):
    """What a server makes of a chat: transformers' own rendering of our template, and the tokens of the whole text."""
    ids = prompting.rendered_ids(prompting.Prompting(encoder, [], no_tools))
    return lambda messages, tools=None: ids(messages, tools)


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
        prompts = probe.prompts(encoder)
        assert len(prompts) == 14 + (0 if encoder.parts.header is None else 1 if name in FUSED else 3)
        if name in MERGING:
            with pytest.raises(UserError, match=f"template {name}: .* at token .*infer_backend=huggingface"):
                probe.compare(prompts, encoder, served)
        else:
            assert probe.compare(prompts, encoder, served) == len(prompts)
        for prompt in prompts:
            assert encoder.tokenizer.decode(served(prompt.messages)) == encoder.tokenizer.decode(prompt.ids)


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_every_text_template_with_tools(name):
    """What training renders is served token for token, or refused because its form takes python."""
    for thinking in (True, False, None) if isinstance(TEMPLATES[name], ReasoningTemplate) else (True,):
        encoder = encoder_of(name, enable_thinking=thinking)
        served, prompts = served_by(encoder), probe.tool_prompts(encoder)
        assert len(prompts) > 2
        if encoder.parts.tool_format in PYTHON_ALONE:
            for prompt in prompts:
                if prompt.tools:
                    with pytest.raises(Exception, match=f"of template {name} are written by python alone"):
                        served(prompt.messages, prompt.tools)
            continue
        for prompt in prompts:
            ids = served(prompt.messages, prompt.tools)
            assert encoder.tokenizer.decode(ids) == encoder.tokenizer.decode(prompt.ids)
            assert ids == prompt.ids or name in MERGING


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


TEXTS = st.text(st.sampled_from("ab \n<>{}[]\"'\\\\é🙂&%"), max_size=8) | st.sampled_from(["</think>", "</tool_call>"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None, max_examples=80)
@given(
    name=st.sampled_from(["llama3", "mistral", "qwen", "chatml", "glm4", "phi4", "qwen3"]),
    thinking=st.booleans(),
    arguments=st.dictionaries(TEXTS, VALUES, max_size=3),
    description=TEXTS,
    says=TEXTS,
    result=TEXTS,
)
def test_random_calls_and_tools_have_the_text_of_training(mixed, name, thinking, arguments, description, says, result):
    """Any JSON in arguments and descriptions; a text before the call where the template has a form for it."""
    encoder, served = mixed[name, thinking]
    says = says.replace("<tool_call>", "") if encoder.parts.says_before_calls and "think>" not in says else ""
    calls = json.dumps([{"name": "f", "arguments": arguments}])
    content = f"{says}\n<tool_call>{calls}</tool_call>" if says else calls
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": description}}}
    tools = [{"type": "function", "function": {"name": "f", "description": description, "parameters": schema}}]
    messages = [*messages_of(["u"]), {"role": "function", "content": content}]
    messages.append({"role": "observation", "content": result})
    chat = chat_of(messages, encoder.parts.thought_words[1])
    ours = encoder.prompt(messages, json.dumps(tools))
    assert encoder.tokenizer.decode(served(chat, tools)) == encoder.tokenizer.decode(ours)


def test_nulls_that_a_server_adds_to_a_tool_are_left_out(mixed):
    """vLLM writes a null for a description that a request does not have."""
    encoder, served = mixed["qwen", True]
    tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    filled = {"name": "f", "description": None, "parameters": tool["parameters"], "strict": None}
    found = served(messages_of(["u"]), [{"type": "function", "function": filled}])
    assert found == encoder.prompt(messages_of(["u"]), json.dumps([tool]))


def test_tools_are_refused_with_the_reason_they_are_not_served_for():
    encoder = encoder_of("qwen")
    served = served_by(encoder, "no tools on Sundays")
    tools = json.loads(TOOLS)
    for prompt in probe.tool_prompts(encoder):
        if prompt.tools:
            with pytest.raises(Exception, match="no tools on Sundays"):
                served(prompt.messages, tools)
    assert probe.compare(probe.prompts(encoder), encoder, served) == 17


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
    with pytest.raises(Exception, match="a chat ends on a user turn"):
        served(messages_of(["u0", "a0"], "s"))
    with pytest.raises(Exception, match="a turn is text"):
        served([{"role": "user", "content": None}])


def test_the_checkpoints_own_template_is_found_out():
    """Llama-3's form without the header of the system turn: the error says where the ids part."""
    encoder = encoder_of("llama3")

    def own(messages, tools):
        return encoder.prompt([message for message in messages if message["role"] != "system"])

    with pytest.raises(UserError) as err:
        probe.compare(probe.prompts(encoder), encoder, own)
    text = str(err.value)
    assert "the prompt of 1 human turn with a system turn is served otherwise than it was trained" in text
    parting = r"at token 2, after '<s><.start_header_id.>', training has \[.*\] 'system.*the server \[.*\] 'user"
    assert re.search(parting, text)


def test_an_ending_that_is_missing_is_found_out():
    encoder = encoder_of("llama3")
    with pytest.raises(UserError, match="the server the end"):
        probe.compare(probe.prompts(encoder), encoder, lambda messages, tools: encoder.prompt(messages)[:-3])


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
        prompts = probe.prompts(encoder) + probe.tool_prompts(encoder)

        def served(messages, tools):
            return prompt_ids(*dialogue_of({"messages": messages, "tools": tools}))

        assert probe.compare(prompts, encoder, served) == len(prompts) >= 14
    finally:
        TEMPLATES[name] = before
