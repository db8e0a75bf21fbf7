"""Arms side by side: two-way clustered intervals and Holm's correction by hand and by slow counting, and false alarms."""

import csv
import io
import itertools
import math
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.crossed import Value, crossed
from sotopia_sdpo.results.holm import holm
from sotopia_sdpo.results.league import Arm, ArmRun, League, league_of
from sotopia_sdpo.results.league_tables import conclusions, csv_table, latex_table, record_of, text_table
from sotopia_sdpo.results.scores import Score
from sotopia_sdpo.results.stats import clustered, t_quantile


REPEATS = 100
SCENARIOS, EPISODES = 8, 10


def test_two_ways_by_hand() -> None:
    """Scenarios a, b in runs 1, 2: 1, 2, 4, 9; mean 4, residuals -3, -2, 0, 5.

    By scenario sums -5, 5: 50 / 16 * 2 = 6.25. By run -3, 3: 18 / 16 * 2 = 2.25. By unit 38 / 16 * 4/3 = 19/6.
    V = 6.25 + 2.25 - 19/6 = 16/3, but not less than 6.25, so the error is 2.5. Degrees 6.25^2 / (6.25^2 + 2.25^2), under 1,
    so 1: t is 12.7062, and P(|t| > 4 / 2.5) = 1 - 2 arctan(1.6) / pi = 0.3556.
    """
    found = crossed([Value("a", "1", 1), Value("a", "2", 2), Value("b", "1", 4), Value("b", "2", 9)])
    assert (found.estimate.mean, found.estimate.clusters, found.runs, found.units) == (4, 2, 2, 4)
    assert found.estimate.high == pytest.approx(4 + 12.7062 * 2.5, abs=1e-3)
    assert found.p == pytest.approx(1 - 2 * math.atan(1.6) / math.pi)


def slow(values: list[Value]) -> tuple[float, float]:
    """Return variance and degrees by sums over pairs of values: those of one scenario, of one run, of both."""
    mean = sum(one.value for one in values) / len(values)

    def shared(alike: Callable[[Value, Value], bool], count: int) -> float:
        total = sum((a.value - mean) * (b.value - mean) for a in values for b in values if alike(a, b))
        return total / len(values) ** 2 * count / (count - 1)

    s, r = len({one.scenario for one in values}), len({one.run for one in values})
    units = len({one[:2] for one in values})
    by_s, by_r = (
        shared(lambda a, b: a.scenario == b.scenario, s),
        shared(lambda a, b: a.run == b.run, r),
    )
    both = by_s + by_r - shared(lambda a, b: a[:2] == b[:2], units)
    variance = max(by_s, by_r, both)
    if variance < 1e-18:
        variance = shared(lambda a, b: a[:2] == b[:2], units)
    spread = by_s**2 / (s - 1) + by_r**2 / (r - 1)
    return variance, max(min(s, r) - 1, variance**2 / spread if spread else 0)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("12"), st.integers(-5, 5)), min_size=4, max_size=14)
)
def test_two_ways_against_sums_over_pairs(items: list[tuple[str, str, int]]) -> None:
    values = [Value(a, b, c) for a, b, c in [*items, ("a", "1", 1), ("b", "2", 2)]]
    variance, degrees = slow(values)
    found = crossed(values).estimate
    margin = t_quantile(0.975, degrees) * math.sqrt(variance)
    assert found.high - found.mean == pytest.approx(margin, abs=1e-6)


def test_what_has_no_spread_of_its_own() -> None:
    """A point for an interval and a p of 0 would call chance a difference, where few scenarios and runs are all there are.

    0, 4, 4, 0: scenarios and runs have no effect, and units are 2 away from the mean of 2: V = 16 / 16 * 4/3. The same
    gain in each of 3 scenarios is that of a coin that falls the same way 3 times: 2 / 2^3.
    """
    crosswise = crossed([Value("a", "1", 0), Value("a", "2", 4), Value("b", "1", 4), Value("b", "2", 0)])
    assert crosswise.estimate.high == pytest.approx(2 + 12.7062 * math.sqrt(4 / 3), abs=1e-3) and crosswise.p > 0.3
    alike = [Value(name, "1", 0.1) for name in "abc"]
    assert crossed(alike).p == 0.25 and crossed([*alike, *alike]).p == 0.25
    assert crossed(Value(str(number), "1", 0.1) for number in range(10)).p == pytest.approx(2**-9)
    assert crossed(Value(name, "1", 0.0) for name in "abc").p == 1.0


def test_one_run_is_clustered_by_scenario_alone() -> None:
    """As everywhere else."""
    values = [("a", 1.0), ("a", 3.0), ("b", 5.0), ("c", 8.0)]
    assert crossed(Value(name, "1", value) for name, value in values).estimate == pytest.approx(clustered(values))
    only = crossed([Value("a", "1", 1.0)])
    assert math.isnan(only.estimate.low) and math.isnan(only.p)


