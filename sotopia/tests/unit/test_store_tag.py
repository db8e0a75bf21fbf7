"""The grammar of tags, whatever models are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.store.tag import is_of_players, tag_of, task_in, trial_in, with_evaluator, without_trial
from sotopia_sdpo.world.tasks import TASKS


NAMES = st.text("ab_/-.@:1", min_size=1, max_size=12)


@given(NAMES, NAMES, NAMES, st.sampled_from(sorted(TASKS)), st.integers(0, 99))
def test_what_is_written_is_read_back(model: str, partner: str, evaluator: str, task: str, trial: int) -> None:
    tag = tag_of(model, partner, evaluator, task, trial)
    assert (task_in(tag), trial_in(tag)) == (task, trial)
    assert tag == f"{without_trial(tag)}_trial{trial}"
    assert is_of_players(tag, model, partner)


@pytest.mark.parametrize(
    ("tag", "task", "trial"),
    [
        ("mine", "", 0),
        ("mine_trial3", "", 3),
        ("mine_hpos_trial12", "hpos", 12),
        ("benchmark_a_b_c_hard_trial1x", "", 0),
    ],
)
def test_tags_of_other_forms(tag: str, task: str, trial: int) -> None:
    assert (task_in(tag), trial_in(tag)) == (task, trial)


def test_the_evaluator_is_replaced_where_it_is_named_last() -> None:
    """A model that is its own judge stands three times in its tag; the judge's place is the last."""
    assert with_evaluator("benchmark_m_m_m_all_trial0", "m", "j") == "benchmark_m_m_j_all_trial0"
    assert with_evaluator("mine", "m", "j") == with_evaluator("mine", "", "j") == "mine_by_j"
