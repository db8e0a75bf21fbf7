"""Short names of runs: made of the tag alone, one run each, and typed in the place of a tag."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.run_names import find_run, name_of_run, tags_by_run, tags_meant
from sotopia_sdpo.store.tag import tag_of


ANNA, BERT, JUDGE = (f"custom/{name}@http://127.0.0.1:8100/v1/" for name in ("anna", "bert", "judge"))
SELF = [tag_of(ANNA, ANNA, JUDGE, "all", trial) for trial in range(3)]
MIXED = tag_of(ANNA, BERT, JUDGE, "all", 0)
OTHER = tag_of(BERT, BERT, JUDGE, "hard", 0)
TAGS = [*SELF, MIXED, OTHER, "mine", "mine_trial1"]


@pytest.mark.parametrize(
    ("tag", "begins"),
    [
        (SELF[0], "anna-all-"),
        (tag_of("gpt-4o", "together_ai/meta-llama/Llama-3-70b-chat-hf", "gpt-4o", "hard", 0), "gpt-4o-hard-"),
        (
            tag_of("together_ai/meta-llama/Llama-3-70b-chat-hf", "gpt-4o", "gpt-4o", "hpos", 4),
            "Llama-3-70b-chat-hf-hpos-",
        ),
        ("rollout_scienceworld_custom/m@http://h:1/v1_test_all_trial0", "m-all-"),
        ("a tag of somebody else, with blanks and more", "a-tag-of-somebody-el-"),
    ],
)
def test_a_name_says_model_and_task(tag, begins):
    assert re.fullmatch(re.escape(begins) + "[b-df-hj-np-tv-z]{4}", name_of_run(tag))


def test_a_plain_tag_of_the_users_own_is_its_name():
    assert name_of_run("mine") == name_of_run("mine_trial7") == "mine"


def test_runs_that_are_added_change_no_name():
    for known in range(1, len(TAGS)):
        assert tags_by_run(TAGS[:known]).keys() <= tags_by_run(TAGS).keys()


@given(st.lists(st.text(max_size=30), unique=True, max_size=6))
def test_every_tag_is_found_by_itself_and_by_the_name_of_its_run(tags):
    runs = tags_by_run(tags)
    assert sorted(tag for found in runs.values() for tag in found) == sorted(tags)
    for name, found in runs.items():
        assert find_run(name, tags) == ([name] if name in tags else found)
        assert all(find_run(tag, tags) == [tag] for tag in found)


def test_a_name_is_all_trials_or_with_a_number_one():
    name = name_of_run(SELF[0])
    assert find_run(name, TAGS) == SELF
    assert find_run(f"{name}-2", TAGS) == [SELF[1]]
    assert find_run(f"{name}-4", TAGS) == find_run(f"{name}-0", TAGS) == []
    assert find_run("mine", TAGS) == ["mine"]


def test_a_beginning_is_enough_where_it_fits_one_run():
    assert find_run("bert", TAGS) == find_run("bert-hard", TAGS) == find_run("bert-hard-1", TAGS) == [OTHER]
    assert find_run("ber", TAGS) == [] and find_run("bert", TAGS, is_exact=True) == []
    assert find_run(name_of_run(OTHER), TAGS, is_exact=True) == [OTHER]


def test_a_beginning_of_several_is_one_line_with_their_names():
    with pytest.raises(UserError, match="'anna-all' is the beginning of 2 runs") as raised:
        find_run("anna-all", TAGS)
    assert all(name_of_run(tag) in str(raised.value) for tag in (SELF[0], MIXED)) and "\n" not in str(raised.value)
    assert find_run("anna-all-3", TAGS[:3] + TAGS[4:]) == [SELF[2]]


def test_an_unknown_name_is_one_line_with_the_nearest():
    with pytest.raises(
        UserError, match=f"db: no episode has the tag 'bert-hart'; did you mean '{name_of_run(OTHER)}'"
    ):
        tags_meant(["bert-hart"], TAGS, "db")
    with pytest.raises(UserError, match="`sotopia runs` lists them"):
        tags_meant(["zzz"], ["aaa"], "db")
    assert tags_meant(["bert", OTHER, "mine"], TAGS, "db") == [OTHER, "mine"]
