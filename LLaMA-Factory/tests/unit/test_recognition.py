"""Which form a file has: by its columns and first records, said in a line, and asked for where two fit."""

import json
import shutil

import pytest
from conftest import ROOT
from datasets import Dataset, DatasetDict
from test_dataset import load as load_training
from test_dataset import numbered, numbers
from test_forms import load

from llamafactory_sdpo.data.dataset import accept_pairs
from llamafactory_sdpo.data.forms import FORMS, recognise
from llamafactory_sdpo.data.pairing import Rules, make_pairs
from llamafactory_sdpo.errors import UserError


def user(text):
    return {"role": "user", "content": text}


def agent(text):
    return {"role": "assistant", "content": text}


def said(turns):
    return [turn["content"] for turn in turns]


def one(record, is_table=False):
    """The pair of a record that is alone in its file."""
    form = recognise([record], is_table, "x.json").format
    (made,) = make_pairs([(0, record)], form, Rules("eto"), "x.json")
    return made


def question(rows):
    with pytest.raises(UserError) as error:
        recognise(rows, False, "x.json")
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ("prompt", "chosen", "rejected"),
        ("question", "chosen", "rejected"),
        ("instruction", "chosen", "rejected"),
        ("input", "chosen", "rejected"),
        ("instruction", "chosen_response", "rejected_response"),
        ("prompt", "chosen_response", "rejected_response"),
        ("query", "response", "rejected_response"),
    ],
)
def test_a_prompt_and_two_texts_are_one_turn_each(prompt, chosen, rejected):
    made = one({"system": "s", prompt: "u", chosen: '{"say": "b"}', rejected: "a", "score": 3})
    assert made.chosen == [{"role": "system", "content": "s"}, user("u"), agent('{"say": "b"}')]
    assert said(made.rejected) == ["s", "u", "a"]


@pytest.mark.parametrize(("query", "prompt"), [("now", "say\nnow"), ("", "say")])
def test_the_hosts_alpaca_form_joins_instruction_and_input(query, prompt):
    made = one({"instruction": "say", "input": query, "chosen": "b", "rejected": "a"})
    assert (said(made.chosen), said(made.rejected)) == ([prompt, "b"], [prompt, "a"])


def test_earlier_questions_and_answers_come_before_the_text():
    for form in (
        {"instruction": "u", "input": "", "chosen": "b", "rejected": "a"},
        {"query": "u", "response": "b", "rejected_response": "a"},
    ):
        assert said(one({**form, "history": [["u0", "a0"], ["u1", "a1"]]}).chosen) == [
            "u0",
            "a0",
            "u1",
            "a1",
            "u",
            "b",
        ]
        assert said(one({**form, "history": []}).chosen) == ["u", "b"]
        assert "'history' is not a list of [question, answer]" in one({**form, "history": [["u0"]]}).error


def test_texts_without_a_prompt_are_refused():
    error = one({"chosen": "blue", "rejected": "green"}).error
    assert "'chosen' is text without a prompt; name the prompt's column" in error


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_answer_that_looks_like_json_stays_a_text_in_a_table(tmp_path, kind):
    import pandas

    rows = [{"prompt": '["u"]', "chosen": '{"action": "speak"}', "rejected": "[1, 2]"}]
    getattr(pandas.DataFrame(rows), f"to_{kind}")(tmp_path / f"a.{kind}", index=False)
    (made,) = load(tmp_path / f"a.{kind}").to_list()
    assert (said(made["chosen"]), said(made["rejected"])) == (['["u"]', '{"action": "speak"}'], ['["u"]', "[1, 2]"])


# ---- whole dialogues, or what follows a history ----------------------------------------------------------------------

