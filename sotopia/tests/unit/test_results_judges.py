"""Planted judges are found to be what they are; the published ratings give the published figures; wrong files are told."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from judges_world import Truth, world, write_judge, write_people

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.panel import PANEL
from sotopia_sdpo.results.judge_checks import CHECKS, family_of
from sotopia_sdpo.results.judges import judges
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.transfer import export_episodes


DOCS = Path(__file__).parents[3] / "docs" / "judges.md"
PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "human_eval"
RATERS = ("gpt4", "gpt3.5", "mistral", "BC", "SR", "BC_SR")


def shown(capsys: pytest.CaptureFixture[str], human: list[str], scores: list[str], **where: object) -> str:
    """Run the command and return what it printed."""
    tags = where.pop("tags", ())
    assert judges(human, scores, tags, where.get("db"), None) == 0  # type: ignore[arg-type]
    return capsys.readouterr().out


def verdict_of(out: str) -> str:
    """Take the verdict on the goal out of what was printed."""
    line = next(line for line in out.split("with people: ")[2].splitlines() if line.startswith("  goal"))
    return re.split(r"\s{2,}", line)[-1]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda side: side.noisy(1.0), r"good"),
        (lambda side: side.noisy(1.0, 0.15 * (side.turns - 12)), r"likes long dialogues \(\+1\.\d\)"),
        (lambda side: side.noisy(1.0, -0.15 * (side.turns - 12)), r"likes short dialogues \(-1\.\d\)"),
        (lambda side: side.noisy(1.0, 1.2), r"generous by 1\.\d"),
        (lambda side: side.noisy(1.0, -1.2), r"severe by 1\.\d"),
        (lambda side: side.noisy(1.0, 0.6 if "llama" in side.model else -0.6), r"favours its own family \(\+1\.\d\)"),
        (
            lambda side: side.noisy(1.0, -0.6 if "llama" in side.model else 0.6),
            r"disfavours its own family \(-1\.\d\)",
        ),
        (lambda side: 10 - side.noisy(1.0), r"ranks unlike people"),
        (lambda side: 5, r"ranks unlike people"),
    ],
)
def test_a_planted_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], score: Callable[[Truth], float], expected: str
) -> None:
    """The truth plus noise is good; a lean is named, and nothing else is."""
    sessions = world()
    people = write_people(tmp_path / "people.csv", sessions)
    judge = write_judge(tmp_path / "scores.json", sessions, score)
    assert re.fullmatch(expected, verdict_of(shown(capsys, [str(people)], [f"llama-3-70b={judge}"])))


def test_a_judge_of_other_sessions_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside one of the rated sessions; alone it is an error."""
    sessions = world(0, 20)
    people = write_people(tmp_path / "people.csv", sessions)
    judge = write_judge(tmp_path / "good.json", sessions, lambda side: side.noisy(1.0))
    elsewhere = {f"other-{pk}": sides for pk, sides in sessions.items()}
    other = write_judge(tmp_path / "other.json", elsewhere, lambda side: side.noisy(1.0))
    out = shown(capsys, [str(people)], [str(judge), str(other)])
    assert out.count("note: ") == 1 and "\ngood with people: 20 sessions" in out
    assert "note: other has scored none of the sessions that people rated, and is left out\n" in out