@given(st.lists(st.floats(0, 1), max_size=7))
def test_holm_against_its_definition(values: list[float]) -> None:
    """Step by step: the smallest times m, the next times m - 1, …, never less than one before."""
    ordered = sorted(values)
    expected = {
        p: max(min(1.0, (len(values) - j) * ordered[j]) for j in range(ordered.index(p) + ordered.count(p)))
        for p in values
    }
    assert holm(values) == pytest.approx([expected[p] for p in values])


def test_holm_by_hand() -> None:
    """0.01 * 3, 0.03 * 2 and 0.04 * 1, which is raised to 0.06; what was not compared does not count."""
    assert holm([0.04, math.nan, 0.01, 0.03]) == pytest.approx([0.06, math.nan, 0.03, 0.06], nan_ok=True)


def arm(name: str, seed: int, runs: int = 6, gain: float = 0.0, spread: float = 0.4) -> Arm:
    """Make up an arm: scenarios of a mean of their own, trainings that differ by chance, episodes that do more."""
    world, draw = random.Random(seed), random.Random(f"{seed}/{name}")
    means = [world.gauss(4, 1.2) for _ in range(SCENARIOS)]
    return Arm(name, [ArmRun(str(run), _run(draw, means, gain + draw.gauss(0, spread))) for run in range(runs)])


