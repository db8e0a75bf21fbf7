"""How often one run beats another, and pass^k: sums by hand, and every choice of k trials counted."""

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.results.compare import compare, comparison_table
from sotopia_sdpo.results.repeats import Passing, main_score, pass_hats, passing, repeats, win_rate
from sotopia_sdpo.results.scores import Score, results_of
from sotopia_sdpo.results.stats import clustered, share
from sotopia_sdpo.results.tables import results_table


def trials(**goals: list[float]) -> dict[tuple[str, int], list[Score]]:
    """Trials of a combo in each of some scenarios."""
    return {
        (name, 0): [Score(name, name, 0, {"goal": goal}, False) for goal in found] for name, found in goals.items()
    }


def test_win_rate_by_hand():
    """a: 9 beats 5 and 7, 6 beats 5 alone: 3 of 4; b: a tie, 1/2. Mean 5/8."""
    first, second = trials(a=[5, 7], b=[4]), trials(a=[9, 6], b=[4])
    assert win_rate(first, second, "goal").mean == 0.625
    assert win_rate(second, first, "goal").mean == 0.375


def test_pass_hat_by_hand():
    """a passes 2 of 3: 2/3, then C(2,2) / C(3,2) = 1/3, then 0; b always: 1. Means 5/6, 2/3, 1/2."""
    run = trials(a=[8, 10, 7], b=[8, 8, 9])
    found = pass_hats(run, run, Passing("goal", 8))
    assert [one.k for one in found] == [1, 2, 3]
    assert [one.first.mean for one in found] == [pytest.approx(5 / 6), pytest.approx(2 / 3), pytest.approx(1 / 2)]
    assert all(one.difference.mean == 0 for one in found)


@given(st.lists(st.booleans(), min_size=1, max_size=7))
def test_pass_hat_is_the_share_of_choices_that_all_pass(passed):
    run = trials(a=[10.0 * each for each in passed], b=[10.0] * len(passed))
    for one in pass_hats(run, run, Passing("goal", 8)):
        choices = list(combinations(passed, one.k))
        assert one.first.mean == pytest.approx((sum(map(all, choices)) / len(choices) + 1) / 2)


def test_k_goes_up_to_what_every_combo_has_in_both_runs():
    assert len(pass_hats(trials(a=[1] * 4, b=[1] * 3), trials(a=[1] * 5, b=[1] * 2), Passing("goal", 8))) == 2


def test_what_passes():
    quests = [Score("q", "q", 0, {"score": 50.0, "solved": 0.0}, False)]
    assert passing(quests, "score") == Passing("solved", 1)
    assert passing(quests, "score", 40) == Passing("score", 40)
    assert passing([quests[0]._replace(values={"score": 1.0})], "score") is None
    assert main_score([*quests, quests[0]._replace(values={"other": 1.0})]) is None
    assert repeats({("q", 0): quests}, {("q", 0): [quests[0]._replace(values={"other": 1.0})]}) is None


def test_scores_that_not_all_episodes_have():
    """Imported episodes may lack one: it is compared where both have it, and shown where there is any."""
    full = Score("e", "e", 0, {"goal": 6.0, "secret": -2.0}, False)
    bare = full._replace(values={"goal": 8.0})
    (found,) = compare([full, bare], [full, full], ())
    assert {name: gap.mean for name, gap in found.difference.items()} == {"goal": -1.0}
    other = Score("f", "f", 0, {"goal": 7.0}, False)
    text = results_table("run", results_of([full, other], {"f"}))
    assert re.search(r"secret +-2.00  - +-$", text, re.MULTILINE) and re.search(r"episodes +2 +1$", text, re.MULTILINE)


def test_a_share_stays_between_0_and_1_and_is_never_certain():
    """All of 10 scenarios: the exact interval reaches down to 0.025^(1/10) = 0.6915."""
    sure = share((str(n), 1.0) for n in range(10))
    assert (sure.low, sure.high) == (pytest.approx(0.6915, abs=1e-4), 1.0)
    never = share((str(n), 0.0) for n in range(10))
    assert (never.low, never.high) == (0.0, pytest.approx(0.3085, abs=1e-4))
    values = [(str(n), float(n < 8)) for n in range(9)]
    assert clustered(values).high > 1 and share(values).high == 1 and share(values).low == clustered(values).low


def test_the_table_fits_80_columns_and_names_what_passes():
    first, second = trials(a=[5, 8], b=[9, 9]), trials(a=[10, 10], b=[1, 8])
    (found,) = compare(sum(first.values(), []), sum(second.values(), []), ())
    lines = comparison_table(("A", "B"), found).splitlines()
    assert max(map(len, lines)) <= 80
    # a: B has 10 twice against 5 and 8: 1; b: 1 and 8 against 9: 0.
    assert any(line.startswith("  B wins on goal, ties half: 0.50 [") for line in lines)
    assert [line.split()[0] for line in lines[-3:-1]] == ["pass^1", "pass^2"]
    assert lines[-1].endswith("goal of at least 8")
