"""Dialogues with tools, in every text template of the host: as the host renders them, as their own slots say, or not.

What the host's converter and SFT can render is compared with them; what they cannot is compared with texts written
out by hand for each family of templates, and for all templates a message must be there once.
"""

import json
import re
import subprocess
import sys

import oracle
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from llamafactory.data.converter import OpenAIDatasetConverter
from llamafactory.data.parser import DatasetAttr
from templates import TEXT_TEMPLATES, encoder_of, messages_of

from llamafactory_sdpo.data.calls import canonical_tools, read_calls, separated
from llamafactory_sdpo.data.encoding import IGNORE_INDEX
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.serving.tool_dialogues import DIALOGUES, SYSTEM, TOOLS


LLAMA2 = {"gemma", "gemma2", "llama2", "llama2_zh", "ministral", "mistral"}
GLM4 = {"chatglm3", "glm4", "glmz1"}
OTHER_CALLS = {*GLM4, "aeva", "glm4_7", "glm4_moe", "seed_oss"}
UNKNOWN_HEADER = {
    *("alpaca", "breeze", "deepseek3", "deepseekcoder", "deepseekr1", "empty", "exaone", "fewshot", "hunyuan"),
    *("hunyuan_small", "hy3", "llama2", "llama2_zh", "olmo", "openchat-3.6", "vicuna", "xuanyuan", "yuan"),
}
REFUSED = {
    "one call": set(),
    "calls in a turn": GLM4,
    "text and call": LLAMA2 | OTHER_CALLS,
    "results in a row": UNKNOWN_HEADER | {"granite4"} | GLM4,
    "result, then partner": UNKNOWN_HEADER | {"granite4", "youtu"},
    "agent first": UNKNOWN_HEADER | {"ministral", "mistral", "youtu"},
    "agent first, tools": UNKNOWN_HEADER | LLAMA2 | {"youtu"},
}
"""The templates that cannot render a dialogue; all others can."""


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def call(*arguments: dict, text: str = "", name: str = "f") -> dict[str, str]:
    calls = json.dumps([{"name": name, "arguments": each} for each in arguments], ensure_ascii=False)
    return said("function", f"{text}\n<tool_call>{calls}</tool_call>" if text else calls)


def text_of(encoder, messages, tools=""):
    return encoder.tokenizer.decode(encoder.dialogue(messages, tools).input_ids)


def converted(messages):
    """What the host's converter makes of a chat in OpenAI's form, or None if it skips it."""
    chat = []
    for message in messages:
        if message["role"] == "function":
            calls = [{"function": each} for each in json.loads(message["content"])]
            chat.append({"role": "assistant", "content": None, "tool_calls": calls})
        else:
            chat.append(message)
    tags = {"role_tag": "role", "content_tag": "content", "messages": "messages", "function_tag": "function"}
    tags |= {
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "observation",
        "system_tag": "system",
    }
    attr = DatasetAttr("file", "x")
    for key, value in tags.items():
        setattr(attr, key, value)
    example = OpenAIDatasetConverter(attr, None)({"messages": chat})
    return example["_prompt"] + example["_response"] or None


def host_messages(encoder, kind, messages):
    """The messages that the host's SFT takes for a dialogue, or None where it writes text that is not the template's."""
    if kind == "text and call":
        opening, closing = encoder.parts.call_words
        marked = messages[1]["content"].replace("<tool_call>", opening).replace("</tool_call>", closing)
        return [messages[0], said("function", marked), *messages[2:]]
    found = converted(messages)
    return None if kind == "results in a row" and "<tool_response>" not in encoder.parts.observation else found