def _run(draw: random.Random, means: list[float], shift: float) -> list[Score]:
    return [
        Score(f"e{place}", f"e{place}/{combo}", role, {"goal": mean + shift + draw.gauss(0, 2.3)}, False)
        for place, mean in enumerate(means)
        for combo, role in itertools.product(range(EPISODES // 2), (0, 1))
    ]


def test_sft_trained_twice_differs_from_itself_in_no_more_than_5_of_100_repeats() -> None:
    """Two trainings of the same differ by chance, in all scenarios at once: the case that scenarios alone overlook."""
    pairs = [(arm("sft", seed), arm("again", seed)) for seed in range(REPEATS)]
    found = [league_of(pair).gaps["sft", "again"]["goal"] for pair in pairs]
    assert sum(gap.found.p < 0.05 for gap in found) <= 5
    alone = 0
    for first, second in pairs:
        gaps = zip(first.scores, second.scores, strict=True)
        estimate = clustered((a.environment, b.values["goal"] - a.values["goal"]) for a, b in gaps)
        alone += estimate.low > 0 or estimate.high < 0
    assert alone > 5  # so the test can fail


def test_eight_arms_alike_give_a_mark_in_no_more_than_5_of_100_repeats() -> None:
    names = [f"arm{number}" for number in range(4)]
    leagues = [league_of([arm(name, seed) for name in names]) for seed in range(REPEATS // 2)]
    marked = [any(gap["goal"].mark for gap in league.gaps.values()) for league in leagues]
    assert sum(marked) <= 2


def test_a_large_difference_is_marked() -> None:
    found = [league_of([arm("sft", seed), arm("sdpo", seed, gain=2)]).gain(arm("sdpo", seed)) for seed in range(20)]
    assert all(gap["goal"].mark for gap in found)


@pytest.fixture
def league() -> League:
    return league_of([arm("sft", 1, 2), arm("sdpo_3", 1, 2, gain=4), arm("eto", 1, 2)._replace(unscored=3)])


def test_every_form_has_the_same_figures(league: League) -> None:
    text, latex = text_table(league), latex_table(league)
    rows = list(csv.DictReader(io.StringIO(csv_table(league))))
    record = record_of(league, league.arms[1])
    gain = league.gain(league.arms[1])["goal"]
    (row,) = [one for one in rows if (one["arm"], one["minus"], one["score"]) == ("sdpo_3", "sft", "goal")]
    assert float(row["mean"]) == pytest.approx(gain.found.estimate.mean, rel=1e-5) == record["gain"]["goal"]["mean"]
    assert float(row["p_holm"]) == pytest.approx(gain.p_holm, rel=1e-5)
    assert f"{gain.found.estimate.mean:+.2f}  {gain.found.estimate.interval}" in text
    assert rf"sdpo\_3 & ${league.means['sdpo_3']['goal'].estimate.mean:.2f} \pm" in latex
    assert len(rows) == 3 + 3 and row["units"] == "16" and row["runs"] == "2"
    assert "8 scenarios x 2 runs: 16 units" in text and "over 3 pairs" in text and "unscored" in text
    assert record["minus"]["sft"] == record["gain"] and "minus" not in record_of(league, league.arms[0])
    assert latex.count(r"\\") == 5 and "{lrr}" in latex


def test_names_are_text_in_latex() -> None:
    """As they are typed: an agent may be called after an option, as in β^2."""
    latex = latex_table(league_of([arm("a_b^2~\\", 1, 1)]))
    assert r"a\_b\textasciicircum{}2\textasciitilde{}\textbackslash{} & " in latex


def test_no_name_is_an_order_to_latex_or_a_formula() -> None:
    """`\\\\` takes a bracket or a star of the next row for its own, an empty line ends a paragraph."""
    league = league_of([arm("\\input{x}%$", 1, 1), arm("[2cm]\n\ny\x1b[1m", 1, 1), arm("*=", 1, 1), arm("=1+1", 1, 1)])
    latex = latex_table(league)
    first = r"\textbackslash{}input\{x\}\%\$"
    names = [line.split(" & ")[0] for line in latex.splitlines() if line.endswith(r" \\")]
    assert names[2:] == [first, r"{[}2cm{]} y\textbackslash{}x1b{[}1m", "{*}=", "=1+1"]
    cells = [cell for row in csv.reader(io.StringIO(csv_table(league))) for cell in row[:3]]
    assert "'=1+1" in cells and not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_the_table_fits_80_columns_and_says_what_the_intervals_allow(league: League) -> None:
    text = text_table(league)
    assert max(map(len, text.splitlines())) <= 80
    names = [line.split(" over ")[0] for line in text.splitlines() if " over sft: goal " in line]
    assert names == ["sdpo_3", "eto"]
    for gain, said in ((9, "the interval is above 0"), (-9, "the interval is below 0"), (0, "no difference is shown")):
        told = " ".join(" ".join(conclusions(league_of([arm("sft", 1, 1), arm("sdpo", 1, 1, gain=gain)]))).split())
        assert told.startswith("sdpo over sft: goal ") and "one run of each: " in told and told.endswith(said), told
    alone = [Arm(name, [ArmRun("0", [Score("e", "e/0", 0, {"goal": 1.0}, False)])]) for name in ("sft", "sdpo")]
    assert "there is no interval" in conclusions(league_of(alone))[0]


def test_runs_that_are_not_the_same_ones_are_pooled() -> None:
    """Three runs against one: the scenarios alone are clustered by, and nothing is thrown away."""
    many = arm("sdpo", 1, 3)
    one = Arm("sft", [arm("sft", 1, 1).runs[0]._replace(name="other")])
    found = league_of([one, many])
    gap = found.gaps["sft", "sdpo"]["goal"].found
    assert ", 3 runs against 1:" in " ".join(conclusions(found))
    assert (gap.runs, gap.units, gap.estimate.values) == (1, SCENARIOS, SCENARIOS * EPISODES)


@pytest.mark.parametrize(("failed", "is_short"), [((0, 8), False), ((0, 10), True), ((10, 0), True)])
def test_an_arm_that_failed_in_many_episodes_is_not_just_better(failed: tuple[int, int], is_short: bool) -> None:
    """80 of 88 are enough, 80 of 90 are not: those in which it failed are not among what it is compared on."""
    arms = [arm("sft", 1, 1)._replace(unscored=failed[0]), arm("sdpo", 1, 1, gain=4)._replace(unscored=failed[1])]
    told = " ".join(" ".join(conclusions(league_of(arms))).split())
    name = "sft" if failed[0] else "sdpo"
    assert told.endswith(f"; too few episodes of {name} came to a score to stand for all") is is_short
    assert "the interval is above 0" in told


def test_an_arm_without_a_score_stays_in_the_table() -> None:
    """An agent that forgot the form of its answers may fail in every episode, after hours of training the others."""
    forgetful = Arm("dpo", [], 80)
    for arms in ([arm("sft", 1, 2), forgetful, arm("sdpo", 1, 2)], [forgetful, arm("sft", 1, 2), arm("sdpo", 1, 2)]):
        found = league_of(arms)
        text = text_table(found)
        assert re.search(r"^dpo +- +0$", text, re.MULTILINE) and "unscored episodes: dpo 80" in text
        assert "8 scenarios x 2 runs: 16 units" in text and list(found.gaps) == [("sft", "sdpo")]
        assert record_of(found, forgetful) == {"goal_by_run": [], "unscored": 80}
        assert "dpo & -- & " in latex_table(found) and "\ndpo," not in csv_table(found)
    with pytest.raises(UserError, match="no episode of dpo came to a score"):
        league_of([forgetful])


def test_quests_that_both_played_are_clustered_by_what_tells_them_apart() -> None:
    """One kind of the two that the first arm played: its quests, as in `sotopia compare`, not its kind alone."""
    scores = [
        Score(place, place, 0, {"score": value}, False, kind=place.partition("/")[0])
        for place, value in (("a/1", 1.0), ("a/2", 3.0), ("b/1", 3.0))
    ]
    arms = [Arm("both", [ArmRun("0", scores)]), Arm("one", [ArmRun("0", scores[:2])])]
    gap = league_of(arms).gaps["both", "one"]["score"].found
    assert (gap.units, gap.estimate.clusters) == (2, 2)


def test_arms_with_nothing_in_common_are_not_compared() -> None:
    strange = Arm("x", [ArmRun("0", [Score("e99", "e99/0", 0, {"goal": 1.0}, False)])])
    assert league_of([arm("sft", 1, 1), strange]).gaps == {}
