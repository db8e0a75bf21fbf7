"""Flagged pairs are left out before anything is chosen, and a flag that names no pair is an error."""

import json
from types import SimpleNamespace

import pytest
from datasets import Dataset
from dialogues import pair, ranking

from llamafactory_sdpo.arguments import SegmentArguments
from llamafactory_sdpo.data.dataset import load_pairs
from llamafactory_sdpo.data.flags import Flags, digest_of
from llamafactory_sdpo.data.formats import OPENAI, Format
from llamafactory_sdpo.data.pairing import Rules
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.train import READ_PATHS


FORM = Format()
SIDES = [([f"You are Ann, {n}."], [f"no {n}"], [f"yes {n}"]) for n in range(5)]
RECORDS = [record for parts in SIDES for record in pair(*parts)]


def digest(number: int) -> str:
    return digest_of(RECORDS[2 * number : 2 * number + 2], FORM)


@pytest.fixture
def flagged(tmp_path):
    """Write a file of flags."""

    def write_flags(*digests: str) -> str:
        path = tmp_path / "flags.json"
        path.write_text(json.dumps({"file": "x", "pairs": [{"digest": one, "pair": None} for one in digests]}))
        return str(path)

    return write_flags


def load(path, flags: Flags, max_samples: int | None = None, stage: str = "sdpo") -> list[str]:
    """The chosen answers of the pairs that are left."""
    from llamafactory_sdpo.host.names import DatasetAttr

    attr = DatasetAttr("file", dataset_name=path.name)
    rows = load_pairs(attr, Rules(stage), str(path.parent), max_samples, 0, str(path.parent / "cache"), flags)
    return [row["chosen"][-1]["content"] for row in rows]


def test_a_digest_by_hand():
    """SHA-256 of the compact spelling that Python's json gives, the rejected side first."""
    import hashlib

    said = [[["user", "You are Ann, 0."], ["assistant", f"{word} 0"]] for word in ("no", "yes")]
    assert digest(0) == hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def test_a_digest_is_of_what_is_said_alone():
    weighed = [json.loads(json.dumps(record)) for record in RECORDS[:2]]
    weighed[0]["conversations"][1]["weight"] = 0.5
    weighed[1] |= {"segment": [1, 2], "goal": 3}
    assert digest_of(weighed, FORM) == digest(0) != digest_of(weighed[::-1], FORM)
    names = {"human": "user", "gpt": "assistant"}
    spelled = [
        {"conversations": [{"role": names[t["from"]], "content": t["value"]} for t in record["conversations"]]}
        for record in RECORDS[:2]
    ]
    assert digest_of(spelled, Format(**OPENAI, openai=True)) == digest(0)
    sides = Format(ranking=True, chosen="chosen", rejected="rejected")
    assert digest_of([ranking(*SIDES[0])], sides) == digest(0)
    assert digest_of([{"conversations": 3}, None], FORM) == ""