def without_marks(messages):
    """The same with no mark of calls or thoughts in an argument, which the host takes for marks."""
    marks = {"<tool_call>né</tool_call>": "<b>né</b>", "</think>": "</b>"}
    found = json.dumps(messages, ensure_ascii=False)
    for mark, other in marks.items():
        assert mark in json.dumps(list(DIALOGUES.values()), ensure_ascii=False)
        found = found.replace(mark, other)
    return json.loads(found)


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
@pytest.mark.parametrize("kind", DIALOGUES)
def test_every_text_template_of_the_host(name, kind):
    """Each is the host's rendering, or has every message once and the host's tokens in the agent's turns, or is refused."""
    messages, has_tools = DIALOGUES[kind]
    messages = without_marks(messages)
    tools = TOOLS if has_tools else ""
    encoder = encoder_of(name)
    for system in ("", SYSTEM):
        dialogue = [said("system", system)] * bool(system) + messages
        if name in REFUSED[kind] or (kind == "agent first" and system and name in LLAMA2):
            for render in (encoder.check_calls, encoder.dialogue):
                with pytest.raises(ValueError, match=f"template {re.escape(name)} cannot render|parallel"):
                    render(dialogue, tools)
            continue
        encoder.check_calls(dialogue, tools)
        ours = encoder.dialogue(dialogue, tools)
        if theirs := host_messages(encoder, kind, messages):
            side = oracle.encode_side(encoder.template, encoder.tokenizer, theirs, system, canonical_tools(tools))
            assert (ours.input_ids, ours.labels) == (side.input_ids, side.labels)
        else:
            expect_all_once(encoder, dialogue, tools, ours)


def test_the_page_says_how_many_templates_render_what():
    """The table of docs/training.md is what the command prints, and agrees with the sets above."""
    command = [sys.executable, str(ROOT.parent / "tools" / "tool_templates.py"), "--summary"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert printed in (ROOT.parent / "docs" / "training.md").read_text(encoding="utf-8")
    for line in printed.splitlines()[2:]:
        kind, *counts = (cell.strip() for cell in line.strip("|").split("|"))
        assert int(counts[2]) == len(REFUSED[kind]) and sum(map(int, counts)) == len(TEXT_TEMPLATES)


def expect_all_once(encoder, dialogue, tools, ours):
    """Every message is there once and in order, and an agent's turn has the tokens that the host gives it alone."""
    text, at = encoder.tokenizer.decode(ours.input_ids), -1
    for message in dialogue:
        content = message["content"]
        if message["role"] == "function":
            content = encoder.parts.write_calls(read_calls(content, encoder.parts.thought_words[1]).json)
        assert text.count(content) == 1
        assert text.index(content) > at
        at = text.index(content)
    labels = [label for label in ours.labels if label != IGNORE_INDEX]
    for message, length in zip(
        [m for m in dialogue if m["role"] in oracle.AGENT_ROLES], ours.turn_lengths, strict=True
    ):
        alone = encoder.dialogue([said("user", "?"), message])
        assert labels[:length] == [label for label in alone.labels if label != IGNORE_INDEX]
        del labels[:length]


@pytest.mark.parametrize("thinking", [True, False, None])
@pytest.mark.parametrize("name", ["qwen3", "qwen", "llama3", "default", "glm4_moe", "mistral", "gemma2", "minimax2"])
def test_a_prompt_is_the_beginning_of_the_dialogue(name, thinking):
    """Up to every agent turn, so that what is served at that point is what was trained."""
    encoder = encoder_of(name, enable_thinking=thinking)
    for kind, (messages, has_tools) in DIALOGUES.items():
        if name in REFUSED[kind]:
            continue
        whole = encoder.dialogue(messages, TOOLS if has_tools else "").input_ids
        for index, message in enumerate(messages):
            if message["role"] in oracle.AGENT_ROLES:
                prompt = encoder.prompt(messages[:index], TOOLS if has_tools else "")
                assert whole[: len(prompt)] == prompt


# ---- by hand ---------------------------------------------------------------------------------------------------------

ROW = [
    said("user", "u"),
    call({"a": 1}, {"a": 2}),
    said("observation", "r1"),
    said("observation", "r2"),
    said("user", "v"),
]
ROW += [said("assistant", "w")]
HEADER = {"llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n", "chatml": "<|im_start|>assistant\n"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "qwen",
            "<|im_start|>user\n<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response><|im_end|>\n"
            "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\nw",
        ),
        (
            "chatml",
            "<|im_start|>tool\nr1<|im_end|>\n<|im_start|>tool\nr2<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
            "<|im_start|>assistant\nw",
        ),
        (
            "llama3",
            "<|start_header_id|>ipython<|end_header_id|>\n\nr1<|eot_id|>"
            "<|start_header_id|>ipython<|end_header_id|>\n\nr2<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nv<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nw",
        ),
        ("default", "Human: r1</s>\nHuman: r2</s>\nHuman: v</s>\nAssistant:w"),
        ("glm4_moe", "<|observation|>\nr1<|observation|>\nr2<|user|>\nv<|assistant|><think>\n\n</think>\n\n\nw"),
        (
            "minimax2",
            "]~b]tool\n<response>r1</response>\n<response>r2</response>[e~[\n]~b]user\nv[e~[\n]~b]ai\n"
            "<think>\n\n</think>\n\nw",
        ),
        (
            "gemma",
            "<start_of_turn>tool\nr1<end_of_turn>\n<start_of_turn>tool\nr2<end_of_turn>\n<start_of_turn>user\nv",
        ),
    ],
)
def test_results_and_a_partner_between_two_turns(name, expected):
    assert expected in text_of(encoder_of(name), ROW)


