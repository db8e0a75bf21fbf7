"""Panels: their names, their verdicts worked out by hand, their failures, and one judge that is asked as ever."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from small_world import make_run
from test_judge_verdict import SESSION, verdict

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.panel import (
    PANEL,
    Judgement,
    Panel,
    Rule,
    disagreement,
    judge,
    judgements_in,
    judges_of,
    parse_evaluator,
)
from sotopia_sdpo.judge.rejudge import check_players, rejudge, rescores, under
from sotopia_sdpo.judge.verdict import Verdict, evaluate
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.backends import Unreachable
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.spec import ModelSpec, parse_model, split_models
from sotopia_sdpo.llm.usage import Meter, Usage
from sotopia_sdpo.run.forecast import usage_by_model
from sotopia_sdpo.run.plan import items_of_combos
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.combos import Combo


URL = "http://127.0.0.1:1/v1"


class Client(LLMClient):
    """Judges who give a goal each, the next of theirs at every call; an exception is raised."""

    def __init__(self, **goals: list[int | Exception]) -> None:
        super().__init__()
        self.goals = goals
        self.asked: list[tuple[str, Any, Any]] = []

    async def complete(self, model: ModelSpec, chat: Any, sampling: Any) -> Answer:
        self.asked.append((model.name, chat, sampling))
        goal = self.goals[model.api_name].pop(0)
        if isinstance(goal, Exception):
            raise goal
        return Answer(json.dumps(verdict(goal={"reasoning": "r", "score": goal})), Usage(1, 10, 2, 0.5))


def panel(names: str, rule: Rule = "mean", repeats: int = 1) -> Panel:
    """Make a panel of servers of one's own."""
    found = parse_evaluator(",".join(f"custom/{name}@{URL}" for name in names), rule, repeats)
    assert isinstance(found, Panel)
    return found


def judged(evaluator: Panel, client: Client) -> tuple[Verdict, dict[str, Any], Meter]:
    """Have the session judged."""
    meter = Meter()
    found, record = asyncio.run(judge(client, evaluator, SESSION, meter))
    return found, record, meter


@pytest.mark.parametrize(
    ("typed", "rule", "repeats", "expected"),
    [
        ("gpt-4o", "median", 1, "gpt-4o"),
        (f"custom/j@{URL}/,{URL}", "mean", 1, "custom/j"),
        (f"custom/j@{URL}/", "mean", 1, f"custom/j@{URL}/"),
        ("gpt-4o", "mean", 3, "mean(gpt-4o)x3"),
        ("gpt-4o,claude-3", "mean", 1, "mean(claude-3,gpt-4o)"),
        ("claude-3, gpt-4o", "mean", 1, "mean(claude-3,gpt-4o)"),
        (f"gpt-4o,custom/j@{URL},{URL}/,claude-3", "median", 2, "median(claude-3,custom/j,gpt-4o)x2"),
    ],
)
def test_the_name_of_who_judges(typed: str, rule: Rule, repeats: int, expected: str) -> None:
    """It does not depend on the order or on addresses; one judge asked once is called as ever."""
    assert parse_evaluator(typed, rule, repeats).name == expected


def test_names_need_no_address_to_be_shown() -> None:
    assert parse_evaluator("custom/b,custom/a", is_called=False).name == panel("ab").name
    with pytest.raises(UserError, match="custom/b: no address"):
        parse_evaluator("gpt-4o,custom/b")


@pytest.mark.parametrize("typed", ["gpt-4o,gpt-4o", f"custom/j@{URL},custom/j@{URL}/2"])
def test_a_judge_is_not_named_twice(typed: str) -> None:
    with pytest.raises(UserError, match="twice; to judge more than once, use --judge-repeats"):
        parse_evaluator(typed)


def test_addresses_of_one_model_are_not_models() -> None:
    assert split_models(f"a,custom/j@{URL},{URL}/2, b") == ["a", f"custom/j@{URL},{URL}/2", "b"]
    assert split_models(" a ") == [" a "]