def test_a_digest_is_of_the_calls_too():
    """Two pairs that say the same and call otherwise are two; a call's id is made anew by who writes a file."""

    def called(seat: str, id: str = "call_1") -> str:
        call = {"id": id, "type": "function", "function": {"name": "book", "arguments": json.dumps({"seat": seat})}}
        said = [{"role": "user", "content": "Book it."}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        return digest_of([{"conversations": said}, {"conversations": said[:1]}], Format(**OPENAI, openai=True))

    def called_once(seat: str) -> str:
        call = {"name": "book", "arguments": json.dumps({"seat": seat})}
        said = [{"role": "user", "content": "Book it."}, {"role": "assistant", "content": "", "function_call": call}]
        return digest_of([{"conversations": said}, {"conversations": said[:1]}], Format(**OPENAI, openai=True))

    assert called("1a") != called("2b") and called("1a", "call_2") == called("1a")
    assert called_once("1a") != called_once("2b") and "" not in (called("1a"), called_once("1a"))


@pytest.mark.parametrize("stage", ["sdpo", "eto"])
def test_flagged_pairs_are_left_out_and_counted(write, flagged, caplog, stage):
    flags = Flags(flagged(digest(1), digest(3)))
    assert load(write(RECORDS), flags, stage=stage) == ["yes 0", "yes 2", "yes 4"]
    flags.check_found()
    assert "left out 2 of 5 pairs, flagged in" in caplog.text


def test_they_are_left_out_before_max_samples_chooses(write, flagged):
    assert load(write(RECORDS), Flags(flagged(digest(0))), max_samples=4) == ["yes 1", "yes 2"]


def test_a_wrong_pair_may_be_flagged_too(write, flagged):
    """Its error then stops nothing."""
    wrong = pair(["You are Ann."], ["same"], ["same"])
    flags = Flags(flagged(digest_of(wrong, FORM)))
    assert load(write([*wrong, *RECORDS]), flags) == [f"yes {n}" for n in range(5)]


def test_flags_of_a_table(tmp_path, flagged):
    rows = [ranking(*parts) for parts in SIDES]
    Dataset.from_list(rows).to_parquet(tmp_path / "pairs.parquet")
    assert load(tmp_path / "pairs.parquet", Flags(flagged(digest(2)))) == ["yes 0", "yes 1", "yes 3", "yes 4"]


def test_a_flag_that_names_no_pair_is_an_error(write, flagged):
    flags = Flags(flagged(digest(1), "0" * 16, "1" * 16))
    load(write(RECORDS), flags)
    with pytest.raises(UserError, match=r"flag 1: no pair of the dataset has the digest 0{16} \(1 more like this\)"):
        flags.check_found()


def test_all_flagged_is_an_error(write, flagged):
    with pytest.raises(UserError, match="every pair is flagged"):
        load(write(RECORDS), Flags(flagged(*map(digest, range(5)))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[", "is not JSON"),
        ("[]", "is a list, expected"),
        ('{"pairs": 3}', "is an object, expected"),
        ('{"pairs": [{"digest": "0123456789abcdef"}, {"pair": "x"}]}', "flag 1: has no digest"),
        ('{"pairs": ["0123456789abcdef"]}', "flag 0: has no digest"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, expected):
    path = tmp_path / "flags.json"
    path.write_text(text)
    with pytest.raises(UserError, match=expected) as raised:
        Flags(str(path))
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="does not exist; export it"):
        Flags(str(tmp_path / "none.json"))


def test_rows_that_are_encoded_already_must_lack_the_same_pairs(flagged):
    flags, none = Flags(flagged(digest(1))), Flags(None)
    assert (none.name, len(flags.name)) == ("", 16)
    flags.check_encoded(Dataset.from_dict({"flags": [flags.name]}), "t")
    none.check_encoded(Dataset.from_dict({"stage": ["sdpo"]}), "t")
    # Streamed rows, whose columns are not known before they are read.
    streamed = Dataset.from_dict({"x": [1, 2]}).to_iterable_dataset().map(lambda row: {"flags": flags.name})
    flags.check_encoded(streamed, None)
    with pytest.raises(UserError, match="was written with another drop_pairs"):
        none.check_encoded(streamed, "t")
    for rows, wanted in (({"flags": [flags.name]}, none), ({"flags": [""]}, flags), ({"stage": ["sdpo"]}, flags)):
        with pytest.raises(UserError, match="tokenized_path t was written with another drop_pairs"):
            wanted.check_encoded(Dataset.from_dict(rows), "t")


def test_it_is_an_option_of_our_stages_alone():
    from llamafactory_sdpo.host.settings import check_settings

    with pytest.raises(ValueError, match="`drop_pairs` belongs to stage sdpo or eto or dmpo"):
        SegmentArguments(drop_pairs="f.json").check_segment_options(None)
    SegmentArguments(drop_pairs="f.json").check_segment_options("sdpo")
    assert "drop_pairs" in READ_PATHS
    empty = dict.fromkeys(("model_name_or_path", "adapter_name_or_path", "template", "dataset", "eval_dataset"))
    data = SimpleNamespace(**empty, dataset_dir="data", tokenized_path=None)
    tuning = SimpleNamespace(ref_model=None, drop_pairs="f.json", pair_stage="sdpo")
    with pytest.raises(UserError, match="drop_pairs leaves pairs of `dataset` out, and none is given"):
        check_settings(SimpleNamespace(**empty, cache_dir=None), data, None, tuning)
