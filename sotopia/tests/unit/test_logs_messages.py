"""From OpenAI's messages to turns: nothing lost, results in the order of the calls; held against a slow rebuild."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.logs.messages import IN_A_ROW, REASONING, Unusable, UserTools, dialogue_of, function_call
from sotopia_sdpo.pairs.records import check_dialogue
from sotopia_sdpo.pairs.tool_turns import tool_turn


def user(content: Any = "u", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def says(content: Any = "a", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(key: str | None, name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*keys: str, text: str | None = None) -> dict[str, Any]:
    return says(text, tool_calls=[call(key, f"f{key}") for key in keys])


def result(key: str | None, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": key, "content": f"r{key}" if content is None else content, **more}


def shown(messages: Sequence[Any], user_tools: UserTools = UserTools.text) -> list[tuple[str, str]]:
    dialogue = dialogue_of(list(messages), user_tools)
    return [(turn["from"], turn["value"]) for turn in (*dialogue.turns, *dialogue.tail)]


# ---- nothing is lost, whatever the dialogue

TEXT = st.text(st.sampled_from("ab <>/\n\"'\\é😀_tolca"), max_size=12)
SAID = TEXT.filter(lambda text: text.strip())
ARGUMENTS = st.dictionaries(
    TEXT,
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    max_size=3,
)


@st.composite
def agents_blocks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An agent's turn: words, or calls with their results in any order."""
    if draw(st.booleans()):
        return [says(draw(SAID))]
    some = [call(f"c{place}", draw(SAID), json.dumps(draw(ARGUMENTS))) for place in range(draw(st.integers(1, 3)))]
    results = draw(st.permutations([result(one["id"], draw(TEXT)) for one in some]))
    return [says(draw(st.none() | TEXT), tool_calls=some), *results]