H = [user("u0"), agent("a0"), user("u1")]
B, A = [agent("b"), user("u2"), agent("b2")], [agent("a"), user("u2"), agent("a2")]
WHOLE = {"chosen": H + B, "rejected": H + A}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    "record",
    [
        WHOLE,
        {"prompt": H, "chosen": B, "rejected": A},
        {"prompt": H, **WHOLE},
        {"prompt": H, "chosen": H + B, "rejected": A},
        {"prompt": "u0", **WHOLE},
        {"prompt": " u1\n", **WHOLE},
        {"prompt": "u0", "messages": H + B, **WHOLE},
        {"prompt": "u0", "messages": [], **WHOLE},
        {"messages": H + B, **WHOLE},
        {"messages": H[:2], **WHOLE},
        {"messages": H + B, "rejected_messages": H + A},
        {"input": {"messages": H}, "preferred_output": B, "non_preferred_output": A},
    ],
)
def test_the_two_dialogues_are_found_wherever_their_beginning_stands(record):
    made = one(record)
    assert not made.error
    assert (made.chosen, made.rejected) == (H + B, H + A)


def test_a_system_turn_stands_in_the_history_or_in_the_answers():
    expected = [SYSTEM, *H, *B]
    whole = {"chosen": expected, "rejected": [SYSTEM, *H, *A]}
    for record in (
        {"prompt": [SYSTEM, *H], "chosen": B, "rejected": A},
        {"prompt": [SYSTEM, *H], **WHOLE},
        {"prompt": H, **whole},
        {"prompt": [SYSTEM, *H], **whole},
        {"prompt": [SYSTEM], **WHOLE},
        {"prompt": "u0", **whole},
        {"system_prompt": "s", **WHOLE},
    ):
        assert one(record).chosen == expected, record
    other = [{"role": "system", "content": "other"}, *H]
    assert "turn 4 is a 'system' turn" in one({"prompt": other, **whole}).error


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("a", ["u0", "a0", "u1", "b", "u2", "a"]),
        ([agent("a")], ["u0", "a0", "u1", "b", "u2", "a"]),
        ([agent("a"), user("u3"), agent("a3")], ["u0", "a0", "u1", "b", "u2", "a", "u3", "a3"]),
    ],
)
def test_ms_swifts_rejected_response_replaces_the_end_of_the_messages(end, expected):
    for column in ("rejected_response", "rejected_messages"):
        made = one({"messages": H + B, column: end})
        assert (said(made.rejected), made.chosen) == (expected, H + B)


def test_a_text_replaces_the_last_turn_and_turns_what_follows_the_user():
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    messages = [user("u"), call, {"role": "tool", "tool_call_id": "1", "content": "r"}, agent("b")]
    assert len(one({"messages": messages, "rejected_response": "a"}).rejected) == 4
    assert said(one({"messages": messages, "rejected_response": [agent("a")]}).rejected) == ["u", "a"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"prompt": "You are a judge.", **WHOLE},
            "'rejected' is a whole dialogue without the turn that 'prompt' holds",
        ),
        ({"prompt": H[:2], "chosen": [user("x"), *B], "rejected": A}, "'prompt' ends on an agent's turn"),
        ({"messages": H + A, "chosen": H + B, "rejected": H + A}, "'messages' ends on an agent's turn"),
        ({"prompt": H, "chosen": B}, "has the columns of no form"),
        ({"prompt": H, "chosen": B, "rejected": None}, "has the columns of no form"),
        ({"prompt": H, "chosen": B, "rejected": 3}, "'rejected' is a number, expected a turn or a list of turns"),
        ({"prompt": H, "chosen": B, "rejected": [H[0]]}, "turn 3 is a 'user' turn where a 'assistant' turn belongs"),
        ({"prompt": H, "chosen": B, "rejected": B}, "the two dialogues never differ"),
        ({"prompt": H, "chosen": [], "rejected": A}, "'chosen': turn 2, the last, is not an agent's"),
        (
            {"prompt": "u", "completion": "a", "label": True},
            "no form of pairs, found completion, label, prompt; expected",
        ),
        ([], "no form of pairs, found a list"),
    ],
)
def test_what_is_no_pair_is_said(record, message):
    try:
        error = one(record).error
    except UserError as err:
        error = str(err)
    assert message in error and "\n" not in error


# ---- two forms at once -----------------------------------------------------------------------------------------------


def test_two_readings_are_asked_for_with_the_key_that_decides():
    """`messages` is a history and `prompt` its last turn: without the others the pair would be another one."""
    asked = question([{"prompt": "u1", "messages": H, "chosen": B[0], "rejected": A[0]}])
    assert "x.json can be read as TRL's preference form with chosen + prompt + rejected or as axolotl's form" in asked
    assert 'say which by "messages": "prompt" or "messages": "messages" in columns of an entry' in asked
    asked = question([{"messages": H + B, "rejected_messages": H + A, "rejected_response": "a"}])
    assert '"rejected": "rejected_messages" or "rejected": "rejected_response"' in asked


