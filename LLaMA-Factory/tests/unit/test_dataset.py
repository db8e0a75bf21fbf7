"""From dataset_info.json to encoded rows: no option of the host ever puts together what does not belong together."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import oracle
import pytest
import small
from dialogues import pair, ranking, record
from llamafactory.data.template import TEMPLATES

from llamafactory_sdpo.data import dataset
from llamafactory_sdpo.data.encoding import IGNORE_INDEX
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.data import load_pair_dataset
from llamafactory_sdpo.host.install import install


install()
TOKENIZER = oracle.toy_tokenizer()
COLUMNS = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}


def load(folder, stage="sdpo", dataset="pairs", **options):
    """The dataset module of a training, by the very way that trainings and the check before them go."""
    args = {
        "stage": stage,
        "dataset": dataset,
        "dataset_dir": str(folder),
        "template": "llama3",
    }
    model_args, data_args, training, tuning, _ = small.arguments(**{**args, **options})
    template = TEMPLATES[data_args.template]
    return load_pair_dataset(tuning, template, model_args, data_args, training, "rm", TOKENIZER)


def numbered(count, start=0):
    """Pairs whose two sides carry the pair's number, so that a wrong match shows."""
    return [row for n in range(start, start + count) for row in pair([f"u{n}"], [f"worse {n}"], [f"better {n}"])]


def numbers(rows):
    """The pair numbers of encoded rows; fails if two sides of different pairs are in one row."""
    found = []
    for row in rows:
        sides = []
        for side in ("chosen", "rejected"):
            labels = [label for label in row[f"{side}_labels"] if label != IGNORE_INDEX]
            text = TOKENIZER.decode(labels[-row[f"{side}_turn_lengths"][-1] :])
            word, number = text.removesuffix("<|eot_id|>").split()
            assert word == {"chosen": "better", "rejected": "worse"}[side]
            sides.append(int(number))
        assert sides[0] == sides[1]
        found.append(sides[0])
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_size": 0.3},
        {"val_size": 3},
        {"max_samples": 8},
        {"preprocessing_num_workers": 2},
        {"preprocessing_num_workers": 3, "val_size": 0.2, "preprocessing_batch_size": 1},
        {"streaming": True, "max_steps": 1},
        {"streaming": True, "max_steps": 1, "val_size": 4, "buffer_size": 3},
        {"streaming": True, "max_steps": 1, "dataloader_num_workers": 2},
        {"mix_strategy": "interleave_under", "interleave_probs": "0.5,0.5", "dataset": "pairs,pairs"},
    ],
)
def test_sides_stay_together(write, tmp_path, options):
    write(numbered(11))
    module = load(tmp_path, **options)
    train = numbers(module["train_dataset"])
    held_out = numbers(module["eval_dataset"]) if "eval_dataset" in module else []
    if "mix_strategy" not in options:
        wanted = 4 if "max_samples" in options else 11
        assert sorted(train + held_out) == list(range(wanted))
    if options.get("val_size"):
        assert len(held_out) == {0.3: 4, 3: 3, 0.2: 3, 4: 4}[options["val_size"]]


def test_a_separate_evaluation_set(write, tmp_path):
    write(numbered(3))
    (tmp_path / "more.json").write_text(json.dumps(numbered(2, start=50)), encoding="utf-8")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    info["more"] = {**info["pairs"], "file_name": "more.json"}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    module = load(tmp_path, eval_dataset="more")
    assert numbers(module["eval_dataset"]) == [50, 51]
    module = load(tmp_path, eval_dataset="more,pairs", eval_on_each_dataset=True)
    assert {name: len(rows) for name, rows in module["eval_dataset"].items()} == {"more": 2, "pairs": 3}


def test_num_samples_takes_every_pair_before_any_twice(write, tmp_path):
    write(numbered(5), num_samples=14)
    found = numbers(load(tmp_path)["train_dataset"])
    assert sorted(found[:5]) == list(range(5)) and len(found) == 7


def test_both_forms_give_the_same_rows(write, tmp_path):
    turns = [([f"u{n}", "a", "p"], [f"worse {n}", "p", "x"], [f"better {n}", "p", "y"]) for n in range(4)]
    write([row for parts in turns for row in pair(*parts, goal=3, reason="…")])
    adjacent = load(tmp_path)["train_dataset"]
    write([ranking(*parts, note=None) for parts in turns], "ranked.json", ranking=True, columns=COLUMNS)
    ranked = load(tmp_path)["train_dataset"]
    for name in set(adjacent.column_names) - {"origin"}:
        assert adjacent[name] == ranked[name], name


