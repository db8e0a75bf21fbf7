"""Wrong annotations: each way is what it says and nothing else, and all of them come equally often."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from annotation_requests import dialogue, locating, segmenting, sessions, task_for
from hypothesis import given, settings
from hypothesis import strategies as st

from sotopia_sdpo.play.dialogue import Message
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.annotator import annotate
from sotopia_sdpo.simulated.draws import draws
from sotopia_sdpo.simulated.faults import break_json
from sotopia_sdpo.simulated.misannotations import WAYS, misannotate, ways_of


def defect(text: str, conversations: Sequence[Message], right: dict[str, Any]) -> str:
    """Say what is wrong with an answer, by its looks alone."""
    first, last = ("index", "index") if "index" in right else ("start_index", "end_index")
    if "{" not in text and not text.startswith("`"):
        return "refusal"
    if "```json" in text:
        return "prose" if json.loads(text.split("```json")[1].split("```")[0]) == right else "torn prose"
    try:
        found = json.loads(text)
    except ValueError:
        return "truncated"
    if set(found) != set(right):
        return "no index" if {*found, last} == set(right) else "other fields"
    if type(found[last]) is not int:
        return "index as text"
    if not 0 <= found[last] < len(conversations):
        return "outside"
    for key, way in ((first, "partner's turn"), (last, "partner's end")):
        if conversations[found[key]]["from"] == "human" and found[key] != right[key]:
            return way
    if found[first] != right[first]:
        return "another turn"
    return "braces" if set("{}") & set(found["reason"]) else "nothing"


@settings(deadline=None)
@given(sessions(), st.integers(0, 10**6))
def test_each_way_is_wrong_in_its_own_way_only(pair: tuple[list[Message], list[Message]], seed: int) -> None:
    for request, conversations in ((locating(pair[1]), pair[1]), (segmenting(*pair), pair[1])):
        task = task_for(request)
        right, draw = annotate(task), draws(seed)
        for way in ways_of(task):
            found = WAYS[way](task, right, draw)
            text = found if isinstance(found, str) else json.dumps(found)
            assert defect(text, conversations, right) == way, (way, text)


@pytest.mark.parametrize("kind", ["location", "segment"])
def test_wrong_answers_are_spread_evenly_over_the_ways(kind: str) -> None:
    said = [acts.ASK, acts.SHARE, acts.GREEDY, acts.DECLINE, acts.FAIR]
    positive = dialogue([*said[:2], acts.FAIR, acts.ACCEPT, acts.LEAVE])
    task = task_for(locating(positive) if kind == "location" else segmenting(dialogue(said), positive))
    right, count = annotate(task), 4000
    seen = Counter(defect(misannotate(task, draws(i)), positive, right) for i in range(count))
    assert set(seen) == set(WAYS) - ({"partner's end"} if kind == "location" else set())
    assert all(0.8 < seen[way] / count * len(seen) < 1.2 for way in seen), seen


def test_a_task_without_another_turn_has_no_such_way() -> None:
    assert "another turn" not in ways_of(task_for(locating(dialogue([acts.RUDE]))))


def test_broken_annotations_are_broken() -> None:
    pair = dialogue([acts.RUDE, acts.LEAVE, acts.GREET]), dialogue([acts.ASK, acts.SHARE, acts.FAIR])
    for request in (locating(pair[0]), segmenting(*pair)):
        right = annotate(task_for(request))
        for i in range(30):
            try:
                assert not {"index", "start_index", "end_index"} & set(
                    json.loads(break_json(json.dumps(right), draws(i)))
                )
            except json.JSONDecodeError:
                pass
