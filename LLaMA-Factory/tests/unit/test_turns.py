"""OpenAI's messages and ShareGPT's calls: one spelling, results in the order of their calls, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_sdpo.data.formats import OPENAI, Format
from llamafactory_sdpo.data.pairing import Rules, make_pairs
from llamafactory_sdpo.data.reading import read_sides
from llamafactory_sdpo.data.turns import read_turn, tools_text


FORM = Format(ranking=True, messages=None, chosen="chosen", rejected="rejected", openai=True, lenient=True, **OPENAI)
SHAREGPT = Format()
USER, END = {"role": "user", "content": "u"}, {"role": "assistant", "content": "end"}


def calls(*made, content=None):
    """A turn that calls f1, f2, … by the ids c1, c2, …, or as given."""
    listed = [
        call if isinstance(call, dict) else {"id": f"c{call}", "function": {"name": f"f{call}", "arguments": "{}"}}
        for call in made
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed}


def result(call, **extra):
    return {"role": "tool", "content": f"r{call}", "tool_call_id": f"c{call}", **extra}


def read(*turns, form=FORM):
    """The messages of a dialogue that both sides of a pair hold."""
    sides = read_sides([{"chosen": list(turns), "rejected": list(turns)}], form, with_segment=False)
    return [*sides.chosen.system, *sides.chosen.messages]


def error_of(*turns):
    """The line of the bad pair that a dialogue makes."""
    record = {"chosen": list(turns), "rejected": [USER, END]}
    (made,) = make_pairs([(3, record)], FORM, Rules("eto"), "x.json")
    assert made.error.startswith("x.json record 3: 'chosen': ") and made.error.isprintable()
    return made.error.removeprefix("x.json record 3: 'chosen': ")


def function(content, form=SHAREGPT):
    role, text = read_turn({form.role_tag: "function_call", form.content_tag: content}, "function", form)
    assert role == "function"
    return text


# ---- OpenAI's messages -----------------------------------------------------------------------------------------------


def test_the_messages_of_openai():
    found = read(
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        {"role": "user", "content": "u", "name": "Ann"},
        calls(1, content="Let me see."),
        result(1),
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": '{"b": 1, "a": "é"}'}},
        {"role": "function", "name": "g", "content": "r"},
        {"role": "assistant", "content": None, "refusal": "I will not.", "tool_calls": None, "audio": None},
        USER,
        {"role": "assistant", "content": "yes", "tool_calls": [], "function_call": None},
    )  # fmt: skip
    assert found == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "u"},
        {"role": "function", "content": 'Let me see.\n<tool_call>[{"name": "f1", "arguments": {}}]</tool_call>'},
        {"role": "observation", "content": "r1"},
        {"role": "user", "content": "and?"},
        {"role": "function", "content": '[{"name": "g", "arguments": {"b": 1, "a": "é"}}]'},
        {"role": "observation", "content": "r"},
        {"role": "assistant", "content": "I will not."},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "yes"},
    ]


def test_ms_swifts_roles_of_calls():
    call = {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'}
    found = read(USER, call, {"role": "tool_response", "content": "r"}, END)
    assert [turn["role"] for turn in found] == ["user", "function", "observation", "assistant"]
    assert found[1]["content"] == '[{"name": "f", "arguments": {}}]'


@settings(deadline=None, max_examples=60)
@given(order=st.permutations(range(4)), with_ids=st.booleans())
def test_results_come_out_in_the_order_of_their_calls(order, with_ids):
    """By their ids in any order; without ids by their names, and of one name in the order in which they stand."""
    results = [result(call, name=f"f{call}") for call in order]
    made = calls(0, 1, 2, 3)
    if not with_ids:
        for turn in results:
            del turn["tool_call_id"]
    found = read(USER, made, *results, END)
    assert [turn["content"] for turn in found[2:6]] == ["r0", "r1", "r2", "r3"]
    assert [call["name"] for call in json.loads(found[1]["content"])] == ["f0", "f1", "f2", "f3"]
    nameless = [{"role": "tool", "content": turn["content"]} for turn in results]
    assert [turn["content"] for turn in read(USER, made, *nameless, END)[2:6]] == [f"r{call}" for call in order]


CALLING_USER = {**calls(1), "role": "user"}


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([USER, calls(1), result(2), END], "turn 2 is the result of call c2, but the turn before calls c1"),
        ([USER, calls(1), result(1), result(1), END], "turn 3 is the result of call c1, but the turn before calls c1"),
        ([USER, END, result(1), END], "turn 2 is the result of call c1, but the turn before calls nothing"),
        ([result(1), END], "turn 0 is the result of call c1, but the turn before calls nothing"),
        ([USER, calls(1, 2), result(2), END], "the call c1 before turn 3 has no result; add it"),
        ([USER, calls(1), USER, END], "the call c1 before turn 2 has no result; add it"),
        ([USER, calls(1, 2), result(2)], "turn 2, the last, is not an agent's"),
        ([USER, calls()], "turn 1 has an empty list of calls and says nothing"),
        ([USER, {**calls(1), "tool_calls": "f()"}], "turn 1 has text as 'tool_calls', expected a list of calls"),
        ([USER, calls({"id": "c"})], "turn 1 has a call without a name"),
        (
            [USER, calls({"function": {"name": "f"}})],
            "turn 1 calls f with nothing as arguments, expected a JSON object",
        ),
        (
            [USER, calls({"function": {"name": "f", "arguments": "a=1"}})],
            "turn 1 calls f with arguments that are not JSON",
        ),
        (
            [USER, calls({"function": {"name": "f", "arguments": ""}})],
            "turn 1 calls f with arguments that are not JSON",
        ),
        (
            [USER, calls({"function": {"name": "f", "arguments": "[" * 10**5}})],
            "calls f with arguments that are not JSON",
        ),
        ([USER, calls({"function": {"name": "f", "arguments": "[1]"}})], "turn 1 calls f with a list as arguments"),
        (
            [USER, calls({"function": {"name": "f", "arguments": '{"a": "\\ud83d"}'}})],
            "turn 1 has half of a character",
        ),
        ([USER, calls(1, content="<tool_call>")], "turn 1 says <tool_call>, which marks its calls"),
        ([CALLING_USER, END], "turn 0 is a 'user' turn with tool_calls; calls are the agent's"),
        ([USER, {"role": "assistant", "content": None}], "turn 1 has nothing as 'content', expected text"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}, END],
            "turn 0 has a part of type image_url in 'content'",
        ),
        ([USER, {"role": "critic", "content": ""}], "turn 1 has 'role' 'critic', expected one of"),
        (
            [USER, END, {"role": "developer", "content": ""}, END],
            "turn 2 is a 'system' turn where a 'user' turn belongs",
        ),
    ],
)
def test_what_is_wrong_with_calls_is_said_with_its_turn(turns, message):
    assert message in error_of(*turns)


def test_a_dialogue_may_end_on_calls():
    assert read(USER, calls(1, 2))[-1]["role"] == "function"


# ---- one spelling ----------------------------------------------------------------------------------------------------

ONE = '[{"name": "f", "arguments": {"b": 1, "a": [null]}}]'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"name": "f", "arguments": {"b": 1, "a": [null]}}', ONE),
        ('[{"arguments":{"b":1,"a":[null]},"name":"f","id":7}]', ONE),
        (json.dumps(json.loads(ONE), indent=4), ONE),
        ('{"name": "f", "arguments": "{\\"b\\": 1, \\"a\\": [null]}"}', ONE),
        (f"<tool_call>\n{ONE}\n</tool_call>", ONE),
        (f"Hm.\n<tool_call>{ONE}</tool_call>\n", f"Hm.\n<tool_call>{ONE}</tool_call>"),
        (f"<tool_call>{ONE}</tool_call>\n<tool_call>{ONE}</tool_call>", f"{ONE[:-1]}, {ONE[1:]}"),
        ('{"name": "f", "arguments": {"b": "<tool_call>"}}', '[{"name": "f", "arguments": {"b": "<tool_call>"}}]'),
        # What is no call is the template's to refuse.
        ("f(b=1)", "f(b=1)"),
        ('{"name": "f"}', '{"name": "f"}'),
        (f"<think>\nHm\n</think>\n\n{ONE}", f"<think>\nHm\n</think>\n\n{ONE}"),
        ("3", "3"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_the_value_of_a_call_has_one_spelling(value, expected):
    assert function(value) == expected
    assert function(expected) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(
    arguments=st.lists(st.dictionaries(st.text(), json_values, max_size=4), min_size=1, max_size=3),
    text=st.text(st.characters(exclude_characters="<", exclude_categories=("Cs",)), max_size=9).filter(str.strip),
    indent=st.sampled_from([None, 0, 3]),
    ascii=st.booleans(),
)
def test_openai_and_sharegpt_say_the_same_and_nothing_is_lost(arguments, text, indent, ascii):
    """Whatever the white space, the escapes and the order of a call's own keys; the order of arguments stays."""
    listed = [{"name": "f", "arguments": each} for each in arguments]
    turned = [dict(reversed(call.items())) for call in listed]
    made = [
        {"id": "1", "function": {**call, "arguments": json.dumps(call["arguments"], indent=indent)}} for call in listed
    ]
    for said in ("", text):
        before = f"{said}\n" if said else ""
        value = json.dumps(turned, indent=indent, ensure_ascii=ascii)
        shared = function(f"{before}<tool_call>{value}</tool_call>" if said else value)
        openai = {"role": "assistant", "content": said or None, "tool_calls": made}
        assert read_turn(openai, "assistant", FORM) == ("function", shared)
        inside = shared.removeprefix(f"{before}<tool_call>").removesuffix("</tool_call>") if said else shared
        assert json.dumps(json.loads(inside)) == json.dumps(listed)
        assert "</tool_call>" not in inside or not said