def test_the_truth_plus_noise_is_seldom_blamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 30 such judges of other sessions, at most one."""
    found = []
    for seed in range(30):
        sessions = world(seed + 1, 80)
        people = write_people(tmp_path / f"{seed}.csv", sessions)
        judge = write_judge(tmp_path / f"{seed}.json", sessions, lambda side: side.noisy(1.0))
        found.append(verdict_of(shown(capsys, [str(people)], [f"llama-3-70b={judge}"])))
    assert found.count("good") >= 29, found


@pytest.mark.parametrize("people_spread", [0.0, 0.4, 2.0])
def test_the_truth_plus_noise_is_good_however_closely_people_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], people_spread: float
) -> None:
    """A judge need not be as exact as people who give the truth itself."""
    sessions = world()
    people = write_people(tmp_path / "p.csv", sessions, people_spread)
    judge = write_judge(tmp_path / "j.json", sessions, lambda side: side.noisy(1.5))
    assert verdict_of(shown(capsys, [str(people)], [str(judge)])) == "good"


def test_of_few_sessions_or_people_who_differ_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = world(sessions=19)
    people, judge = write_people(tmp_path / "p.csv", few), write_judge(tmp_path / "j.json", few, lambda s: s.noisy(1))
    assert verdict_of(shown(capsys, [str(people)], [str(judge)])) == "too few sessions"
    sessions = world()
    people = write_people(tmp_path / "p.csv", sessions, spread=40)
    judge = write_judge(tmp_path / "j.json", sessions, lambda side: side.noisy(1))
    assert verdict_of(shown(capsys, [str(people)], [str(judge)])) == "people do not rank alike here"


def stored(pk: str, sides: tuple[Truth, Truth], judge: str, goals: tuple[float, float], **more: object) -> Episode:
    """Make an episode with a session of its own, judged."""
    session = pk.split("-")[-1]
    said = [
        [("Ann", "Environment", f'said: "{session}, {turn}"'), ("Bo", "Environment", "did nothing")]
        for turn in range(sides[0].turns)
    ]
    rewards = [(goal, {"goal": goal}) for goal in goals]
    models = [judge, *(side.model for side in sides)]
    return Episode(pk=pk, environment="e", agents=["a", "b"], models=models, messages=said, status="scored", rewards=rewards, **more)  # type: ignore[arg-type]  # fmt: skip


def test_a_run_its_copy_and_its_export_are_of_the_rated_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judged again under another tag, a session has another pk; its text tells which it is. Twice by one judge: repeats."""
    sessions = world(sessions=40)
    people = write_people(tmp_path / "people.csv", sessions)
    url = f"sqlite:///{tmp_path}/small.db"
    with open_store(url) as store:
        for pk, sides in sessions.items():
            goals = tuple(float(side.noisy(1.0)) for side in sides)
            store.put_episode(stored(pk, sides, "llama-70b", goals, tag="first"))  # type: ignore[arg-type]
            again = tuple(goal + 1.0 if goal < 10 else goal - 1.0 for goal in goals)
            for copy in ("llama-70b", "stern"):
                store.put_episode(stored(f"{copy}-{pk}", sides, copy, again, tag=f"by-{copy}"))  # type: ignore[arg-type]
        export_episodes(store, tmp_path / "all.jsonl")
    from_tags = shown(capsys, [str(people)], [], db=url, tags=["first", "by-llama-70b", "by-stern"])
    assert from_tags == shown(capsys, [str(people)], [str(tmp_path / "all.jsonl")])
    first, stern = from_tags.split("with people: ")[2:4]
    assert first.startswith("40 sessions") and stern.startswith("40 sessions")
    # Two judgements one point apart: standard deviation sqrt(1 / 2).
    repeats = [line.split()[-1] for line in (*first.splitlines(), *stern.splitlines()) if line.startswith("  goal")]
    assert repeats[1::2] == ["0.71", "-"]


def test_a_panels_judges_are_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sessions = world(sessions=40)
    people = write_people(tmp_path / "people.csv", sessions)
    with open_store(f"sqlite:///{tmp_path}/small.db") as store:
        for pk, sides in sessions.items():
            record = [
                {"judge": name, "scores": [{"goal": float(side.noisy(1.0, extra))} for side in sides], "failure": ""}
                for name, extra in (("kind@http://h/v1", 2.0), ("fair", 0.0), ("fair", 0.0))
            ] + [{"judge": "silent", "scores": [], "failure": "gone"}]
            store.put_episode(stored(pk, sides, "mean(fair,kind)x2", (5.0, 6.0), tag="t", settings={PANEL: record}))
        export_episodes(store, tmp_path / "all.jsonl")
    out = shown(capsys, [str(people)], [str(tmp_path / "all.jsonl")])
    names = re.findall(r"^(.+) with people", out, re.MULTILINE)
    assert names == ["people", "fair", "kind", "mean(fair,kind)x2"]
    assert "generous by" in out.split("kind with people")[1].splitlines()[2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o", "gpt"), ("openai/o3-mini", "gpt"), ("custom/Meta-Llama-3-8B@http://h/v1", "llama"), ("7", ""),
        ("together_ai/mistralai/Mixtral-8x7B", "mistral"), ("Qwen2.5-7B", "qwen"), ("claude-3-5-sonnet", "claude"),
    ],
)  # fmt: skip
def test_a_family_is_told_by_the_name(name: str, expected: str) -> None:
    assert family_of(name) == expected


