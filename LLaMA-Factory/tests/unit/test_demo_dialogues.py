"""The generator of the demo's dialogues (tools/demo_dialogues): form and shares of the pairs, no give-away."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest


ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))

from demo_dialogues.__main__ import (  # noqa: E402
    DEFAULT_PAIRS,
    DEFAULT_SEED,
    DEFAULT_SFT,
    PAIRS_FILE,
    SFT_FILE,
)
from demo_dialogues.dialogues import make_pairs, make_sft  # noqa: E402


DATA = ROOT / "LLaMA-Factory" / "data"
KEYS = {
    "conversations", "segment", "reason", "side", "pair", "episode", "env", "agents", "agent_position", "goal",
    "relationship",
}  # fmt: skip
CHARACTERS_PER_TOKEN = 4.2
HELD_OUT = 60
SPLITS = 8
CHANCE_AT_MOST = 0.6

Record = dict[str, Any]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Record, Record]]:
    """The default pairs as (negative, positive)."""
    records = make_pairs(DEFAULT_PAIRS, DEFAULT_SEED)
    return list(zip(records[::2], records[1::2], strict=True))


def agent_turns(record: Record) -> list[str]:
    """The agent's words in the segment."""
    messages = record["conversations"][slice(*record["segment"])]
    return [json.loads(message["value"])["argument"] for message in messages if message["from"] == "gpt"]


def held_out_accuracy(features: np.ndarray, seed: int) -> float:
    """Fit a logistic regression to differences of counts and score the held-out rows; a tie counts a half."""
    order = np.random.default_rng(seed).permutation(len(features))
    test, train = features[order[:HELD_OUT]], features[order[HELD_OUT:]]
    weights = np.zeros(features.shape[1])
    for _ in range(300):
        wrong = 1 / (1 + np.exp(train @ weights))
        weights += 0.5 * (wrong @ train / len(train) - 0.01 * weights)
    scores = test @ weights
    return float(np.mean((scores > 0) + 0.5 * (scores == 0)))


def word_differences(pairs: list[tuple[Record, Record]]) -> np.ndarray:
    """Count each word of the positive segment, less its count in the negative one."""
    counts = [[Counter(re.findall(r"\w+|[^\w\s]", " ".join(agent_turns(side)).lower())) for side in p] for p in pairs]
    words = sorted({word for pair in counts for side in pair for word in side})
    return np.array([[positive[word] - negative[word] for word in words] for negative, positive in counts], float)


# ---- form


def test_shipped_files_are_what_the_script_writes(tmp_path: Path):
    """The command with its defaults gives the shipped bytes, from any folder."""
    command = [sys.executable, str(ROOT / "tools" / "demo_dialogues"), "--out", "new"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (
        done.stdout
        == f"wrote {DEFAULT_PAIRS} pairs -> {PAIRS_FILE}, {DEFAULT_SFT} dialogues -> {SFT_FILE} (seed 11)\n"
    )
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [PAIRS_FILE, SFT_FILE]
    for name in (PAIRS_FILE, SFT_FILE):
        assert (tmp_path / "new" / name).read_bytes() == (DATA / name).read_bytes(), f"{name} is stale: run the script"


def test_seed_decides():
    """The same seed gives the same records, another seed others."""
    assert make_pairs(5, 1) == make_pairs(5, 1) != make_pairs(5, 2)
    assert make_sft(5, 1) == make_sft(5, 1) != make_sft(5, 2)


def test_records_have_the_agreed_form(pairs: list[tuple[Record, Record]]):
    """Keys, alternation from human to gpt, and one JSON action in every agent turn."""
    for negative, positive in pairs:
        assert (negative["side"], positive["side"]) == ("negative", "positive")
        assert negative["pair"] == positive["pair"] and negative["goal"] < positive["goal"]
        for record in (negative, positive):
            assert set(record) == KEYS
            assert_dialogue(record["conversations"])
            assert (
                record["agents"][record["agent_position"]]
                in record["conversations"][0]["value"].split(" in a talk")[0]
            )


def test_sft_dialogues_alternate():
    """Whole dialogues have the same form and nothing else."""
    for record in make_sft(20, 3):
        assert set(record) == {"conversations"}
        assert_dialogue(record["conversations"])


def assert_dialogue(messages: list[dict[str, str]]) -> None:
    """Human and gpt in turn, from human to gpt; every message but the first is one action."""
    assert [m["from"] for m in messages] == ["human", "gpt"] * (len(messages) // 2)
    for message in messages[1:]:
        action = json.loads(message["value"])
        assert list(action) == ["action_type", "argument"] and action["action_type"] in ("speak", "action", "leave")
    assert not re.search(r"\{[a-z]+\}", " ".join(m["value"] for m in messages)), "a slot was left open"


def test_sides_part_at_the_segments_start(pairs: list[tuple[Record, Record]]):
    """Equal segments on both sides, the same messages before, and a different gpt message at the start."""
    for negative, positive in pairs:
        (start, end), one, other = negative["segment"], negative["conversations"], positive["conversations"]
        assert positive["segment"] == [start, end] and (end - start) % 2 == 1
        assert one[:start] == other[:start] and one[start] != other[start]
        assert one[start]["from"] == one[end - 1]["from"] == "gpt"
        assert {len(one) - end, len(other) - end} <= {0, 2}


def test_shares_follow_the_published_set(pairs: list[tuple[Record, Record]]):
    """Of 240 pairs: start 1 in 72, start 3 in 115; length 1 in 10, 3 in 213, 5 in 17; 24 go on after the segment."""
    spans = [positive["segment"] for _, positive in pairs]
    starts, lengths = Counter(s for s, _ in spans), Counter(e - s for s, e in spans)
    assert [starts[s] for s in (1, 3, 5, 7, 9)] == [72, 115, 22, 24, 7]
    assert [lengths[n] for n in (1, 3, 5)] == [10, 213, 17]
    assert sum(any(len(r["conversations"]) > r["segment"][1] for r in pair) for pair in pairs) == 24


def test_history_has_a_realistic_length(pairs: list[tuple[Record, Record]]):
    """About 500 to 1,200 tokens of a usual tokenizer stand before the segment."""
    sizes = [sum(len(m["value"]) for m in p["conversations"][: p["segment"][0]]) for _, p in pairs]
    tokens = np.array(sizes) / CHARACTERS_PER_TOKEN
    assert 450 < tokens.min() and tokens.max() < 1200 and 600 < tokens.mean()
    assert len({positive["env"] for _, positive in pairs}) >= 10


# ---- no give-away


def test_words_of_a_segment_tell_nothing(pairs: list[tuple[Record, Record]]):
    """A bag of words over the agent's segment stays near chance on held-out pairs."""
    features = word_differences(pairs)
    assert np.mean([held_out_accuracy(features, seed) for seed in range(SPLITS)]) < CHANCE_AT_MOST


def test_length_of_a_segment_tells_nothing(pairs: list[tuple[Record, Record]]):
    """Neither the longer nor the shorter side is the better one."""
    sizes = np.array([[sum(map(len, agent_turns(side))) for side in pair] for pair in pairs])
    longer = np.mean(np.sign(sizes[:, 1] - sizes[:, 0])) / 2 + 0.5
    assert 1 - CHANCE_AT_MOST < longer < CHANCE_AT_MOST