def test_two_forms_with_one_reading_are_no_question():
    record = {"prompt": "u", "question": "u", "chosen": "b", "rejected": "a"}
    assert said(one(record).chosen) == ["u", "b"]


def test_a_broken_record_does_not_decide():
    """Neither a first record that nothing can read, nor a column that only some records have."""
    rows = [{"prompt": 3, "chosen": B, "rejected": A}, {"prompt": H, "chosen": B, "rejected": A, "messages": None}, 7]
    found = recognise(rows, False, "x.json")
    assert found.said == "TRL's preference form, the history in prompt, what follows in chosen and rejected"
    assert [bool(pair.error) for pair in make_pairs(enumerate(rows), found.format, Rules("eto"), "x")] == [
        True,
        False,
        True,
    ]


def test_every_form_has_a_row_of_its_own():
    assert len({frozenset(form.columns.items()) for form in FORMS}) == len(FORMS)


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_keys_that_a_table_adds_are_no_part_of_a_message(tmp_path):
    """A struct has the keys of all rows: tool_calls None on every message, arguments of another tool as None."""
    import pyarrow
    from pyarrow import parquet

    def calls(**arguments):
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}}],
        }

    result = {"role": "tool", "content": "r", "tool_call_id": "1", "name": "f"}
    rows = [{"prompt": [user("u"), calls(a=1), result], "chosen": [calls(b=2)], "rejected": [agent("a")]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    table, lines = (load(tmp_path / name).remove_columns("origin").to_list() for name in ("a.parquet", "a.json"))
    assert table == lines and not table[0]["error"]
    assert table[0]["chosen"][-1]["content"] == '[{"name": "f", "arguments": {"b": 2}}]'


def test_a_bad_pair_of_a_recognised_file_is_skipped_and_counted(tmp_path, caplog):
    rows = [{"prompt": H, "chosen": B, "rejected": A}, {"prompt": H, "chosen": B, "rejected": B}]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(UserError, match="a.json record 1: the two dialogues never differ"):
        accept_pairs(load(tmp_path / "a.json"), False, "a.json")
    assert len(accept_pairs(load(tmp_path / "a.json"), True, "a.json")) == 1
    assert "a.json: skipped 1 of 2 pairs" in caplog.text


def test_utf_16_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([WHOLE]), encoding="utf-16")
    with pytest.raises(UserError, match="a.json is not UTF-8 .*; save it as UTF-8"):
        load(tmp_path / "a.json")


# ---- by path ---------------------------------------------------------------------------------------------------------


def write_lines(rows, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_paths_and_names_of_entries_mix(write, tmp_path, monkeypatch):
    """From the working folder, with a space, in another form than the entry's; the evaluation set too."""
    write(numbered(2))
    ranked = [{"prompt": "u", "chosen": f"better {n}", "rejected": f"worse {n}"} for n in (7, 8)]
    other = write_lines(ranked, tmp_path / "my data" / "two pairs.jsonl")
    monkeypatch.chdir(tmp_path / "my data")
    module = load_training(tmp_path, dataset="pairs,two pairs.jsonl", eval_dataset=f"{other}")
    assert numbers(module["train_dataset"]) == [0, 1, 7, 8]
    assert numbers(module["eval_dataset"]) == [7, 8]
    module = load_training(
        tmp_path, dataset="./two pairs.jsonl", eval_dataset="pairs,two pairs.jsonl", eval_on_each_dataset=True
    )
    assert set(module["eval_dataset"]) == {"pairs", "two pairs.jsonl"}
    assert module["train_dataset"]["origin"][0] == f"{other} record 0"


def test_two_files_of_one_name_are_two_datasets(write, tmp_path):
    write(numbered(1))
    paths = [write_lines(numbered(1, start), tmp_path / str(start) / "x.jsonl") for start in (3, 4)]
    module = load_training(tmp_path, dataset=",".join(map(str, paths)))
    assert sorted(numbers(module["train_dataset"])) == [3, 4]


def test_a_saved_folder_of_splits_gives_train_or_its_only_one(tmp_path):
    one_row = Dataset.from_list([{"prompt": "u", "chosen": "b", "rejected": "a"}])
    DatasetDict({"test": one_row}).save_to_disk(tmp_path / "alone")
    assert len(load(tmp_path / "alone")) == 1
    DatasetDict({"test": one_row, "prefs": one_row}).save_to_disk(tmp_path / "two")
    with pytest.raises(UserError, match="two has no split train, but test, prefs; name one as split in dataset_info"):
        load(tmp_path / "two")
    (tmp_path / "alone" / "test" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(UserError, match="alone cannot be loaded .*; write the folder again"):
        load(tmp_path / "alone")


def test_a_changed_saved_folder_is_read_again(tmp_path):
    """Its rows are known by the bytes of its files, not by the fingerprint that `datasets` keeps beside them."""
    for number in (1, 2):
        rows = [{"prompt": "u", "chosen": f"b{number}", "rejected": "a"}]
        Dataset.from_list(rows).save_to_disk(tmp_path / str(number))
    shown = tmp_path / "shown"
    shutil.copytree(tmp_path / "1", shown)
    assert said(load(shown)["chosen"][0]) == ["u", "b1"]
    shutil.copy(tmp_path / "2" / "data-00000-of-00001.arrow", shown / "data-00000-of-00001.arrow")
    assert said(load(shown)["chosen"][0]) == ["u", "b2"]


def test_a_name_of_the_hub_that_cannot_be_reached_is_one_line(write, tmp_path):
    write(numbered(1))
    with pytest.raises(UserError, match="dataset org/name cannot be loaded") as error:
        load_training(tmp_path, dataset="org/name")
    assert "\n" not in str(error.value)


def test_a_path_needs_no_registry(tmp_path):
    path = write_lines(numbered(2), tmp_path / "x.jsonl")
    assert numbers(load_training(tmp_path / "nowhere", dataset=str(path))["train_dataset"]) == [0, 1]


def test_an_entry_without_columns_is_recognised_and_one_with_them_decides(write, tmp_path, capsys):
    rows = [{"prompt": "u", "question": "v", "chosen": "better 1", "rejected": "worse 1"}]
    write(rows)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"pairs": {"file_name": "pairs.json"}}), encoding="utf-8")
    with pytest.raises(UserError, match="pairs.json can be read as TRL's .* or as a prompt and two answers"):
        load_training(tmp_path)
    columns = {"messages": "question", "chosen": "chosen", "rejected": "rejected"}
    write(rows, formatting="openai", ranking=True, columns=columns)
    (row,) = load_training(tmp_path)["train_dataset"]
    assert "pairs.json: " not in capsys.readouterr().out
    assert row["chosen_input_ids"] != row["rejected_input_ids"]