def test_calls_that_differ_in_their_spelling_are_shared_history():
    rows = [
        {"conversations": [{"from": "human", "value": "u"}, {"from": "function_call", "value": value},
                           {"from": "observation", "value": "r"}, {"from": "gpt", "value": end}]}
        for value, end in ((ONE, "a"), (json.dumps(json.loads(ONE)[0], indent=1), "b"))
    ]  # fmt: skip
    (made,) = make_pairs(enumerate(rows), SHAREGPT, Rules("sdpo"), "x.json")
    assert not made.error and made.first_turn == 1


def sharegpt_error(*turns, **extra):
    rows = [{"conversations": [{"from": "human", "value": "u"}, *turns], **extra}] * 2
    return next(make_pairs(enumerate(rows), SHAREGPT, Rules("eto"), "x.json")).error


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"from": "function_call", "value": "[]"}, "turn 1 has an empty list of calls"),
        ({"from": "function_call", "value": '{"name": "f", "arguments": "a=1"}'}, "calls f with arguments that are not JSON"),
        ({"from": "function_call", "value": f"<tool_call>{ONE}</tool_call> so"}, "turn 1 says something after its calls"),
        ({"from": "gpt", "value": "x", "tool_calls": [1]}, 'turn 1 has tool_calls, which "formatting": "openai" reads'),
    ],
)  # fmt: skip
def test_calls_of_sharegpt_that_are_refused(turn, message):
    assert message in sharegpt_error(turn)


