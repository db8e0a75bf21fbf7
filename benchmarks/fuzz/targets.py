"""What is fuzzed: the reader of Redis snapshots, and the parsers of models' answers.

Each target has good inputs, pieces for the mutations, and a function that may raise nothing but our own error for
what is no good. Real inputs are among the good ones where they are in ../shared/data.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from sotopia_sdpo.judge.dimensions import DIMENSIONS
from sotopia_sdpo.judge.verdict import AGENTS, read_verdict
from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.pairs.indexed_answer import read_answer
from sotopia_sdpo.play.actions import Action, from_json, from_text, parse_answer
from sotopia_sdpo.rdb.snapshot import RdbError, read_rdb


ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
sys.path.append(str(ROOT / "sotopia" / "tests" / "unit"))
import rdb_writer as w  # noqa: E402 (the tests' own writer of snapshots)


MOST_BYTES = 200_000
MOST_CHARACTERS = 60_000
"""More than a parser looks at."""
MOST_ACTIONS = 200
T = TypeVar("T", bytes, str)


class Target(NamedTuple, Generic[T]):
    """Something that reads what others wrote."""

    inputs: Sequence[T]
    pieces: Sequence[T]
    most: int
    read: Callable[[T, Path], None]
    """Reads a case; the path is that of a scratch file. What it raises is a crash."""
    encoded: Callable[[T], bytes]
    decoded: Callable[[bytes], T]


def read_snapshot(case: bytes, scratch: Path) -> None:
    """Read a snapshot to its end."""
    scratch.write_bytes(case)
    try:
        for _ in read_rdb(scratch):
            pass
    except RdbError as err:
        assert "\n" not in str(err)


def read_answers(case: str, _: Path) -> None:
    """Read an answer as everything that a model's answer may be."""
    readers: tuple[Callable[[], Any], ...] = (
        lambda: parse_answer(case),
        lambda: read_answer(case, "index"),
        lambda: read_answer(case, "start_index", "end_index"),
        lambda: read_verdict(case, ("Ann", "Bob")),
        lambda: from_json(case),
        lambda: from_text(case),
    )
    for read in readers:
        try:
            read()
        except AnswerError as err:
            str(err).encode("utf-8", "surrogatepass")
        except ValueError as err:
            # `from_json` and `from_text` refuse with it; nothing that is derived from it may come through.
            if type(err) is not ValueError:
                raise


def snapshots() -> list[bytes]:
    """Return good snapshots, without checksums, so that mutations are read to the end."""
    document = {"pk": "01A", "n": 1, "text": "abc" * 9, "ü": [None, True, 2.5, {"a": []}]}
    texts = [w.entry("k:1", w.json_text(document, write)) for write in (w.string, w.lzf_string)]
    trees = [w.entry("k:2", w.json_tree(document, mark)) for mark in (b"\x01", b"\x02")]
    s, n = w.string, w.length
    stream = n(1) + s("id") + s("listpack") + n(2) + n(1 << 40) + n(0)
    group = n(1) + s("group") + n(7) + n(8) + n(1) + bytes(24) + n(3) + n(1) + s("c") + bytes(8) + n(1) + bytes(16)
    marks = b"\x01" + n(5) + b"\x03" + bytes(4) + b"\x04" + bytes(8) + b"\x05" + s("x") + b"\x00"
    others = [
        w.entry("k", w.lzf_string(b"x" * 99), 0) + w.entry("k", w.integer_string(1234), 0),
        w.entry("k", n(2) + s("a") + s("b"), 1) + w.entry("k", n(1) + s("f") + s("v"), 4),
        w.entry("k", n(3) + s("a") + b"\x031.5" + s("b") + b"\xfe" + s("c") + b"\xff", 3),
        w.entry("k", n(2) + n(1) + s("plain") + n(2) + s("packed"), 18) + w.entry("k", bytes(8) + n(0) + n(0), 24),
        w.entry("k", stream + group, 15) + w.entry("k", w.module_id("graphdata", 9) + marks),
        b"\xfa" + s("v") + s("7") + b"\xfe\x03\xfb\x05\x01\xf7" + w.module_id("ft_index0", 19) + b"\x02\x02" + marks,
        w.entry("k", w.json_text([1]), before=b"\xfc" + bytes(8) + b"\xf8\x07\xf9\x05"),
    ]  # fmt: skip
    made = [w.snapshot(*some, checksum=False) for some in (texts, trees, others, [*others, *texts, *trees])]
    made += [w.snapshot(one, version=12, checksum=False) for one in (*texts, *trees, *others)]
    real = SHARED / "rdb" / "redisjson_encver0.rdb"
    return [*made, *([real.read_bytes()[:-8] + bytes(8)] if real.is_file() else [])]


