"""Files that others wrote, with anything in any place of them: read, or refused in one line."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs.messages import UserTools
from sotopia_sdpo.logs.recognise import READERS as LOGS
from sotopia_sdpo.logs.recognise import recognise
from sotopia_sdpo.logs.sides import Sides
from sotopia_sdpo.loop.configs import read_config
from sotopia_sdpo.pairs.negatives import read_dialogues
from sotopia_sdpo.pairs.records import read_pairs
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.results.people import People
from sotopia_sdpo.step_files import write_json
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.transfer import import_sources
from sotopia_sdpo.world.combos import load_splits


EPISODE = {
    "pk": "01A",
    "environment": "env",
    "agents": ["ann", "bob"],
    "tag": "run",
    "models": ["judge", "m", "p"],
    "messages": [[["Environment", "Ann", "hello"]], [["Ann", "Environment", 'said: "Hi"']]],
    "reasoning": "",
    "rewards": [[3.5, {"goal": 8.0}], [3.5, {"goal": 8.0}]],
    "rewards_prompt": "",
}
TURNS = [{"from": "human", "value": "You are Ann."}, {"from": "gpt", "value": "{}"}, {"from": "human", "value": "No."}]
SIDE = {
    "conversations": [*TURNS, {"from": "gpt", "value": "{}"}],
    "pair": "p",
    "episode": "e",
    "env": "v",
    "agents": ["ann", "bob"],
    "agent_position": 0,
    "goal": 3,
    "relationship": 1,
    "location": 1,
    "segment": [1, 4],
}
PROFILE = {
    "env_id": "e1",
    "scenario": "two meet",
    "agent_goals": ["g1", "g2"],
    "relationship": "3",
    "agent_constraint": "[['a1'], ['a2']]",
}
CALL = {"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}
CHAT = {
    "messages": [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [CALL], "weight": 1},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "r"}]},
        {"role": "assistant", "content": "a"},
    ],
    "tools": [{"name": "f"}],
    "reward": 0.5,
    "label": True,
}
TALK = {
    "conversations": [
        {"from": "human", "value": "u"},
        {"from": "function_call", "value": json.dumps({"name": "f", "arguments": '{"x": 1}'})},
        {"from": "observation", "value": "r"},
        {"from": "gpt", "value": "a"},
    ],
    "tools": '[{"name": "f"}]',
    "score": 3,
}
NAMES = [*EPISODE, *SIDE, "value", "agent_ids", "settings", "status"]
TEXTS = ("{[1]: 2}", '"\\ud800"', '{"x": "\\ud800"}', '[{"name": "\\ud800"}]', "<tool_call>", "[" * 700 + "]" * 700)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", "\x00", "\u202e", "gpt", "<script>", 2**63, -(2**70), "x" * 10_000, [[[[]]]]])
    | st.sampled_from([*TEXTS, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=6,
)
NOISE = (
    *(b"", b"\xef\xbb\xbf[]", b"\xff\xfe[", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"[1e999]", b"nul"),
    *(b"\x00" * 100, b"REDIS", b"SQLite format 3\x00", b"\x1f\x8b\x08", b"- " * 100_000, b"a: &a [*a]", b"\r\n\r\n"),
    *(b'[{"pk": "a"}', b'{"pk": "\\ud800"}\n{', b"\xe2\x80\xa8[]", b"a,b\n1", b'"' * 1001),
)
bounded = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def spoiled(draw: st.DrawFn, good: Any) -> Any:
    """Replace, drop or add something, wherever it may stand."""
    found = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(found))
        if not places:
            return draw(VALUES)
        holder, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "replace", "drop", "double"]))
        if change == "replace":
            # A copy: a later round may change it, and Hypothesis hands out the same lists again.
            holder[key] = copy.deepcopy(draw(VALUES))
        elif change == "drop":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
    return found


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def import_into(path: Path) -> None:
    """Import into a database that is gone afterwards; nothing of a refused file may be in it."""
    with TemporaryDirectory(dir=path.parent) as folder, open_store(f"sqlite:///{folder}/s.db") as store:
        try:
            import_sources(store, [str(path)])
        except UserError:
            assert not store.heads() and not any(store.counts().profiles.values())
            raise
        list(store.episodes())


def read_logs(path: Path) -> None:
    """Read the log, and write what came of it."""
    tally = Tally("dialogues")
    found = [side.dump() for side in Sides(None, None, UserTools.text).read(path, "x", LOGS[recognise(path)], tally)]
    write_json([(path.with_name("out.json"), found)])


def no_store() -> Any:
    raise UserError("no store")


READERS: dict[str, Callable[[Path], Any]] = {
    "pairs": lambda path: read_pairs(path, "auto_tail.py"),
    "dialogues": lambda path: read_dialogues(path, "locate.py", no_store),
    "import": import_into,
    "splits": load_splits,
    "ratings": lambda path: People([path]),
    "config": read_config,
    "logs": read_logs,
}


def read_or_refuse(read: Callable[[Path], Any], path: Path) -> None:
    """Read a file; what is wrong with it is one line that can be printed."""
    try:
        read(path)
    except UserError as err:
        assert "\n" not in str(err).strip() and len(str(err)) < 5000


@bounded
@given(rows=st.lists(spoiled(SIDE), min_size=2, max_size=2), lines=st.booleans())
@pytest.mark.parametrize("reader", ["pairs", "dialogues"])
def test_pairs_and_dialogues(tmp_path: Path, reader: str, rows: list[Any], lines: bool) -> None:
    path = tmp_path / "data.json"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), "utf-8")
    read_or_refuse(READERS[reader], path)


@bounded
@given(row=spoiled(CHAT) | spoiled(TALK))
def test_logs(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(row), "utf-8")
    read_or_refuse(read_logs, path)


@bounded
@given(row=spoiled(PROFILE))
def test_profiles(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps([PROFILE, row]), "utf-8")
    read_or_refuse(import_into, path)


@bounded
@given(row=spoiled(EPISODE), lines=st.booleans())
def test_episodes(tmp_path: Path, row: Any, lines: bool) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(EPISODE) + "\n" + json.dumps(row) if lines else json.dumps([EPISODE, row]), "utf-8")
    read_or_refuse(import_into, path)


@bounded
@given(found=spoiled({"SFT-round-1": ["a", "b"], "about": "x"}))
@pytest.mark.parametrize("reader", ["splits", "config"])
def test_splits_and_configs(tmp_path: Path, reader: str, found: Any) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(found), "utf-8")
    read_or_refuse(READERS[reader], path)


@bounded
@given(data=st.binary(max_size=100))
@pytest.mark.parametrize("reader", READERS)
def test_noise(tmp_path: Path, reader: str, data: bytes) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    read_or_refuse(READERS[reader], path)


@pytest.mark.parametrize("data", NOISE, ids=range(len(NOISE)))
@pytest.mark.parametrize("reader", READERS)
def test_known_traps(tmp_path: Path, reader: str, data: bytes) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    read_or_refuse(READERS[reader], path)