def test_one_judge_is_asked_as_if_there_were_no_panels() -> None:
    """The same requests, verdict and usage as `evaluate`, and nothing more in the settings."""
    client, plain = Client(j=[8]), Client(j=[8])
    one, meter, own = parse_model(f"custom/j@{URL}"), Meter(), Meter()
    found, record = asyncio.run(judge(client, one, SESSION, meter))
    assert found == asyncio.run(evaluate(plain, one, SESSION, own)) and record == {}
    assert client.asked == plain.asked and meter.record() == own.record()


def test_mean_and_median_by_hand() -> None:
    """Goals 1, 4 and 10: mean 5, median 4; agent 2 has 7 from all. Overall: 5 / 7."""
    for rule, goal in (("mean", 5.0), ("median", 4.0)):
        found, record, meter = judged(panel("abc", rule), Client(a=[1], b=[4], c=[10]))
        assert [reward[1]["goal"] for reward in found.rewards] == [goal, 7.0]
        assert found.rewards[0][0] == found.rewards[0][1]["overall_score"] == pytest.approx(goal / 7)
        assert meter.parts["evaluator"] == Usage(3, 30, 6, 1.5)
        said = judgements_in(record)
        assert [one.scores[0]["goal"] for one in said] == [1, 4, 10]
        # Squares 16 + 1 + 25 over 2: sqrt(21).
        assert disagreement(said, 0, "goal") == pytest.approx(21**0.5) and disagreement(said, 1, "goal") == 0
        assert found.reasoning.count("Judge custom/") == 3


def test_a_judge_counts_once_however_often_it_is_asked() -> None:
    """A gave 2 and 4, b 9 and none: mean of 3 and 9. Disagreement: their distance over sqrt(2)."""
    client = Client(a=[2, 4], b=[9, Unreachable("gone")])
    found, record, _ = judged(panel("ab", repeats=2), client)
    assert found.rewards[0][1]["goal"] == 6.0 and len(client.asked) == 4
    assert [len(one.scores) for one in judgements_in(record)] == [2, 2, 2, 0]
    assert disagreement(judgements_in(record), 0, "goal") == pytest.approx(6 / 2**0.5)
    assert record[PANEL][3]["failure"].startswith("the evaluator could not be called: Unreachable: gone")


def test_a_single_judge_disagrees_with_itself() -> None:
    said = [Judgement("a", ({"goal": 2.0},)), Judgement("a", ({"goal": 4.0},)), Judgement("a", ())]
    assert disagreement(said, 0, "goal") == pytest.approx(2**0.5) and disagreement(said[:1], 0, "goal") is None


@pytest.mark.parametrize(("gone", "is_scored"), [("c", True), ("bc", False), ("abc", False)])
def test_more_than_half_decide(gone: str, is_scored: bool) -> None:
    goals: dict[str, list[Any]] = {name: [Unreachable("gone") if name in gone else 6] for name in "abc"}
    found, record, _ = judged(panel("abc"), Client(**goals))
    assert (found.failure == "") == is_scored and found.is_unreachable == (not is_scored)
    if is_scored:
        assert found.rewards[0][1]["goal"] == 6.0
    else:
        assert f"{3 - len(gone)} of the 3 judges gave a verdict, more than half are needed" in found.failure
        assert found.rewards == [] and sum(bool(one.scores) for one in judgements_in(record)) == 3 - len(gone)


def test_half_is_not_enough() -> None:
    assert judged(panel("ab"), Client(a=[6], b=[Unreachable("gone")]))[0].failure.startswith("1 of the 2 judges")


def test_a_panel_in_tags_plans_and_forecasts() -> None:
    run = replace(make_run(partner="n"), evaluator=panel("ba", repeats=2))
    (item, _) = items_of_combos(run, [Combo("e", ("a", "b"))])
    assert item.key.tag.endswith("_mean(custom/a,custom/b)x2_all_trial0")
    assert item.names == ["mean(custom/a,custom/b)x2", "custom/m@http://h/v1", "custom/n@http://h/v1"]
    assert [one.api_name for one in item.models] == ["b", "a", "b", "a", "m", "n"]
    calls = {spec.api_name: usage.calls for spec, usage in usage_by_model([item], 4.0).items()}
    assert calls == {"m": 2, "n": 2, "a": 2, "b": 2}
    assert len(judges_of(run.evaluator)) == 4 and judges_of(parse_model("gpt-4o")) == (parse_model("gpt-4o"),)


