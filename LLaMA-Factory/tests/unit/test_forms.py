"""The same fifty pairs in every form and every kind of file: the same rows, batches and losses."""

import csv
import gzip
import json
import random
from functools import cache

import pyarrow
import pytest
import torch
from datasets import Dataset, DatasetDict
from pyarrow import ipc, parquet
from test_loss import POLICY, TEMPLATE, TOKENIZER, shared_trainer

from llamafactory_sdpo.data.dataset import load_pairs
from llamafactory_sdpo.data.encoding import PairProcessor
from llamafactory_sdpo.data.pairing import Rules
from llamafactory_sdpo.host.data import dataset_list
from llamafactory_sdpo.host.templates import dialogue_encoder


def tool(name, about, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


TOOLS = [
    tool("look_up", "who owns a bike", bike={"type": "integer"}),
    tool("give", "hand it over", to={"type": "string"}),
]


# ---- the pairs, in words of no form ----------------------------------------------------------------------------------
#
# A turn is ("system" | "user" | "agent" | "result", text) or ("calls", text, [(name, arguments), …]).


def looking_up(number, text, count):
    """A turn of calls with its results."""
    calls = [("look_up", {"bike": number + each, "near": "é"}) for each in range(count)]
    return [("calls", text, calls), *(("result", f'{{"owner": "Bo {each}"}}') for each in range(count))]


def ending(number, word, kinds):
    """What follows the history: an agent's turn, and then one of each kind, with what it answers before it."""
    turns = [("agent", f"{word} {number}")]
    for kind in kinds:
        turns += [("user" if turns[-1][0] == "agent" else "result", f"{word} reply")]
        turns += [
            ("calls", f"{word}, then", [("give", {"to": word})]) if kind == "calls" else ("agent", f"{word} {kind}")
        ]
    return turns


@cache
def fifty(parallel=True):
    """(history, rejected end, chosen end) of fifty pairs; some begin with a system turn, some share their history."""
    draw, pairs = random.Random(7), []
    for number in range(50):
        history = [("system", "Be kind.")] if number % 2 else []
        history += [("user", f"Whose is bike {number - number % 4}?")]
        if number % 3 == 0:
            history += looking_up(number, draw.choice(["", "Let me look."]), draw.randint(1, 3) if parallel else 1)
        if number % 3 == 1:
            history += [("agent", '{"say": "Which?"}'), ("user", "[the red one]")]
        kinds = [draw.choice(["calls", "last"]) for _ in range(number % 4)]
        pairs.append((history, ending(number, "worse", kinds), ending(number, "better", kinds)))
    return pairs


def weighing(text):
    """The weight of a turn of the agent's, where it has one: some of the better ones have."""
    return {"weight": 0.5} if text.startswith("better ") and text.endswith("0") else {}


def as_sharegpt(turns):
    """A call is a `function_call` in one of the host's spellings."""
    tags, found = {"system": "system", "user": "human", "agent": "gpt", "result": "observation"}, []
    for kind, text, *calls in turns:
        if calls:
            listed = [{"name": name, "arguments": arguments} for name, arguments in calls[0]]
            value = json.dumps(listed[0] if len(listed) == 1 else listed, indent=2 if len(found) % 2 else None)
            found.append(
                {"from": "function_call", "value": f"{text}\n<tool_call>{value}</tool_call>" if text else value}
            )
        else:
            found.append({"from": tags[kind], "value": text} | weighing(text))
    return found


def as_openai(turns):
    """Arguments are JSON text, the results of parallel calls stand in the wrong order, the system turn has parts."""
    roles, found, waiting = {"system": "developer", "user": "user", "agent": "assistant"}, [], []
    for kind, text, *calls in turns:
        if calls:
            waiting = [f"call_{len(found)}_{number}" for number in range(len(calls[0]))]
            functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in calls[0]]
            made = [{"id": id_, "type": "function", "function": f} for id_, f in zip(waiting, functions, strict=True)]
            found.append({"role": "assistant", "content": text or None, "tool_calls": made})
            first = len(found)
        elif kind == "result":
            found.insert(first, {"role": "tool", "content": text, "tool_call_id": waiting.pop(0)})
        else:
            parts = [{"type": "text", "text": text}] if kind == "system" else text
            found.append({"role": roles[kind], "content": parts} | weighing(text))
    return found