def test_mistrals_results_are_closed_one_by_one():
    text = text_of(encoder_of("mistral"), [*ROW[:4], ROW[5]])
    assert '[TOOL_RESULTS] {"content": r1}[/TOOL_RESULTS][TOOL_RESULTS] {"content": r2}[/TOOL_RESULTS] w</s>' in text


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("llama3", "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>" + HEADER["llama3"]),
        ("chatml", "<|im_start|>system\nS<|im_end|>\n" + HEADER["chatml"]),
        ("qwen3_nothink", "<|im_start|>system\nS<|im_end|>\n" + HEADER["chatml"]),
        ("default", "System: S</s>\nAssistant:"),
        ("glm4", "[gMASK]<sop><|system|>\nS<|assistant|>"),
    ],
)
def test_the_agent_speaks_first(name, start):
    """Its turn is scored like any other, and follows the system message and its own header."""
    encoder = encoder_of(name)
    messages = [said("system", "S"), said("assistant", "hi"), said("user", "u"), said("assistant", "a")]
    assert text_of(encoder, messages).startswith(start)
    encoded = encoder.dialogue(messages)
    assert len(encoded.turn_lengths) == 2 and sum(encoded.turn_lengths) == sum(
        label != IGNORE_INDEX for label in encoded.labels
    )
    alone = encoder.dialogue(messages_of(["u", "hi"], "S"))
    assert encoded.turn_lengths[0] == alone.turn_lengths[0]
    assert encoder.tokenizer.decode(encoder.prompt(messages[:1])) == start


@pytest.mark.parametrize("thinking", [True, False])
def test_a_thought_stands_where_the_host_puts_it(thinking):
    """Before a turn after several messages and before an opening as before any other, unless the turn has one."""
    encoder = encoder_of("qwen3", enable_thinking=thinking)
    thinks = [said("assistant", "hi"), *ROW[:4], said("assistant", "<think>\nhm\n</think>\n\nw")]
    text = text_of(encoder, thinks)
    assert text.count("<think>\n\n</think>\n\n") == (2 if thinking else 3)
    assert ("hm" in text) == thinking
    trained = encoder.tokenizer.decode([x for x in encoder.dialogue(thinks).labels if x != IGNORE_INDEX])
    assert trained.count("<think>") == (3 if thinking else 0)


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen", 'Hm.\n<tool_call>\n{"name": "f", "arguments": {"a": "</tool_call>"}}\n</tool_call><|im_end|>'),
        ("llama3", 'Hm.\n{"name": "f", "parameters": {"a": "</tool_call>"}}<|eot_id|>'),
        ("default", 'Hm.\nAction: f\nAction Input: {"a": "</tool_call>"}</s>'),
        ("lfm2", 'Hm.\n<|tool_call_start|>[f(a="</tool_call>")]<|tool_call_end|><|im_end|>'),
    ],
)
def test_a_text_and_a_call_in_one_turn(name, expected):
    encoder = encoder_of(name)
    for text in ("Hm.", "Hm.\n\n"):
        assert expected in text_of(encoder, [said("user", "u"), call({"a": "</tool_call>"}, text=text)])