def test_a_copy_holds_the_record_of_its_own_judges() -> None:
    """Judged by a panel, then by one judge: the panel's record does not stay."""
    messages = [[("Environment", name, f"Participants: Ann and Bo\n{name}") for name in ("Ann", "Bo")]]
    messages[0] += [("Ann", "Environment", "left the conversation"), ("Bo", "Environment", "did nothing")]
    stored = Episode(
        environment="e", agents=["a", "b"], models=["x", "m", "m"], messages=messages, status="unscored",
        settings={"task": "all"}, tag="benchmark_m_m_x_all_trial0",
    )  # fmt: skip
    by_panel, _ = asyncio.run(rejudge(Client(a=[1], b=[3]), panel("ab"), stored))
    assert by_panel.models == ["mean(custom/a,custom/b)", "m", "m"] and len(by_panel.settings[PANEL]) == 2
    assert by_panel.settings["task"] == "all" and by_panel.usage["evaluator"]["calls"] == 2
    one = parse_model(f"custom/a@{URL}")
    by_one, _ = asyncio.run(rejudge(Client(a=[5]), one, by_panel))
    assert by_one.settings == {"task": "all"} and by_one.models[0] == f"custom/a@{URL}"
    (work,) = rescores([stored.head], panel("ba"), "")
    assert work.key.tag == "benchmark_m_m_mean(custom/a,custom/b)_all_trial0"


def played(models: list[str], tag: str) -> Episode:
    """A scored session as a published database has it, without a role on record."""
    scores = {"goal": 7.0}
    return Episode(
        environment="e", agents=["a", "b"], models=models, messages=[], rewards=[(7.0, scores)] * 2, status="scored",
        tag=tag,
    )  # fmt: skip


def test_a_copy_under_a_tag_of_the_users_keeps_its_role() -> None:
    """Who is the target only the old tag says; without that the copy had another key than its claim, for ever."""
    tag = "benchmark_m_n_x_all_trial0"
    sessions = [played(["x", "m", "n"], tag), played(["x", "n", "m"], tag)]
    work = rescores([one.head for one in sessions], parse_model("gpt-4o"), "mine")
    copies = [under(item.key, session) for item, session in zip(work, sessions, strict=True)]
    assert [one.key for one in copies] == [item.key for item in work]
    assert [(one.tag, one.pk, one.position) for one in copies] == [
        ("mine", item.key.pk, i) for i, item in enumerate(work)
    ]


def test_sessions_that_would_be_stored_as_one_are_refused() -> None:
    """Runs of two models on the same scenarios, and what an earlier command has stored under the tag."""
    sessions = [played(["x", model, model], f"benchmark_{model}_{model}_x_all_trial0") for model in "mn"]
    with pytest.raises(UserError, match="tag mine: the sessions .* would be stored as one; judge one run at a time"):
        rescores([one.head for one in sessions], parse_model("gpt-4o"), "mine")
    twice = played(["x", "m", "m"], sessions[0].tag).model_copy(update={"pk": "another"})
    assert [one.source for one in rescores([sessions[0].head, twice.head], parse_model("gpt-4o"), "")] == [
        sessions[0].pk
    ]
    first, second = (rescores([one.head], parse_model("gpt-4o"), "mine") for one in sessions)
    judged = under(first[0].key, sessions[0]).model_copy(update={"models": ["gpt-4o", "m", "m"]})
    stored = {first[0].key: judged.head}
    check_players(first, stored)
    with pytest.raises(
        UserError, match="tag mine: its episodes are by m, m, those that are to be judged by n, n; give"
    ):
        check_players(second, stored)
    other = rescores([sessions[0].head], parse_model("gpt-4o-mini"), "mine")
    with pytest.raises(UserError, match="tag mine: its episodes are judged by gpt-4o, not by gpt-4o-mini; give"):
        check_players(other, stored)