@pytest.mark.parametrize("tags", [None, {"role_tag": "role", "content_tag": "content", "user_tag": "user",
                                         "assistant_tag": "assistant", "system_tag": "system"}])  # fmt: skip
def test_formatting_openai_reads_openais_messages(write, tmp_path, tags):
    """In both layouts; a tag that the entry leaves out is OpenAI's for results, as without any."""
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    shared = [
        {"role": "developer", "content": "s"},
        user("u"),
        call,
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    ]
    ends = [agent("worse 1")], [agent("better 1")]
    extra = {"formatting": "openai", **({"tags": tags} if tags else {})}
    write([{"messages": shared + end} for end in ends], columns={"messages": "messages"}, **extra)
    adjacent = load_training(tmp_path)["train_dataset"]
    columns = {"messages": "messages", "chosen": "chosen", "rejected": "rejected"}
    write([{"messages": shared, "chosen": ends[1], "rejected": ends[0]}], columns=columns, ranking=True, **extra)
    ranked = load_training(tmp_path)["train_dataset"]
    for name in set(adjacent.column_names) - {"origin"}:
        assert adjacent[name] == ranked[name], name
    assert numbers([{**row, "chosen_labels": row["chosen_labels"][-row["chosen_turn_lengths"][-1] :],
                     "rejected_labels": row["rejected_labels"][-row["rejected_turn_lengths"][-1] :]} for row in ranked]) == [1]  # fmt: skip