# ---- the forms -------------------------------------------------------------------------------------------------------


def adjacent(spell, column):
    return lambda pairs: [{column: spell(shared + end), "tools": TOOLS} for shared, *ends in pairs for end in ends]


def sides(spell, history=None, whole=False, chosen="chosen", rejected="rejected"):
    """One record a pair, whose sides are whole dialogues or what follows the history."""

    def records(pairs):
        for shared, worse, better in pairs:
            first = 0 if whole else len(shared)
            row = {chosen: spell(shared + better)[first:], rejected: spell(shared + worse)[first:]}
            yield {
                **({history: spell(shared)} if history else {}),
                **row,
                "tools": json.dumps(TOOLS),
                "score_chosen": 8.0,
            }

    return lambda pairs: list(records(pairs))


def ultrafeedback(pairs):
    """`prompt` is the user's first text, `messages` the chosen dialogue once more."""
    rows = zip(pairs, sides(as_openai, whole=True)(pairs), strict=True)
    prompts = [next(text for kind, text, *_ in shared if kind == "user") for shared, *_ in pairs]
    return [
        {"prompt": prompt, "messages": row["chosen"], **row} for prompt, (_, row) in zip(prompts, rows, strict=True)
    ]


def openai_preference(pairs):
    rows = sides(as_openai, "messages", chosen="preferred_output", rejected="non_preferred_output")(pairs)
    return [
        {"input": {"messages": row.pop("messages"), "tools": TOOLS, "parallel_tool_calls": True}, **row}
        for row in rows
    ]


SWIFT = {"chosen": "messages", "rejected": "rejected_messages"}
WRITERS = {
    "adjacent": adjacent(as_sharegpt, "conversations"),
    "adjacent-openai": adjacent(as_openai, "messages"),
    "ranking": sides(as_sharegpt, "conversations"),
    "ranking-whole": sides(as_sharegpt, "conversations", whole=True),
    "axolotl": sides(as_openai, "messages"),
    "trl-implicit": sides(as_openai, whole=True),
    "trl-explicit": sides(as_openai, "prompt"),
    "ultrafeedback": ultrafeedback,
    "ms-swift": sides(as_openai, whole=True, **SWIFT),
    "openai-preference": openai_preference,
}
SAID = {
    "adjacent": "adjacent records, a negative and a positive next to each other, turns in conversations",
    "adjacent-openai": "adjacent records, a negative and a positive next to each other, turns in messages",
    "ranking": "LLaMA-Factory's ranking form, the history in conversations, what follows in chosen and rejected",
    "ranking-whole": "LLaMA-Factory's ranking form, whole dialogues in chosen and rejected",
    "axolotl": "axolotl's form, the history in messages, what follows in chosen and rejected",
    "trl-implicit": "TRL's preference form, whole dialogues in chosen and rejected",
    "trl-explicit": "TRL's preference form, the history in prompt, what follows in chosen and rejected",
    "ultrafeedback": "TRL's preference form, whole dialogues in chosen and rejected",
    "ms-swift": "ms-swift's form, whole dialogues in messages and rejected_messages",
    "openai-preference": "OpenAI's preference form, the history in input.messages, "
    "what follows in preferred_output and non_preferred_output",
}


# ---- the kinds of files ----------------------------------------------------------------------------------------------


def lines(rows):
    return "\n".join(map(json.dumps, rows))