def test_a_folder_is_read_in_the_order_of_its_names_and_pairs_stay_within_a_file(write, tmp_path):
    write(numbered(2), "many/a.json")
    write("\n".join(json.dumps(row) for row in numbered(2, start=2)), "many/b.jsonl")
    write(numbered(1, start=4), "many/c.json", file_name="many")
    assert numbers(load(tmp_path)["train_dataset"]) == [0, 1, 2, 3, 4]
    write(numbered(1)[:1], "many/a.json", file_name="many")
    with pytest.raises(UserError, match="a.json has 1 records, an odd number"):
        load(tmp_path)


def test_a_dataset_in_the_form_of_the_hub(write, tmp_path):
    """A hub name and a local folder go the same way; extra fields that differ in type are dropped by the hub's form."""
    rows = [{**row, "goal": 3} for row in numbered(3)]
    write("\n".join(json.dumps(row) for row in rows), "hub/data/train.jsonl", hf_hub_url=str(tmp_path / "hub"))
    assert numbers(load(tmp_path)["train_dataset"]) == [0, 1, 2]


def test_a_changed_byte_is_read_again(write, tmp_path):
    """The cache is keyed by content: neither the name nor the time of a file vouches for it."""
    import os

    path = write(numbered(2))
    stamp = path.stat()
    assert numbers(load(tmp_path)["train_dataset"]) == [0, 1]
    write(numbered(2, start=7))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert numbers(load(tmp_path)["train_dataset"]) == [7, 8]