def test_an_entry_may_name_whole_dialogues_and_columns_within_an_object(write, tmp_path):
    columns = {"chosen": "out.good", "rejected": "out.bad"}
    rows = [
        {"prompt": "a judge", "out": {"good": [user("u"), agent("better 1")], "bad": [user("u"), agent("worse 1")]}}
    ]
    write(rows, formatting="openai", ranking=True, columns=columns)
    assert numbers(load_training(tmp_path)["train_dataset"]) == [1]


def test_the_forms_are_listed_where_the_message_says():
    listed = (ROOT.parent / "docs" / "training.md").read_text(encoding="utf-8")
    rows = [line for line in listed.splitlines() if line.startswith("| ")]
    for form in FORMS:
        assert any(form.name in row and all(f"`{column}`" in row for column in form.needs) for row in rows), form


def test_the_records_of_the_page_are_pairs_of_the_form_beside_them():
    listed = (ROOT.parent / "docs" / "training.md").read_text(encoding="utf-8").partition("## Forms of pairs")[2]
    tested = 0
    for row in listed.partition("In each of them")[0].splitlines():
        if "`{" in row:
            name, _, cell = (part.strip() for part in row.strip("| ").split(" | "))
            text = cell.replace("`<br>`", "\n").strip("`")
            rows = json.loads(f"[{text.replace(chr(10) + '{', ',{')}]")
            found = recognise(rows, False, "x.json")
            assert name.startswith(found.said.partition(",")[0])
            (made,) = make_pairs(enumerate(rows), found.format, Rules("sdpo"), "x.json")
            assert not made.error and (said(made.chosen)[-1], said(made.rejected)[-1]) == ("better", "worse")
            tested += 1
    assert tested == 9


# ---- where parts of a form meet --------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["prompt", "messages", "the chosen one"])
def test_a_history_that_is_repeated_may_weigh_otherwise(column):
    """In the history's column and in two whole dialogues; they keep their own weights."""

    def turns(weight, *ending):
        return [user("u"), {**agent("x"), "weight": weight}, user("v"), *ending]

    better, worse = turns(0.5, {**agent("b"), "weight": 2}), turns(1, agent("a"))
    shared = {"messages": turns(0, agent("b"))} if column == "the chosen one" else {column: turns(0)}
    made = one({**shared, "chosen": better, "rejected": worse})
    assert (made.error, made.first_turn) == ("", 1)
    assert made.chosen == better and made.rejected == worse


@pytest.mark.parametrize("with_prompt", [False, True])
def test_an_agent_that_speaks_first_in_whole_dialogues(with_prompt):
    shared = [agent("hello"), user("u")]
    record = {"chosen": [*shared, agent("b")], "rejected": [*shared, agent("a")]}
    made = one({"prompt": shared, **record} if with_prompt else record)
    assert (made.error, made.first_turn, made.calls) == ("", 1, True)
    assert (said(made.chosen), said(made.rejected)) == (["hello", "u", "b"], ["hello", "u", "a"])


def test_one_side_whose_agent_speaks_first_shares_nothing():
    made = one({"chosen": [agent("hello"), user("u"), agent("b")], "rejected": [user("u"), agent("a")]})
    assert (made.error, made.first_turn) == ("", 0)


def test_sides_that_part_between_two_results():
    """What the partner's side gives differs, so the agent's turns from there on do: under `eto`, not `sdpo`."""
    calls = [{"function": {"name": "f", "arguments": {}}}, {"function": {"name": "g", "arguments": {}}}]

    def side(second, answer):
        results = [{"role": "tool", "content": "1"}, {"role": "tool", "content": second}]
        return [user("u"), {"role": "assistant", "tool_calls": calls}, *results, user("v"), agent(answer)]

    record = {"chosen": side("2", "b"), "rejected": side("3", "a")}
    assert (one(record).error, one(record).first_turn) == ("", 1)
    (made,) = make_pairs([(0, record)], recognise([record], False, "x").format, Rules(), "x.json")
    assert "the first difference, turn 3, is the partner's" in made.error