def answers() -> list[str]:
    """Return good answers of agents, annotators and judges, and what models put around them."""
    verdict = {d.name: {"reasoning": "As seen.", "score": d.high} for d in DIMENSIONS}
    good = [Action("speak", 'Take it, "friend"!').to_json(), Action("leave").to_json(), "did nothing", 'said: "a"']
    good += [json.dumps({"reason": "It broke there.", "index": 3}), '{"reason":"x","start_index":1,"end_index":4}']
    good += [json.dumps(dict.fromkeys(AGENTS, verdict)), json.dumps({"Ann": verdict, "Bob": verdict}, indent=1)]
    good += [f"<think>Maybe {good[0]}?</think>\n```json\n{one}\n``` Done." for one in good]
    return good + real_actions()


def real_actions() -> list[str]:
    """Return actions of published sessions, as models write them."""
    path = SHARED / "sotopia_episodes" / "sotopia_20_episodes_scored.jsonl"
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        for said in (message[2] for turn in json.loads(line)["raw_messages"] for message in turn):
            try:
                found.append(from_text(said).to_json())
            except ValueError:  # what the environment says
                continue
    return found[:MOST_ACTIONS]


EDGES = (0, 1, 2, 63, 64, 127, 128, 253, 254, 255, 1 << 14, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
BYTES = (
    *(bytes([number]) for number in range(256)),
    *(w.length(number, 64) for number in EDGES),
    *(w.length(number) for number in EDGES),
    *(number.to_bytes(8, "little") for number in EDGES),
    *(w.module_id("ReJSON-RL", version) for version in (0, 1, 3, 4)),
    *(w.unsigned(0x40) + w.unsigned(1), w.unsigned(0x20) + w.unsigned(1), w.unsigned(0x80), w.unsigned(2)),
    *(b"[", b'{"a":', b"\xc3", b"\xc3\x05\x40\xff", b"\xe0\xff\x00", b"\xff\xfe", b"\xed\xa0\x80", b"9" * 5000),
)
MARKS = ("<think>", "</think>", "<think a>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷", "<|channel|>analysis")
WORDS = (
    *MARKS,
    *("<|channel|>final", "<|message|>", "<|begin_of_thought|>", "<|end_of_thought|>", "</reasoning", "```json"),
    *("{", "}", "[", "]", '"', "'", ":", ",", "\\", "\\u", "\\ud800", "\\udc00", "\\u0000", " ", "\n", "\t", "\x00"),
    *('{"a":', '{"a":[', '{"a":1,', "[1,],", ",]", ",}", '{"', '"a', '{"action_type":', '"action_type"', '{"x":{'),
    *(
        '{"action_type": "speak", "argument": ',
        '{"reason": "r", "index": ',
        '"score": ',
        '{"agent_1": ',
        "[[",
        '"Ann"',
    ),
    *("9", "-", "1e999", "NaN", "-Infinity", "9" * 400, "0.1", "true", "null", "7.0", "[action] ", 'said: "'),
    *("\x1b[31m", "\u202e", "\u2028", "\ud800", "\U0001f600", "ſ", "İ", "<script>", "&amp;", "</dialogue>", "é" * 99),
    *('[{"action_type":', "[" * 900, "]" * 900, '{"a":' * 300),
)


TARGETS: dict[str, Target[Any]] = {
    "rdb": Target(snapshots(), BYTES, MOST_BYTES, read_snapshot, bytes, bytes),
    "answers": Target(
        answers(),
        WORDS,
        MOST_CHARACTERS,
        read_answers,
        lambda case: case.encode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "replace"),
    ),
}
