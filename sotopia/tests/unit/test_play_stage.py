"""Upstream's environment as we drive it: order, ends, inboxes, and a replay that is as if it had been lived."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotopia_sdpo.play.actions import Action, parse_answer
from sotopia_sdpo.play.dialogue import Session, session_of
from sotopia_sdpo.play.stage import SotopiaStage, load
from sotopia_sdpo.play.taking_turns import run
from sotopia_sdpo.store.upstream import upstream_models


def profiles() -> tuple[Any, list[Any]]:
    """Make a scenario and two characters."""
    load()
    database = upstream_models()
    scenario = database.EnvironmentProfile(
        pk="e", scenario="Two meet & talk.", agent_goals=["Win (<extra_info>Extra: 5 < 6</extra_info>)", "Draw"]
    )
    people = [
        database.AgentProfile(pk=pk, first_name=first, last_name="Lee", age=30, occupation="Baker", gender="Woman")
        for pk, first in (("a", "Ann"), ("b", "Bo"))
    ]
    return scenario, people


def stage() -> SotopiaStage:
    """Set a stage."""
    return SotopiaStage(*profiles())


def says(*words: str) -> list[Action]:
    """Speak."""
    return [Action("speak", word) for word in words]


async def never(_: int, __: Session) -> Action:
    """Be asked although the session should be over."""
    raise AssertionError("nobody is to be asked")


def test_each_side_is_told_its_own_goal_only() -> None:
    found = stage()
    assert "Ann Lee's goal: Win" in found.backgrounds[0] and "Bo Lee's goal: Unknown" in found.backgrounds[0]
    assert "Bo Lee's goal: Draw" in found.backgrounds[1] and "Win" not in found.backgrounds[1]
    assert found.backgrounds[0].startswith("Here is the context") and "Conversation Starts" not in found.backgrounds[0]


def test_two_characters_of_one_name_are_refused() -> None:
    scenario, people = profiles()
    people[1].first_name = people[0].first_name
    with pytest.raises(ValueError, match="both characters are called 'Ann Lee'"):
        SotopiaStage(scenario, people)


def test_turns_alternate_and_end_at_twenty() -> None:
    asked = []

    async def ask(position: int, session: Session) -> Action:
        asked.append((position, len(session.actions)))
        return Action("speak", "on and on")

    found = stage()
    asyncio.run(run(found, ask))
    assert asked == [(turn % 2, turn) for turn in range(20)] and len(found.messages) == 21


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_leaving_ends_it(turns: int) -> None:
    found = stage()
    asyncio.run(run(found, never, [*says(*["hi"] * (turns - 1)), Action("leave")]))
    assert found.is_over and len(found.actions) == turns


def test_a_history_beyond_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="over after 1 turns, but 2 are to be replayed"):
        asyncio.run(run(stage(), never, [Action("leave"), Action("leave")]))


def test_messages_are_upstreams() -> None:
    """Held against upstream's own loop with agents that speak by script."""
    from sotopia.agents.base_agent import BaseAgent
    from sotopia.envs.evaluators import EpisodeLLMEvaluator, RuleBasedTerminatedEvaluator
    from sotopia.envs.parallel import ParallelSotopiaEnv
    from sotopia.messages import AgentAction
    from sotopia.server import arun_one_episode

    scenario, people = profiles()
    script = [*says("Hello Bo", "Hello Ann"), Action("action", "waves"), Action("none"), Action("leave")]

    class Scripted(BaseAgent[Any, Any]):
        async def aact(self, obs: Any) -> AgentAction:
            self.recv_message("Environment", obs)
            if obs.available_actions == ["none"]:
                return AgentAction(action_type="none", argument="")
            return AgentAction(**script[obs.turn_number]._asdict())

    class NoJudge(EpisodeLLMEvaluator):
        async def __acall__(self, *_: Any, **__: Any) -> list[Any]:
            return []

    from sotopia.database import SotopiaDimensions
    from sotopia.envs.evaluators import EvaluationForAgents

    env = ParallelSotopiaEnv(
        action_order="round-robin",
        evaluators=[RuleBasedTerminatedEvaluator(max_turn_number=20, max_stale_turn=2)],
        terminal_evaluators=[NoJudge("m", EvaluationForAgents[SotopiaDimensions])],
        env_profile=scenario,
    )
    agents = [Scripted(agent_profile=person) for person in people]
    theirs = asyncio.run(arun_one_episode(env, agents))
    found = SotopiaStage(scenario, people)
    asyncio.run(run(found, never, script[: len(env.inbox) // 3]))
    told = [message for turn in found.messages for message in turn]
    assert told == [(sender, receiver, message.to_natural_language()) for sender, receiver, message in theirs]
    for ours, upstream in zip(found.agents, agents, strict=True):
        seen = [message.to_natural_language() for _, message in upstream.inbox]
        assert [message.to_natural_language() for _, message in ours.inbox][: len(seen)] == seen


def test_a_replay_is_as_if_it_had_been_lived() -> None:
    """Stop anywhere, replay what was, and everything is the same: inboxes, turn number, whose turn it is."""
    script = says("one", "two <b>bold</b> & 5 < 6", "three", "four", "five")
    for turns in range(len(script) + 1):
        lived, replayed = stage(), stage()
        for action in script[:turns]:
            lived.play(action)

        async def stop(position: int, session: Session) -> Action:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            asyncio.run(run(replayed, stop, script[:turns]))
        assert replayed.messages == lived.messages and replayed.session == lived.session
        assert replayed.actor == lived.actor and replayed.env.turn_number == lived.env.turn_number == turns
        assert replayed.env.action_mask == lived.env.action_mask
        for ours, theirs in zip(replayed.agents, lived.agents, strict=True):
            assert [(who, m.to_natural_language()) for who, m in ours.inbox] == [
                (who, m.to_natural_language()) for who, m in theirs.inbox
            ]
            assert len(ours.inbox) == turns + 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_whatever_is_said_arrives_and_is_read_back(words: list[str]) -> None:
    """Also markup, control characters and line breaks, which upstream's XML would swallow or fail on."""
    found = stage()
    for word in words:
        answer = Action("speak", word).to_json()
        try:
            action = parse_answer(answer)
        except ValueError:
            continue
        found.play(action)
        assert action.argument in found.agents[0].inbox[-1][1].last_turn
    assert session_of(found.messages) == found.session
