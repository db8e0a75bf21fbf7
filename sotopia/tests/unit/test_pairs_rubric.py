"""What an annotator is told of good and bad: the same words as ever for SOTOPIA, and a person's own for other agents."""

import hashlib
import re
from pathlib import Path

import pytest
from logs_world import logged, pair
from pairs_world import row, turns

from sotopia_sdpo import prompts
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.choose import KeySegment, segment_question
from sotopia_sdpo.pairs.locate import located, location_question
from sotopia_sdpo.pairs.records import (
    DialogueRecord,
    LocatedLog,
    LoggedSide,
    PairedLog,
    PlayedSide,
    PreferencePair,
)
from sotopia_sdpo.pairs.rubric import ANY, SOTOPIA, Rubric, load_rubric
from sotopia_sdpo.pairs.segments import PartedPair


MINE = Rubric(ANY, "Good: it checks before it changes anything.")


def digest(question: Question) -> str:
    return hashlib.sha256(question.text.encode()).hexdigest()


def test_prompts_of_sotopia_are_the_same_to_the_byte() -> None:
    """Answers are kept by the prompt: another one would be paid again. The digests were taken before there were rubrics."""
    plain = PlayedSide(**row())
    odd = PlayedSide(
        **row(goal=7.5, relationship=-3, conversations=turns("a", "</dialogue>", "{{goal}}", system=True))
    )
    assert digest(location_question(plain)) == "717b20f25755e8ea69eb404c5c432248fc0b18326098769f559aeef79792ea36"
    assert digest(location_question(odd)) == "868b989c5e83d241a34d338ef1b9308e1099ddfbd4ba2a6fd369666d166e7c1d"
    better = PlayedSide(**row("a", "b", "d", "e", "f", goal=9, relationship=4.5))
    known = PartedPair(PreferencePair(PlayedSide(**row("a", "b", "c")), better), 3)
    assert digest(segment_question(known)) == "1a14051eddcc88c09c269612f5e4d5e283bc83cbd4cd164c4628126d4b2fdf90"
    bare = [DialogueRecord(conversations=turns(*said, system=True)) for said in ("abc", "abdef")]
    unknown = PartedPair(PreferencePair(*bare), 4)
    assert digest(segment_question(unknown)) == "e2002ddeb07c3e72557cbecc0e1ee56f25d788ed6255f24bb7c68d513cd41c51"


def test_both_wordings_fill_the_same_places() -> None:
    parts = [prompts.parts(prompts.read(name)) for name in (SOTOPIA.wording, ANY)]
    assert parts[0].keys() == parts[1].keys()
    places = {
        name for frame in ("locate.txt", "segment.txt") for name in prompts.PLACEHOLDER.findall(prompts.read(frame))
    }
    assert parts[0].keys() < places


def test_a_rubric_stands_in_the_place_of_goal_and_relationship() -> None:
    side = PlayedSide(**row(goal=7.5, relationship=-3))
    text = location_question(side, MINE).text
    assert "<rubric>\nGood: it checks before it changes anything.\n</rubric>" in text
    assert "It came to goal 7.5 (0 to 10), relationship -3 (-5 to 5)." in text
    assert "brought the goal nearer" not in text and "Judges gave" not in text


def test_a_log_without_a_rubric_is_asked_by_its_outcomes_alone() -> None:
    text = location_question(LoggedSide(**logged())).text
    assert prompts.read("outcomes.txt") in text and "It came to reward 0 (0 to 1)." in text
    assert not re.search(r"\b(goal|relationship)\b", text) and "{{" not in text
    assert "<instructions>\n0\n</instructions>\n\nThe tools that the agent may call: find, refund.\n" in text


def test_an_outcome_that_is_not_known_is_said_to_be_unknown() -> None:
    text = location_question(LoggedSide(**logged(outcomes=[]))).text
    assert "It came to an unknown outcome." in text
    several = [{"name": "a</dialogue>\n\x1bb", "value": 2.5}, {"name": "c", "value": -1, "low": -2}]
    text = location_question(LoggedSide(**logged(outcomes=several))).text
    assert "It came to a< /dialogue> \\x1bb 2.5, c -1 (at least -2)." in text


def test_nothing_in_a_rubric_fills_a_place_or_ends_its_block() -> None:
    text = location_question(LoggedSide(**logged()), Rubric(ANY, "{{dialogue}} </rubric> {{#good}} {{unknown}}")).text
    assert "<rubric>\n{{dialogue}} < /rubric> {{#good}} {{unknown}}\n</rubric>" in text


def test_any_turn_of_the_agents_can_be_located() -> None:
    """System, human, call, result, words: 2 and 4 are the agent's."""
    side = LoggedSide(**logged())
    question = location_question(side)
    assert "these indices are the agent's: 2, 4." in question.text
    for index in (2, 4):
        found = located(side, question.read(f'{{"reason": "why", "index": {index}}}'))
        assert isinstance(found, LocatedLog) and (found.location, found.reason) == (index, "why")
        assert found.dump() == {**side.dump(), "location": index, "reason": "why"}
    for index, tag in ((1, "human"), (3, "observation")):
        with pytest.raises(
            ValueError, match=f"location {index} is a '{tag}' turn, expected 'gpt'; choose one of 2, 4"
        ):
            question.read(f'{{"reason": "why", "index": {index}}}')


def parted(shared: str, worse: str, better: str, **changes: object) -> PartedPair:
    return PartedPair(
        PreferencePair(*(PairedLog(**one) for one in pair(shared, worse, better, **changes))), len(shared)
    )


def test_a_segment_counts_the_agents_turns() -> None:
    """The better side: call at 2, results at 3 and 4, words at 5, human at 6, words at 7."""
    question = segment_question(parted("sh", "chghg", "cooghg"))
    assert "index 2, and ends on a turn of the agent's, one of 2, 5, 7." in question.text
    assert (
        "first continuation came to reward 0 (0 to 1), the second, better one to reward 1 (0 to 1)." in question.text
    )
    for last, length in ((2, 1), (5, 2), (7, 3)):
        assert question.read(f'{{"reason": "r", "start_index": 2, "end_index": {last}}}') == KeySegment(length, "r")
    with pytest.raises(ValueError, match="end_index is 4, expected a turn of the agent's: one of 2, 5, 7"):
        question.read('{"reason": "r", "start_index": 2, "end_index": 4}')


def test_a_history_shared_by_state_is_said_to_be_one() -> None:
    said = "in common (the second really began in other words"
    assert said in segment_question(parted("shcoh", "g", "ghg", match="state")).text
    assert said not in segment_question(parted("shcoh", "g", "ghg")).text


def test_an_agent_that_speaks_first() -> None:
    question = segment_question(parted("", "ghg", "ghcog"))
    assert "<instructions>\n\n</instructions>" in question.text and "one of 0, 2, 4" in question.text
    assert question.read('{"reason": "r", "start_index": 0, "end_index": 0}').length == 1


def test_a_rubric_is_a_file_with_words_in_it(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    for content, fault in ((b" \n", "the rubric is empty"), (b"\xff\xfe\x00", "cannot be read as a rubric")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=fault) as caught:
            load_rubric(path)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(UserError, match="cannot be read as a rubric"):
        load_rubric(tmp_path)
    path.write_text("\n Be brief. \n")
    assert load_rubric(path) == Rubric(ANY, "Be brief.") and load_rubric(None) is None
