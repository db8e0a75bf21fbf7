"""Made-up preference pairs in the form that the scripts write, for tests and for looking at the page.

python dpo/tests/made_up.py 1019 preference_data_auto.json
"""

import json
import random
import sys
from pathlib import Path

from sotopia_sdpo.pairs.records import PreferencePair
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Session, load_template, sharegpt_of
from sotopia_sdpo.report.reading import ShownSide


THINGS = [
    "the wool blanket",
    "the last pot of tea",
    "the window seat",
    "the good umbrella",
    "the armchair",
    "the radio",
]
THINGS += ["the lantern", "the chess set", "the guitar", "the thick coat", "the camera", "the heater"]
PLACES = [
    "a cold campsite",
    "a shared flat",
    "a night train",
    "an attic",
    "a village fair",
    "a bus shelter",
    "a studio",
]
BONDS = ["Two strangers", "Two old friends", "Two colleagues", "Two cousins", "Two neighbours", "A former couple"]
PEOPLE = ["Ines Falk", "Tomas Reyes", "Mira Okafor", "Jonas Lindqvist", "Leyla Demir", "Émile Roche", "Ada Novak"]

OPENINGS = [
    "Good to see you, {you}. Are you here for {thing} as well?",
    "I had hoped to find {thing} free. It has been a long day.",
    "To be honest, I counted on {thing} for tonight.",
    "So did I. My back is not what it was, and the evening gets cold.",
    "I see. Perhaps we can find a way that suits us both?",
    "Perhaps. What would you do with it?",
    "Rest a little, mostly, and then be on my way.",
    "That is not so different from my plan.",
]
BAD = [
    "I was here first, {you}, so {thing} is mine. You can ask somebody else.",
    "That is hardly fair. I told you why I need it.",
    "Everybody has reasons. I would rather not discuss it any further.",
    "Then there is nothing more to say between us.",
    "Suit yourself. I am not going to change my mind about {thing}.",
    "You could at least have listened.",
    "I did listen. The answer is still no.",
    "I will remember this.",
    "Do that.",
    "Fine.",
]
GOOD = [
    "Before we decide: what do you need {thing} for, {you}? If it is the cold, I have a spare coat in my bag.",
    "The cold, yes. A coat would already help a great deal.",
    "Then take the coat, and let us share {thing}: you have it until ten, and I take over afterwards.",
    "Until ten is more than I hoped for. Thank you, {you}.",
    "Thank you for saying so. And if you wake up early, the first tea is on me.",
    "I would like that. I did not expect this evening to turn out so well.",
    "Neither did I. Shall we move the chairs over?",
    "Gladly. You take that end.",
    "Done. That was easier than I thought.",
    "It was.",
]
ACTS = {"bad": "turns away and spreads both arms over {thing}", "good": "moves aside to make room and smiles"}
LOCATED = "The agent claims {thing} without asking what {you} needs it for, which ends every chance of a deal."
CHOSEN = (
    "The question and the offer that follows from its answer change the course; what comes later only confirms it."
)

LENGTHS, LENGTH_WEIGHTS = (1, 3, 5, 7), (4, 89, 6, 1)
LOCATIONS, LOCATION_WEIGHTS = (1, 3, 5, 7), (30, 48, 9, 13)


def session(draw, env, position, shared, rest, end):
    """Make a whole session: `shared` turns from the openings, then those of one side."""
    names, thing = env["names"], env["thing"]
    texts = [*OPENINGS[:shared], *(BAD if rest == "bad" else GOOD)[: draw.randint(end, 10)]]
    actions = []
    for turn, text in enumerate(texts):
        words = text.format(you=names[1 - turn % 2].split()[0], thing=thing)
        is_act = turn - shared == 2 and env["acts"]
        actions.append(Action("action", ACTS[rest].format(thing=thing)) if is_act else Action("speak", words))
    if len(texts) % 2 == 0:
        actions += [Action("none"), Action("leave")] if position else [Action("leave")]
    return sharegpt_of(
        Session(tuple(names), (env["background"][0], env["background"][1]), tuple(actions)), position, load_template()
    )