def test_changed_code_reads_again(tmp_path, monkeypatch):
    """Every module that decides what a file becomes is in the key of the cached rows."""
    names = {Path(module.__file__).name for module in dataset.CODE} | {"dataset.py"}
    reading = {path.name for path in Path(dataset.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert names == reading | {"stages.py"}
    copies = [Path(shutil.copy(module.__file__, tmp_path)) for module in dataset.CODE]
    monkeypatch.setattr(dataset, "CODE", tuple(SimpleNamespace(__file__=str(path)) for path in copies))
    found = {dataset._digest([])}
    for copy in copies:
        copy.write_text(f"{copy.read_text(encoding='utf-8')}#", encoding="utf-8")
        found.add(dataset._digest([]))
    assert len(found) == len(copies) + 1


def test_stages_do_not_share_the_cache(write, tmp_path):
    write(pair(["u0", "a0", "p0"], ["worse 1", "p1", "x"], ["better 1", "p1", "y"], segment=[3, 4]))
    for stage, turns in (("sdpo", 2), ("eto", 3)):
        row = load(tmp_path, stage=stage)["train_dataset"][0]
        assert (row["first_turn"], len(row["chosen_turn_lengths"])) == (1, turns)


# ---- counting and refusing -------------------------------------------------------------------------------------------


def test_bad_pairs_stop_or_are_counted(write, tmp_path, caplog):
    rows = numbered(3)
    rows[2]["conversations"][1]["value"] = None
    write(rows)
    with pytest.raises(UserError, match="pairs.json records 2 and 3: the first .negative.: turn 1 has nothing"):
        load(tmp_path)
    assert numbers(load(tmp_path, bad_pairs="skip")["train_dataset"]) == [0, 2]
    assert "skipped 1 of 3 pairs" in caplog.text
    write(rows[2:4])
    with pytest.raises(UserError, match="every pair was skipped"):
        load(tmp_path, bad_pairs="skip")


def test_unequal_segments_warn(write, tmp_path, caplog):
    write(pair(["u"], ["worse 0", "p", "x"], ["better 0"]) + numbered(1, start=1))
    with pytest.raises(UserError, match="2 .negative. and 1 .positive. agent turns"):
        load(tmp_path)
    load(tmp_path, unequal_segments="warn")
    assert "1 of 2 pairs have segments of unequal numbers of turns; a longer negative" in caplog.text


@pytest.mark.parametrize("stage", ["sdpo", "eto"])
def test_overlong_pairs_are_counted(write, tmp_path, caplog, stage):
    """The middle pair is shortened by sdpo, which keeps the scored turn; a whole session is skipped."""
    long = pair(["u1", "a " * 60, "p1", "a", "p"], ["worse 1"], ["better 1"])
    write(numbered(1) + long + numbered(1, start=2))
    module = load(tmp_path, stage=stage, cutoff_len=100)
    assert numbers(module["train_dataset"]) == ([0, 1, 2] if stage == "sdpo" else [0, 2])
    lost, shortened = (0, 1) if stage == "sdpo" else (1, 0)
    assert f"of 3 pairs {lost} were longer than cutoff_len 100 and skipped, {shortened} lost turns" in caplog.text
    assert numbers(load(tmp_path, stage=stage, cutoff_len=100, overlong="skip")["train_dataset"]) == [0, 2]
    with pytest.raises(UserError, match="records 2 and 3: longer than cutoff_len 100"):
        load(tmp_path, stage=stage, cutoff_len=100, overlong="stop")
    with pytest.raises(UserError, match="as every pair of the train"):
        load(tmp_path, stage=stage, cutoff_len=5)


TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}


@pytest.mark.parametrize(
    ("entry", "options", "message"),
    [
        ({}, {"max_samples": 3}, "max_samples 3 would split a pair"),
        ({"num_samples": 1}, {}, "num_samples 1 would split a pair"),
        *(({"num_samples": n}, {}, "num_samples is .*, expected a whole number above 0") for n in ("x", 0, -2, True)),
        ({"file_name": 5}, {}, "entry pairs: file_name is 5, expected text"),
        ({"file_name": "a\0.json"}, {}, "entry pairs: file_name is .*, expected text"),
        ({"file_name": "\ud83d.json"}, {}, "entry pairs: file_name is .*, expected text"),
        ({"file_name": "a" * 300 + ".json"}, {}, "does not exist; put it there"),
        ({"columns": {"messages": 5}}, {}, "entry pairs: messages is 5, expected text"),
        ({"tags": {**TAGS, "user_tag": ["human"]}}, {}, "entry pairs: user_tag is .'human'., expected text"),
        ({"file_name": "gone.json"}, {}, "gone.json does not exist; put it there"),
        ({"file_name": "preference_data_auto.json"}, {}, "does not exist; python dpo/auto_tail.py writes it"),
        ({"file_name": "dataset_info.txt"}, {}, "does not exist"),
        ({"formatting": "alpaca"}, {}, "formatting is 'alpaca', expected 'sharegpt'"),
        ({"columns": {"prompt": "conversations"}}, {}, 'columns lack "messages"'),
        (
            {"rankng": True},
            {},
            "dataset_info.json entry pairs: unknown key 'rankng', expected cloud_file_name, columns",
        ),
        ({"columns": {"mesages": "conversations"}}, {}, "pairs: columns: unknown key 'mesages', expected audios"),
        ({"columns": {**COLUMNS, "chosn": "chosen"}}, {}, "columns: unknown key 'chosn'"),
        ({"columns": "conversations"}, {}, "columns: is 'conversations', expected an object"),
        ({"tags": {"rol_tag": "role"}}, {}, "tags: unknown key 'rol_tag', expected assistant_tag"),
        (
            {"tags": {"role_tag": "role", "content_tag": "content"}},
            {},
            "tags lack user_tag, assistant_tag; name all of role_tag, content_tag, user_tag, assistant_tag",
        ),
        ({"columns": COLUMNS}, {}, 'columns name "chosen" or "rejected"; add "ranking": true'),
        ({"ranking": "false", "columns": COLUMNS}, {}, "ranking is 'false', expected true or false"),
        ({"columns": {"messages": "conversations", "kto_tag": "label"}}, {}, "has a column of kto_tag"),
        ({"ranking": True}, {}, 'columns need "chosen" and "rejected"'),
        ({"columns": {**COLUMNS, "images": "pictures"}}, {}, "has a column of images; pairs are text only"),
        ({"script_url": "x.py"}, {}, "cannot be read from 'script'"),
        ({"split": "train[:50%]"}, {}, "split is .*, but a file is read whole"),
        ({}, {"dataset": "other"}, "Undefined dataset other"),
        ({}, {"dataset_dir": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_configs_are_one_line(write, tmp_path, entry, options, message):
    write(numbered(2), **entry)
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_an_entry_that_names_no_data_and_a_broken_registry(tmp_path):
    for text, message in (
        ('{"pairs": {"formatting": "sharegpt"}}', "entry pairs: names no data; add file_name"),
        ('{"pairs": []}', "entry pairs: is \\[\\], expected an object"),
        ('{"pairs"', "dataset_info.json is not JSON"),
        ('{"pairs": ' + "[" * 100_000, "dataset_info.json is not JSON: maximum recursion depth"),
    ):
        (tmp_path / "dataset_info.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message) as error:
            load(tmp_path)
        assert "\n" not in str(error.value)


CALL = '{"name": "look_up", "arguments": {"bike": 1}}'
TOOLS = [{"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}}]


def called(call=CALL, tools=TOOLS):
    """A pair whose shared first turn is a function call."""
    rows = pair(["u1", call, "Bo"], ["worse 1"], ["better 1"], tools=tools)
    for row in rows:
        row["conversations"][1]["from"], row["conversations"][2]["from"] = "function_call", "observation"
    return rows


@pytest.mark.parametrize(
    ("call", "tools", "message"),
    [
        ("look_up(bike=1)", TOOLS, "rejected: turn 1, a function call, cannot be rendered|chosen: turn 1, a function"),
        ('{"name": "look_up"}', TOOLS, "KeyError: 'arguments'"),
        ("3", TOOLS, "turn 1, a function call"),
        (CALL, "look_up: owner of a bike", "its tools cannot be rendered by the template .RuntimeError"),
        (CALL, "3", "its tools cannot be rendered by the template .TypeError.*expected a JSON list of objects with"),
    ],
)
def test_calls_and_tools_that_cannot_be_rendered_are_bad_pairs(write, tmp_path, call, tools, message):
    columns = {"messages": "conversations", "tools": "tools"}
    write(numbered(1) + called(call, tools) + called(), columns=columns)
    with pytest.raises(UserError, match=f"records 2 and 3: .*{message}") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    assert len(load(tmp_path, bad_pairs="skip")["train_dataset"]) == 2


def opened(last, system="s"):
    """A dialogue that the agent opens, with two calls in a turn and their results in a row."""
    calls = json.dumps([json.loads(CALL)] * 2)
    turns = [("system", system)] * bool(system) + [("gpt", "hi"), ("human", "u"), ("function_call", calls)]
    turns += [("observation", "Bo"), ("observation", "Ann"), ("gpt", last)]
    return {"conversations": [{"from": tag, "value": value} for tag, value in turns]}


def test_what_does_not_alternate_is_trained_or_a_bad_pair(write, tmp_path):
    """By the template: llama3 renders it, llama2 is named with the pair."""
    write(numbered(1) + [opened("worse"), opened("better")])
    row = load(tmp_path)["train_dataset"][1]
    assert (row["first_turn"], len(row["chosen_turn_lengths"])) == (2, 3)
    with pytest.raises(UserError, match="records 2 and 3: chosen: template llama2 cannot render a system message"):
        load(tmp_path, template="llama2")
    assert len(load(tmp_path, template="llama2", bad_pairs="skip")["train_dataset"]) == 1


def test_half_of_a_character_is_a_bad_pair(write, tmp_path):
    """`datasets` cannot store it, nor can any tokenizer read it."""
    write(numbered(1) + pair(["u1"], ["worse \ud83d"], ["better 1"]) + numbered(1, start=2))
    with pytest.raises(UserError, match=r"records 2 and 3: .*turn 1 has half of a character, '\\ud83d' at position 6"):
        load(tmp_path)
    assert numbers(load(tmp_path, bad_pairs="skip")["train_dataset"]) == [0, 2]


def test_broken_files_are_named_through_all_layers(write, tmp_path):
    write('[{"conversations": [')
    with pytest.raises(UserError, match="pairs.json record 0 is not JSON"):
        load(tmp_path)
    write(numbered(1)[:1])
    with pytest.raises(UserError, match="pairs.json has 1 records, an odd number"):
        load(tmp_path)
    write(numbered(1), "pairs.txt")
    with pytest.raises(UserError, match="pairs.txt is neither .json nor .jsonl"):
        load(tmp_path)


def test_tokenized_rows_serve_their_stage_alone(write, tmp_path):
    write(numbered(3))
    saved = str(tmp_path / "tokenized")
    first = load(tmp_path, tokenized_path=saved)["train_dataset"]
    write([record("u", "other 9"), record("u", "data 9")])
    again = load(tmp_path, tokenized_path=saved)["train_dataset"]
    assert numbers(again) == numbers(first) == [0, 1, 2]
    with pytest.raises(UserError, match="was not written by stage eto"):
        load(tmp_path, stage="eto", tokenized_path=saved)
    with pytest.raises(UserError, match="was not written by stage sdpo with segment_scope: turn; use another"):
        load(tmp_path, segment_scope="turn", tokenized_path=saved)


def test_the_printed_example_shows_what_is_scored(write, tmp_path, capsys):
    write(pair(["u0", "a0", "p0"], ["worse 1"], ["better 1"]))
    load(tmp_path)
    printed = capsys.readouterr().out
    assert "rejected, agent turn 1: [worse 1<|eot_id|>]" in printed
    assert "a0" not in printed


def test_format_of_reads_the_hosts_tags():
    from llamafactory.data.parser import DatasetAttr

    from llamafactory_sdpo.data.formats import format_of

    attr = DatasetAttr("file", dataset_name="x.json")
    attr.join(
        {
            "formatting": "sharegpt",
            "columns": {"messages": "m"},
            "tags": {"role_tag": "role", "user_tag": "user", "content_tag": "text", "assistant_tag": "bot"},
        }
    )
    form = format_of(SimpleNamespace(**vars(attr)))
    assert (form.messages, form.role_tag, form.user_tag) == ("m", "role", "user")
    # A tag that the entry leaves out is no tag at all, as in the host.
    assert form.roles == {"user": "user", "bot": "assistant"}
