"""The first turn of a demo dialogue: situation, people, the agent's goal, rules and answer format."""

import random
from typing import NamedTuple

from .characters import DAYS, HABITS, JOBS, MEMORIES, NAMES, SECRETS, SURNAMES, TRAITS
from .scenes import SCENES, Scene


HOURS: tuple[int, ...] = (4, 5, 6, 7, 8, 9)
SUMS: tuple[int, ...] = (40, 60, 80, 90, 120, 150, 180, 240)
YEARS: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9)
AGES: tuple[int, int] = (21, 68)
MEMORY_COUNTS: tuple[int, int] = (7, 26)

RULES = """Rules of the talk:
- You and {partner} act in turn, and each turn holds exactly one action.
- You only know what stands here and what {partner} tells you. Do not make up facts about {partner}.
- Try to reach your goal, and mind the relationship: you will meet again after today.
- Keep to your own voice, say one thing at a time, and be brief.
- The talk ends when one of you leaves or when nothing new is said.

Answer with one JSON object and nothing around it:
{{"action_type": "...", "argument": "..."}}
action_type is "speak" for something you say, "action" for something your hands do, or "leave" to end the talk. \
argument holds the words or the deed; it is empty for "leave"."""


class Scenery(NamedTuple):
    """All that a dialogue draws before anybody speaks."""

    scene: Scene
    slots: dict[str, str]
    """What fills the braces of the wordings; own and need are added per record."""
    own: str
    goal: str
    setting: str
    relation: str
    people: tuple[str, str]
    """A paragraph about the agent and one about the partner."""
    memories: tuple[str, ...]


def draw_scenery(rng: random.Random) -> Scenery:
    """Return a random scene with its people, place, figures and goals."""
    scene = rng.choice(SCENES)
    agent, partner = rng.sample(NAMES, 2)
    slots = {
        "agent": agent,
        "partner": partner,
        "topic": scene.topic,
        "place": rng.choice(scene.places),
        "day": rng.choice(DAYS),
        "hour": str(rng.choice(HOURS)),
        "sum": str(rng.choice(SUMS)),
        "years": str(rng.choice(YEARS)),
    }
    wish = rng.choice(scene.wishes)
    return Scenery(
        scene=scene,
        slots=slots,
        own=wish.said.format(**slots),
        goal=wish.goal.format(**slots),
        setting=rng.choice(scene.settings).format(**slots),
        relation=rng.choice(scene.relations),
        people=(_describe(rng, agent), _describe(rng, partner)),
        memories=tuple(m.format(**slots) for m in rng.sample(MEMORIES, rng.randint(*MEMORY_COUNTS))),
    )


def _describe(rng: random.Random, name: str) -> str:
    age = rng.randint(*AGES)
    first, second = rng.sample(HABITS, 2)
    text = f"{name} {rng.choice(SURNAMES)}, {age}, works as a {rng.choice(JOBS)}, is {rng.choice(TRAITS)}, {first}"
    return f"{text} and {second}."


def first_turn(rng: random.Random, scenery: Scenery, hint: str, opening: str) -> str:
    """Return the first human turn.

    Args:
        rng: draws the agent's secret.
        scenery: the drawn scene.
        hint: what the agent knows about the state of things, or nothing.
        opening: the partner's first action when the agent speaks second, or nothing.
    """
    agent, partner = scenery.slots["agent"], scenery.slots["partner"]
    known = " ".join((*scenery.memories, hint)).strip()
    parts = [
        f"You are {agent} in a talk with {partner}. Stay in this role until the end.",
        f"Situation: {scenery.setting} They are {scenery.relation}.",
        f"About you: {scenery.people[0]} Secret: {agent} {rng.choice(SECRETS)}.",
        f"About {partner}: {scenery.people[1]}",
        f"What you know besides: {known}",
        f"Your goal, which {partner} does not know: {scenery.goal}.",
        RULES.format(partner=partner),
        f"{partner} began: {opening}" if opening else "You begin.",
    ]
    return "\n\n".join(parts)