def environment(draw, number):
    """Make a scenario with its two characters; the first 500 differ."""
    round_, longer = number // len(THINGS), number // (len(THINGS) * len(BONDS))
    thing, bond = THINGS[number % len(THINGS)], BONDS[(round_ + number) % len(BONDS)]
    place = PLACES[(longer + number) % len(PLACES)]
    text = f"{bond} meet in {place}, and both have set their heart on {thing}."
    names = draw.sample(PEOPLE, 2)
    goals = [f"{name}'s goal: {{}}".format(f"Have {thing} tonight, and stay on good terms") for name in names]
    background = [
        f"Here is the context of this interaction:\nScenario: {text}\nParticipants: {names[0]} and {names[1]}\n"
        + "\n".join(f"{n}'s background: {n} is a quiet person who values honesty." for n in names)
        + "\n"
        + "\n".join(goals[i] if i == me else f"{names[i]}'s goal: Unknown" for i in (0, 1))
        for me in (0, 1)
    ]
    return {"pk": f"ENV{number:04}", "text": text, "thing": thing, "names": names, "background": background}


def pair_of(draw, env, number, step="auto"):
    """Make the two records of one pair.

    `auto` is as auto_tail.py does it, `whole` and `eto` as data_filtering_positive.py, and `uncut` has a segment in
    sessions that go on after it.
    """
    position = number % 2
    location = draw.choices(LOCATIONS, LOCATION_WEIGHTS)[0]
    length = draw.choices(LENGTHS, LENGTH_WEIGHTS)[0]
    env = {**env, "acts": draw.random() < 0.4}
    shared = 0 if step == "eto" else location - 1 + position
    sides = [session(draw, env, position, shared, rest, length) for rest in ("bad", "good")]
    goals = [draw.randint(1, 7), draw.randint(7, 10)]
    bonds = [draw.randint(-2, 2), draw.randint(1, 4)]
    if step == "auto":
        sides = [side[: location + length] for side in sides]
    first_name = env["names"][1 - position].split()[0]
    episode = f"EPISODE{number:05}"
    facts = {"pair": f"{episode}/{position}" + ("" if step == "eto" else f"@{location}")}
    common = {"env": env["pk"], "agents": [f"AGENT-{n.split()[0]}" for n in env["names"]], "agent_position": position}
    if step != "eto":
        common |= {"location": location, "location_reason": LOCATED.format(thing=env["thing"], you=first_name)}
    common |= {"goal_gain": float(goals[1] - goals[0]), "relationship_gain": float(bonds[1] - bonds[0])}
    if step in ("auto", "uncut"):
        common |= {"segment": [location, location + length], "reason": CHOSEN}
    return [
        {
            "conversations": side,
            "side": name,
            **facts,
            "episode": own,
            "goal": float(g),
            "relationship": float(r),
            **common,
        }
        for side, name, own, g, r in zip(
            sides, ("negative", "positive"), (episode, f"{episode}-replay"), goals, bonds, strict=True
        )
    ]


def records(pairs, step="auto", scenarios=251, seed=0):
    """Make the records of a whole file."""
    draw = random.Random(seed)
    envs = [environment(draw, number) for number in range(min(scenarios, pairs))]
    return [record for i in range(pairs) for record in pair_of(draw, envs[i % len(envs)], i, step)]


def human(text):
    """Make a turn of the partner's side."""
    return {"from": "human", "value": text}


def gpt(text):
    """Make a turn of the agent."""
    return {"from": "gpt", "value": text}


def pairs_of(found):
    """Group records into pairs, as reading a file does."""
    sides = [ShownSide.model_validate(record) for record in found]
    return [PreferencePair(*both) for both in zip(sides[::2], sides[1::2], strict=True)]


def bare(found):
    """Leave what published files have."""
    return [{"conversations": record["conversations"]} for record in found]


def write(path, found):
    """Write a file as the scripts do."""
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1), "utf-8")
    return path


if __name__ == "__main__":
    count, target = sys.argv[1:3]
    write(Path(target), records(int(count), *sys.argv[3:4]))