@st.composite
def chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A whole dialogue; the user may speak several times in a row, or not at all after results."""
    messages = [
        {"role": draw(st.sampled_from(["system", "developer"])), "content": draw(TEXT)}
        for _ in range(draw(st.integers(0, 2)))
    ]
    messages += [user(draw(TEXT)) for _ in range(draw(st.integers(0, 2)))]
    for _ in range(draw(st.integers(1, 4))):
        block = draw(agents_blocks())
        messages += block
        messages += [user(draw(TEXT)) for _ in range(draw(st.integers(len(block) == 1, 2)))]
    return messages


def slow(messages: Sequence[dict[str, Any]]) -> list[tuple[str, Any]]:
    """What a reader by eye would write down."""
    found: list[tuple[str, Any]] = []
    for place, message in enumerate(messages):
        role = {"developer": "system", "user": "human", "tool": "observation"}.get(message["role"], message["role"])
        if role in ("system", "human") and found and found[-1][0] == role:
            found[-1] = (role, found[-1][1] + "\n" + message["content"])
        elif role in ("system", "human"):
            found.append((role, message["content"]))
        elif role == "assistant":
            made = [
                (one["function"]["name"], json.loads(one["function"]["arguments"]))
                for one in message.get("tool_calls", [])
            ]
            said = message["content"] or ""
            found.append(("agent", (said if said.strip() else "", made)))
            for one in message.get("tool_calls", []):
                after = [later for later in messages[place + 1 : place + 4] if later.get("tool_call_id") == one["id"]]
                found.append(("observation", after[0]["content"]))
    return found


def as_read(turn: dict[str, str]) -> tuple[str, Any]:
    if turn["from"] == "function_call":
        text, made = tool_turn(turn["value"])
        return "agent", (text, [tuple(one) for one in made])
    return ("agent", (turn["value"], [])) if turn["from"] == "gpt" else (turn["from"], turn["value"])


@given(chats())
def test_every_text_call_and_result_stands_in_the_turns_once(messages: list[dict[str, Any]]) -> None:
    try:
        dialogue = dialogue_of(messages)
    except Unusable as err:
        assert "<tool_call>" in str(err) and "<tool_call>" in json.dumps(messages)
        return
    assert [as_read(turn) for turn in (*dialogue.turns, *dialogue.tail)] == slow(messages)
    check_dialogue(dialogue.turns)
    assert all(turn["from"] in ("human", "observation") for turn in dialogue.tail)


@given(
    TEXT,
    st.lists(st.builds(lambda name, arguments: {"name": name, "arguments": arguments}, TEXT, ARGUMENTS), min_size=1),
)
def test_calls_are_read_as_they_were_written(text: str, made: list[dict[str, Any]]) -> None:
    if "<tool_call>" in text:
        with pytest.raises(Unusable):
            function_call(text, made)
        return
    value = function_call(text, made)
    read = tool_turn(value)
    assert read.text == (text if text.strip() else "") and [one._asdict() for one in read.calls] == made
    # The host looks for the first opening mark and the first closing one after it.
    assert value.count("<tool_call>") == bool(text.strip())
    assert value.partition("<tool_call>")[2].count("</tool_call>") == bool(text.strip())


# ---- the rules, one by one


def test_results_out_of_order_with_ids_that_come_again() -> None:
    messages = [
        user(),
        calls("1", "2", text="wait"),
        result("2"),
        result("1"),
        calls("1"),
        result("1", "again"),
        says(),
    ]
    assert shown(messages) == [
        ("human", "u"),
        (
            "function_call",
            'wait\n<tool_call>[{"name": "f1", "arguments": {}}, {"name": "f2", "arguments": {}}]</tool_call>',
        ),
        ("observation", "r1"),
        ("observation", "r2"),
        ("function_call", '[{"name": "f1", "arguments": {}}]'),
        ("observation", "again"),
        ("gpt", "a"),
    ]


@pytest.mark.parametrize(
    "results",
    [
        [result(None, "x", name="fb"), result(None, "y", name="fa")],
        [{"role": "function", "name": "fb", "content": "x"}, {"role": "function", "name": "fa", "content": "y"}],
    ],
)
def test_results_without_ids_go_by_the_tools_name(results: list[dict[str, Any]]) -> None:
    assert shown([user(), calls("a", "b"), *results])[2:] == [("observation", "y"), ("observation", "x")]


def test_calls_in_the_older_form_and_without_arguments() -> None:
    older = says(None, function_call={"name": "f", "arguments": '{"x": "é"}'})
    flat = says(None, tool_calls=[{"id": "1", "name": "g", "arguments": {"y": 1.50}}])
    empty = says("", tool_calls=[call("2", "h", ""), call("3", "h", None)])
    assert [
        turn[1] for turn in shown([older, {"role": "function", "name": "f", "content": "r"}, flat, result("1"), empty])
    ] == [
        '[{"name": "f", "arguments": {"x": "é"}}]',
        "r",
        '[{"name": "g", "arguments": {"y": 1.5}}]',
        "r1",
        '[{"name": "h", "arguments": {}}, {"name": "h", "arguments": {}}]',
    ]


def test_content_in_parts() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "no"},
        "b",
        {"type": "refusal", "refusal": "c"},
    ]
    dialogue = dialogue_of(
        [user([{"type": "text", "text": "u"}]), says(parts), user(None), says(None, refusal="no", reasoning="x")]
    )
    assert [turn["value"] for turn in dialogue.turns] == ["u", "abc", "", "no"]
    assert dialogue.notes == {REASONING}


def test_the_agents_messages_in_a_row_are_one_turn() -> None:
    dialogue = dialogue_of([says("a"), says("b"), calls("1"), calls("2"), result("2"), result("1"), says("c"), user()])
    assert [turn["from"] for turn in dialogue.turns] == ["function_call", "observation", "observation", "gpt"]
    assert tool_turn(dialogue.turns[0]["value"]).text == "a\nb" and dialogue.notes == {IN_A_ROW}
    assert dialogue.tail == [{"from": "human", "value": "u"}]


def test_weights_stay_with_their_turns() -> None:
    dialogue = dialogue_of(
        [user(), says("a", weight=0), user(), says("b"), user(), says("c", weight=0.5), says("d", weight=0.5)]
    )
    assert [turn.get("weight") for turn in dialogue.turns] == [None, 0, None, None, None, 0.5]
    with pytest.raises(Unusable, match="different weights"):
        dialogue_of([user(), says("a", weight=0), says("b")])
    for wrong in (-1, "1", True, float("nan")):
        with pytest.raises(Unusable, match="with a weight that is not a number of at least 0"):
            dialogue_of([user(), says("a", weight=wrong)])


def test_what_comes_after_the_agents_last_turn() -> None:
    dialogue = dialogue_of([user(), calls("1", "2"), result("2")])
    assert [turn["from"] for turn in dialogue.turns] == ["human", "function_call"]
    assert dialogue.tail == [{"from": "observation", "value": "r2"}]
    assert dialogue_of([user(), calls("1")]).tail == []


USERS = [
    *(says("Restart it."), user(None, tool_calls=[call("1", "restart", '{"x": 1}'), call("2", "look")])),
    *(result("1", "done"), result("2", "<on>\n"), user("It is on."), says("Good.")),
]


def test_a_user_who_has_tools() -> None:
    kept = '[calls restart({"x": 1})]\n[calls look({})]\n[result done]\n[result <on>\n]\nIt is on.'
    assert shown(USERS) == [("gpt", "Restart it."), ("human", kept), ("gpt", "Good.")]
    assert shown(USERS, UserTools.drop) == [("gpt", "Restart it."), ("human", "It is on."), ("gpt", "Good.")]
    dialogue = dialogue_of(USERS)
    assert dialogue.has_user_tools and len(dialogue.notes) == 1
    with pytest.raises(Unusable, match="user's call that has no result"):
        dialogue_of(USERS[:2] + USERS[3:])
    assert shown(USERS[:3])[-1][1].endswith("[result done]")


@pytest.mark.parametrize(
    "messages, reason",
    [
        (None, "without messages"),
        ([], "without messages"),
        ("hello", "without messages"),
        ([user()], "without a turn of the agent's"),
        (["hello"], "with a message of an unknown role"),
        ([{"content": "x"}], "with a message of an unknown role"),
        ([user(), {"role": ["assistant"], "content": "x"}], "with a message of an unknown role"),
        ([user(), says(), {"role": "system", "content": "x"}, says()], "with a system message after the first turn"),
        ([user([{"type": "image_url"}]), says()], "with content other than text"),
        ([user([{"type": []}]), says()], "with content other than text"),
        ([user(7), says()], "with content other than text"),
        ([user(), says("")], "with an empty turn of the agent's"),
        ([user(), says(" \n", tool_calls=[])], "with an empty turn of the agent's"),
        ([user(), says(None, tool_calls="f()")], "with calls that are not a list"),
        ([user(), says(None, tool_calls=["f"])], "with a call without a name"),
        ([user(), says(None, tool_calls=[call("1", "")])], "with a call without a name"),
        (
            [user(), says(None, tool_calls=[call("1", arguments="{x: 1}")])],
            "with a call whose arguments are not a JSON object",
        ),
        (
            [user(), says(None, tool_calls=[call("1", arguments="[1]")])],
            "with a call whose arguments are not a JSON object",
        ),
        (
            [user(), says(None, tool_calls=[call("1", arguments=[])])],
            "with a call whose arguments are not a JSON object",
        ),
        (
            [user(), says(None, tool_calls=[call("1", arguments='{"x": NaN}')])],
            "with a call whose arguments are not a JSON object",
        ),
        (
            [user(), says(None, tool_calls=[call("1", arguments='{"x":' * 9999)])],
            "with a call whose arguments are not a JSON object",
        ),
        ([user(), calls("1"), user(), says()], "with a call that has no result"),
        ([user(), calls("1", "2"), result("2"), says()], "with a call that has no result"),
        ([user(), calls("1"), says("b"), result("1"), says()], "with a call that has no result"),
        ([user(), result("1"), says()], "with a result that answers no call"),
        ([user(), calls("1"), result("9"), says()], "with a result that answers no call"),
        ([user(), calls("1"), result("1"), result("1"), says()], "with a result that answers no call"),
        (
            [user(), calls("1", text="see <tool_call>"), result("1"), says()],
            "with <tool_call> in the text before a call",
        ),
    ],
)
def test_what_cannot_be_used(messages: Any, reason: str) -> None:
    with pytest.raises(Unusable) as found:
        dialogue_of(messages)
    assert str(found.value) == reason