# ---- tools -----------------------------------------------------------------------------------------------------------


def test_tools_are_one_text_however_they_are_given():
    tools = [{"type": "function", "function": {"name": "é", "parameters": {}}}]
    expected = '[{"type": "function", "function": {"name": "é", "parameters": {}}}]'
    for value in (tools, json.dumps(tools), json.dumps(tools, indent=2, ensure_ascii=False)):
        assert tools_text(value, "tools") == expected
    assert (tools_text(None, "tools"), tools_text("f: a tool", "tools")) == ("", "f: a tool")
    record = {"chosen": [USER, END], "rejected": [USER, {**END, "content": "other"}], "tools": {"name": "f"}}
    form = Format(
        ranking=True, messages=None, chosen="chosen", rejected="rejected", tools="tools", openai=True, **OPENAI
    )
    (made,) = make_pairs([(0, record)], form, Rules("eto"), "x.json")
    assert "'tools' is an object, expected a list of tools, or their JSON" in made.error


def test_tools_may_differ_in_their_spelling_alone():
    form = Format(tools="tools")
    rows = [
        {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": end}], "tools": tools}
        for end, tools in (("a", '[{"name":"f"}]'), ("b", [{"name": "f"}]))
    ]
    (made,) = make_pairs(enumerate(rows), form, Rules("sdpo"), "x.json")
    assert not made.error
    rows[1]["tools"] = [{"name": "g"}]
    (made,) = make_pairs(enumerate(rows), form, Rules("sdpo"), "x.json")
    assert "the two records have different tools" in made.error