@pytest.mark.parametrize("name", ["mimo_v2", "hy3", "qwen3"])
def test_marks_in_arguments_are_text(name):
    """The host would read a call or a thought in them."""
    for thinking in (True, False):
        encoder = encoder_of(name, enable_thinking=thinking)
        arguments = {"q": "<tool_call>x</tool_call><think>y</think>\n\n"}
        written = encoder.parts.write_calls(json.dumps([{"name": "f", "arguments": arguments}]))
        for text in ("", "Hm."):
            assert written in text_of(encoder, [said("user", "u"), call(arguments, text=text)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "an empty list of calls"),
        ('[{"name": "f", "arguments": "{}"}]', "its arguments are an object"),
        ('[{"name": "f", "arguments": []}]', "its arguments are an object"),
        ('[{"name": 3, "arguments": {}}]', "the name of a call is a text"),
        ('[{"name": "f"}]', "KeyError: 'arguments'"),
        ('[{"arguments": {}}]', "KeyError: 'name'"),
        ("hello", "no JSON, alone or between <tool_call> and </tool_call>"),
        ('Hm.<tool_call>[{"name": "f", "arguments": {}}]</tool_call> Bye.', "no JSON"),
        ('Hm.<tool_call>[{"name": "f", "arguments": {}]</tool_call>', "no JSON"),
        ('I <tool_call>. <tool_call>[{"name": "f", "arguments": {}}]</tool_call>', "holds <tool_call>, the mark"),
    ],
)
def test_calls_that_are_refused(content, reason):
    with pytest.raises(UserError, match=f"turn 1, a function call.*{reason}") as err:
        encoder_of("qwen").check_calls([said("user", "u"), said("function", content)], "")
    assert "\n" not in str(err.value)


TEXTS = st.text(st.sampled_from('ab \n<>{}[]"\\é🙂') | st.sampled_from("</tool_call>"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.just("</tool_call>"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), min_size=1, max_size=3), TEXTS)
def test_calls_come_back(arguments, text):
    """Whatever they hold; and their safe spelling is the same JSON."""
    message = call(*arguments, text=text)
    found = read_calls(message["content"], "</think>")
    assert [each["arguments"] for each in found.calls] == arguments
    assert json.loads(found.json) == found.calls and not re.search(r"[^\x20-\x7e]|<", found.json)
    assert found.text == ("" if not text.strip("\n") else text.rstrip("\n") + "\n")


def test_a_thought_before_calls_stays_as_it_is():
    thought = "<think>\nhm\n</think>\n\n"
    content = thought + json.dumps({"name": "f", "arguments": {}})
    assert read_calls(content, "\n</think>\n\n").text == thought
    assert separated(thought, "\n</think>\n\n") == thought
    assert f'{thought}<tool_call>\n{{"name": "f"' in text_of(
        encoder_of("qwen3"), [said("user", "u"), said("function", content)]
    )


def test_tools_have_one_spelling():
    """OpenAI's, in the order in which a server's engine writes it, whatever the file had."""
    plain = {"parameters": {"b": 1, "a": 2}, "name": "f", "description": None, "more": "x"}
    spelled = '[{"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}, "more": "x"}}]'
    for tool in (plain, {"type": "function", "function": plain}, {"type": "function", **plain}):
        assert canonical_tools(json.dumps([tool])) == spelled
    assert canonical_tools("[]") == canonical_tools("") == ""
    with pytest.raises(UserError, match="its tools cannot be rendered by the template .TypeError: a tool has no name"):
        encoder_of("qwen").check_calls(messages_of(["u", "a"]), '[{"parameters": {}}]')
    assert canonical_tools("look_up") == "look_up" and canonical_tools("3") == "3"
