"""Published logs of agents, through dpo/from_logs.py and training's own reading and encoding: nothing is lost on the way.

The dialogue that the model sees is read back out of the decoded tokens by its marks, and compared with the log.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from templates import encoder_of

from llamafactory_sdpo.data.formats import Format
from llamafactory_sdpo.data.pairing import Rules, make_pairs
from llamafactory_sdpo.data.reading import read_sides


AGENTS = ROOT.parents[1] / "shared" / "data" / "agents"
TAU = "tau_airline_gpt4o_200.json"
FORM = Format(tools="tools")
Piece = tuple[str, str]

pytestmark = pytest.mark.skipif(
    not AGENTS.is_dir(), reason="the published logs of agents are not beside this checkout"
)


def script(home: Path, name: str, *arguments: str) -> None:
    """Run a script of dpo/ on a data folder."""
    command = [sys.executable, str(ROOT.parent / "dpo" / f"{name}.py"), *arguments]
    done = subprocess.run(command, env=os.environ | {"SDPO_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def rows(home: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((home / name).read_text("utf-8"))


# ---- what a log says


def logs_of(name: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages of each dialogue; the policy of τ²-bench stands beside them."""
    read = json.loads((AGENTS / name).read_text("utf-8"))
    if isinstance(read, list):
        yield from (one["traj"] for one in read)
    else:
        policy = {"role": "system", "content": read["info"]["environment_info"]["policy"]}
        yield from ([policy, *one["messages"]] for one in read["simulations"])


def call(made: dict[str, Any]) -> Piece:
    """Name and arguments of a call, however its JSON is written."""
    arguments = made["arguments"] if isinstance(made["arguments"], dict) else json.loads(made["arguments"])
    return "call", json.dumps([made["name"], arguments], sort_keys=True)


def pieces_of_log(messages: list[dict[str, Any]]) -> Iterator[Piece]:
    """Yield what is said, called and given; all that a user says, calls and sees in a row is one piece."""
    for speaker, group in groupby(messages, lambda one: one.get("requestor") or one["role"]):
        block = list(group)
        if speaker == "user":
            yield "user", "\n".join(line for one in block for line in user_lines(one))
            continue
        for one in block:
            calls = [made.get("function", made) for made in one.get("tool_calls") or []]
            if one["content"] or not calls:
                yield one["role"], one["content"] or ""
            yield from map(call, calls)


def user_lines(message: dict[str, Any]) -> list[str]:
    """What a user's message, call or result is as lines of text."""
    if message["role"] == "tool":
        return [f"[result {message['content']}]"]
    calls = message.get("tool_calls") or []
    said = [message["content"]] if message["content"] or not calls else []
    return said + [f"[calls {made['name']}({json.dumps(made['arguments'])})]" for made in calls]


# ---- what a model reads


def pieces_of_text(text: str) -> Iterator[Piece]:
    """Yield the same of a dialogue in the template of Qwen 3."""
    for role, content in re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", text, re.DOTALL):
        results = re.findall(r"<tool_response>\n(.*?)\n</tool_response>", content, re.DOTALL)
        calls = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", content, re.DOTALL)
        said = content.partition("<tool_call>")[0].removesuffix("\n") if calls else content
        if results:
            yield from (("tool", result) for result in results)
        elif said or not calls:
            yield role, said
        yield from (call(json.loads(one)) for one in calls)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        (TAU, "200 dialogues: 2921 texts, 1164 calls with 2414 values, 1113 results; 200 messages after"),
        (
            "tau2_airline_gpt41.json",
            "20 dialogues: 272 texts, 148 calls with 321 values, 148 results; 20 messages after",
        ),
        (
            "tau2_telecom_gpt41.json",
            "40 dialogues: 912 texts, 207 calls with 252 values, 207 results; 40 messages after",
        ),
    ],
)
def test_all_of_a_log_is_in_the_training_text_once(tmp_path: Path, name: str, count: str) -> None:
    """In its order; but for what came after the agent's last turn, of which training has no use."""
    script(tmp_path, "from_logs", str(AGENTS / name))
    encoder = encoder_of("qwen3_nothink")
    found: list[Piece] = []
    dialogues = after = 0
    for record, messages in zip(rows(tmp_path, "dialogues.json"), logs_of(name), strict=True):
        end = 1 + max(place for place, one in enumerate(messages) if one["role"] == "assistant")
        side = read_sides([record, record], FORM, with_segment=False).chosen
        text = encoder.tokenizer.decode(encoder.dialogue(side.system + side.messages).input_ids)
        pieces = list(pieces_of_text(text))
        assert pieces == list(pieces_of_log(messages[:end])), f"dialogue {dialogues}"
        found += pieces
        dialogues, after = dialogues + 1, after + len(messages) - end
    kinds = Counter(kind for kind, _ in found)
    values = sum(len(json.loads(text)[1]) for kind, text in found if kind == "call")
    texts = kinds.total() - kinds["call"] - kinds["tool"]
    line = (
        f"{texts} texts, {kinds['call']} calls with {values} values, {kinds['tool']} results; {after} messages after"
    )
    assert f"{dialogues} dialogues: {line}" == count


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs of τ-bench, of both kinds."""
    folder = tmp_path_factory.mktemp("pairs")
    script(folder, "from_logs", str(AGENTS / TAU), "--pairs", "eto")
    script(folder, "from_logs", str(AGENTS / TAU), "--pairs", "sdpo", "--match", "state")
    script(folder, "auto_tail", "--length", "2")
    return folder


@pytest.mark.parametrize(
    ("name", "rules", "accepted", "of"),
    [
        ("eto_data.json", Rules(stage="eto"), 88, 88),
        ("eto_data.json", Rules(stage="dmpo"), 88, 88),
        ("preference_data_auto.json", Rules(), 63, 63),
        ("preference_data.json", Rules(unequal="truncate"), 63, 63),
        ("preference_data.json", Rules(scope="turn"), 63, 63),
        ("preference_data.json", Rules(), 11, 63),
    ],
)
def test_training_accepts_the_pairs(home: Path, name: str, rules: Rules, accepted: int, of: int) -> None:
    """Uncut, 52 of 63 have sides of unequal numbers of turns, which stage sdpo refuses unless it is told otherwise."""
    pairs = list(make_pairs(enumerate(rows(home, name)), FORM, rules, name))
    errors = [pair.error for pair in pairs if pair.error]
    assert (len(pairs) - len(errors), len(pairs)) == (accepted, of), errors[:1]
    assert all("agent turns to score; expected the same number" in error for error in errors)