HEAD = "rater,pk,goal_1,goal_2\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "p.csv: expected the columns pk, rater and e.g. goal_1, goal_2; found a, b"),
        ("", "p.csv: expected the columns pk, rater and e.g. goal_1, goal_2; found none"),
        (f"{HEAD}r0,s0,11,2\n", "p.csv line 2: goal_1 is '11', expected a number from 0 to 10"),
        (f"{HEAD}r0,s0,1,nan\n", "p.csv line 2: goal_2 is 'nan', expected a number"),
        (f"{HEAD}r0,s0,1\n", "p.csv line 2: expected 4 cells, found another number"),
        (f"{HEAD}r0,s0,1,2,3\n", "p.csv line 2: expected 4 cells, found another number"),
        (f"{HEAD}r0,,1,2\n", "p.csv line 2: pk or rater is empty"),
        (f"{HEAD}r0,s0,,\n", "no ratings; every cell of a dimension is empty"),
        (f'{HEAD}r0,s0,1,"2', "p.csv: not a CSV file"),
        ("rater,pk,goal_1,data\nr0,s0,1,{}x\n", "p.csv line 2: data is no transcript"),
        ("rater,pk,goal_1,data\nr0,s0,1,[1]\n", "p.csv line 2: data is no transcript"),
    ],
)
def test_a_wrong_file_of_ratings_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(told)):
        judges([str(tmp_path / "p.csv")], [], (), None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"s0": {"agent1": {"goal": 11}}}', "j.json episode s0, agent1: goal is 11, expected a number from 0 to 10"),
        ('{"s0": {"agent1": {"goal": true}}}', "j.json episode s0, agent1: goal is True"),
        ('{"s0": {"agent1": 3}}', "j.json episode s0, agent1: expected scores by dimension, found 3"),
        ('{"s0": {}, "s1": 4}', "j.json episode s1: expected an object"),
        ('{"s0": {}}', "j.json: no scores"),
        ('{"s0": {', "j.json: cannot be read as JSON"),
        ('{"a": 1}', "j.json line 1: expected an episode"),
        (
            '{"x": {"agent1": {"goal": 1}}}',
            "none of the sessions that people rated has a judge's scores here, e.g. s0",
        ),
    ],
)
def test_a_wrong_file_of_scores_is_told(tmp_path: Path, text: str, told: str) -> None:
    people = write_people(tmp_path / "p.csv", world(sessions=3))
    (tmp_path / "j.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(told)):
        judges([str(people)], [str(tmp_path / "j.json")], (), None, None)
    with pytest.raises(UserError, match="no.json: No such file"):
        judges([str(people)], ["no.json"], (), None, None)


def test_the_published_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured on them by hand: people 0.72 and 0.47 of 308 sides, GPT-4 of 56 sides 1.1 above for the goal."""
    if not PUBLISHED.is_dir():
        pytest.skip("the published ratings are not there (../shared/data/human_eval)")
    human = [",".join(str(PUBLISHED / f"{name}.csv") for name in RATERS)]
    out = shown(capsys, human, [f"gpt-4={PUBLISHED / 'gpt4_scores_140.json'}"])
    _, people, gpt4 = out.split("with people: ")
    rows = {line.split()[0]: line.split() for line in people.splitlines() if line.startswith("  ")}
    assert rows["goal"][1:3] == ["308", "0.72"] and rows["relationship"][1:3] == ["308", "0.47"]
    goal, relationship = (line for line in gpt4.splitlines()[2:4])
    assert goal.split()[1:3] == ["56", "0.79"] and relationship.split()[1:3] == ["56", "0.54"]
    assert "+1.12  [0.51, 1.74]" in goal and "generous by 1.1" in goal


def test_documents_state_every_rule() -> None:
    text = DOCS.read_text("utf-8")
    for check in CHECKS:
        assert check.rule in text