def plain(value):
    """The same without parts: a column of a table holds lists or texts, not both."""
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        return parts[0] if parts else [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def table_of(rows):
    return pyarrow.Table.from_pylist(plain(rows))


def write_arrow(rows, path):
    table = table_of(rows)
    with pyarrow.OSFile(str(path), "wb") as file, ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_csv(rows, path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        cells = [
            {key: json.dumps(cell) if isinstance(cell, list | dict) else cell for key, cell in row.items()}
            for row in rows
        ]
        writer.writerows(cells)


def write_folder(rows, path):
    path.mkdir()
    half = len(rows) // 4 * 2
    for name, part in (("a.parquet", rows[:half]), ("b.parquet", rows[half:])):
        parquet.write_table(table_of(part), path / name)


def write_clone(rows, path):
    (path / "data").mkdir(parents=True)
    (path / "README.md").write_text("# A dataset of the hub", encoding="utf-8")
    parquet.write_table(table_of(rows), path / "data" / "train-00000-of-00001.parquet")


KINDS = {
    "pairs.json": lambda rows, path: path.write_text(json.dumps(rows), encoding="utf-8"),
    "bom.json": lambda rows, path: path.write_text(json.dumps(rows), encoding="utf-8-sig"),
    "pairs.jsonl": lambda rows, path: path.write_text(lines(rows), encoding="utf-8"),
    "pairs.jsonl.gz": lambda rows, path: path.write_bytes(gzip.compress(lines(rows).encode())),
    "pairs.parquet": lambda rows, path: parquet.write_table(table_of(rows), path),
    "pairs.arrow": write_arrow,
    "pairs.csv": write_csv,
    "parquets": write_folder,
    "saved": lambda rows, path: Dataset.from_list(plain(rows)).save_to_disk(path),
    "splits": lambda rows, path: DatasetDict({"train": Dataset.from_list(plain(rows))}).save_to_disk(path),
    "clone": write_clone,
}


def load(path, stage="sdpo"):
    """The pairs of a path, as a training loads them."""
    (attr,) = dataset_list([str(path)], str(path.parent))
    return load_pairs(attr, Rules(stage), str(path.parent), None, 0, None)


def content(pairs):
    """Rows of pairs without where they come from."""
    assert not [error for error in pairs["error"] if error]
    return pairs.remove_columns("origin").to_list()


@cache
def expected(stage, parallel=True):
    """The rows by hand: messages of the contract between the rooms."""
    rows = []
    for shared, worse, better in fifty(parallel):
        agents = sum(kind in ("agent", "calls") for kind, *_ in shared)
        rows.append(
            {
                "chosen": [message(*turn) for turn in shared + better],
                "rejected": [message(*turn) for turn in shared + worse],
                "tools": json.dumps(TOOLS),
                "first_turn": agents,
                "unequal": False,
                "calls": True,
                "error": "",
                "gap": 0.0,
            }
        )
    return rows


def message(kind, text, calls=None):
    roles = {"agent": "assistant", "result": "observation", "calls": "function"}
    if calls:
        value = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls], ensure_ascii=False)
        text = f"{text}\n<tool_call>{value}</tool_call>" if text else value
    return {"role": roles.get(kind, kind), "content": text, "weight": None} | weighing(text)


COMBINATIONS = [
    *((form, "pairs.json") for form in WRITERS),
    *((form, "pairs.parquet") for form in WRITERS),
    *((form, kind) for form in ("adjacent", "openai-preference") for kind in KINDS),
]


@pytest.mark.parametrize(("form", "kind"), dict.fromkeys(COMBINATIONS))
def test_fifty_pairs_are_the_same_rows_in_every_form_and_kind_of_file(tmp_path, capsys, form, kind):
    path = tmp_path / kind
    KINDS[kind](WRITERS[form](fifty()), path)
    assert content(load(path)) == expected("sdpo")
    assert capsys.readouterr().out == f"{kind}: {SAID[form]}\n"


def batches(pairs, stage):
    """Collated batches of ten pairs each, by the way of a training."""
    processor = PairProcessor(dialogue_encoder(TEMPLATE, TOKENIZER, None, 100_000, "llama3"), False, stage)
    columns = processor.preprocess_dataset(pairs.to_dict())
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [shared_trainer(stage).data_collator(rows[start : start + 10]) for start in range(0, len(rows), 10)]


@pytest.mark.parametrize("stage", ["sdpo", "dmpo"])
def test_the_batches_and_losses_are_the_same_as_well(tmp_path, stage):
    """One call a turn, which every template renders; the forms differ in no tensor and in no bit of the loss."""
    found = {}
    for form, write in WRITERS.items():
        path = tmp_path / f"{form}.json"
        path.write_text(json.dumps(write(fifty(parallel=False))), encoding="utf-8")
        pairs = load(path, stage)
        assert content(pairs) == expected("sdpo", parallel=False)
        found[form] = batches(pairs, stage)
    first = found.pop("adjacent")
    for others in found.values():
        for one, other in zip(first, others, strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                assert torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name], name
    ours, theirs = (
        [shared_trainer(stage).get_batch_loss_metrics(POLICY, batch)[0].item() for batch in form]
        for form in (first, found["openai-preference"])
    )
    assert ours == theirs and len(set(ours)) == 5
