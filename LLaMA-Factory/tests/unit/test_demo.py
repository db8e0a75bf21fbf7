"""Check the demo's dialogues and its model: form and shares of the pairs, no give-away, tokenizer and forward pass."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamafactory_sdpo.demo.dialogues import (
    DEFAULT_PAIRS,
    DEFAULT_SEED,
    DEFAULT_SFT,
    PAIRS_FILE,
    SFT_FILE,
    make_pairs,
    make_sft,
    write_records,
)
from llamafactory_sdpo.demo.model import MAX_POSITIONS, SPECIAL_TOKENS, build_model, read_texts


DATA = Path(__file__).parents[2] / "data"
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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint built from the shipped files."""
    folder = tmp_path_factory.mktemp("demo") / "models" / "tiny"
    build_model(folder, read_texts([DATA / PAIRS_FILE]), seed=1)
    return folder


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
    """The defaults give the shipped bytes."""
    write_records(tmp_path / PAIRS_FILE, make_pairs(DEFAULT_PAIRS, DEFAULT_SEED))
    write_records(tmp_path / SFT_FILE, make_sft(DEFAULT_SFT, DEFAULT_SEED))
    for name in (PAIRS_FILE, SFT_FILE):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), f"{name} is stale: run the script again"


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


# ---- model


def test_tokenizer_round_trip(checkpoint: Path):
    """Special tokens are single ids, any text survives, and no token is added unasked."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert [tokenizer(token).input_ids for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>",
    )  # fmt: skip
    for text in ('{"action_type": "speak", "argument": "Hi."}', "café, 東京 🙂 \n\n x , y ."):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_model_is_small_and_runs(checkpoint: Path):
    """A forward pass gives one finite row of logits a token, and a rebuild with the same seed gives equal weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    ids = torch.tensor([tokenizer("Hello there").input_ids])
    logits = model(input_ids=ids).logits
    assert logits.shape == (1, ids.shape[1], len(tokenizer)) and torch.isfinite(logits).all()
    assert model.num_parameters() < 2_000_000 and model.config.max_position_embeddings == MAX_POSITIONS
    build_model(checkpoint.with_name("again"), read_texts([DATA / PAIRS_FILE]), seed=1)
    again = AutoModelForCausalLM.from_pretrained(checkpoint.with_name("again"))
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["again", "tiny"], "no part folder stays behind"


def test_no_text_is_refused(tmp_path: Path):
    """An empty list of texts is the user's mistake."""
    with pytest.raises(ValueError, match="no text"):
        build_model(tmp_path / "m", [])
