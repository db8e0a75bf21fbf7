"""A tiny run written by hand: a dozen episodes, and the step files that follow from them.

Comes in: nothing. Goes out: `episodes()` in the shape of `sotopia db export`, `files()` by name.
Invariant: the two are written side by side, not one derived from the other, but for the rendering of a turn.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any


NEG, COMBOS, ERR = "negative_data.json", "negative_combos.json", "negative_data_error.json"
PREF, POS, AUTO = "preference_data.json", "positive_data.json", "preference_data_auto.json"
ETO, SFT = "eto_data.json", "sft_data.json"
Files = dict[str, Any]

AGENTS = ["a", "b"]
NAMES = ["Ann Ö.", "Bob"]
ANNA, BOB, JUDGE = "custom/anna@http://h/v1/", "gpt-4o", "judge"
BACKGROUND = ["Here it is:\nScenario: one\nAnn Ö.'s goal: win\nBob's goal: Unknown", "Here it is:\nBob's goal: rest"]
SPEAK, ACT = "speak", "action"

# What is said: turn 0 is Ann's. The quotes, the newline and the brackets are what a hasty reader trips over.
LONG = [
    (SPEAK, 'He said: "no".'),
    (ACT, "shrugs] a lot"),
    (SPEAK, "Ünd?\nWell"),
    (SPEAK, "No\u2028deal."),
    (SPEAK, "Then go."),
    ("leave", ""),
]
OTHER = [(SPEAK, "Please."), ("none", ""), (SPEAK, "Thanks."), (SPEAK, "Yes."), (SPEAK, "Bye.")]


def text_of(kind: str, argument: str) -> str:
    """Write an action as sotopia's messages do."""
    plain = {"none": "did nothing", "leave": "left the conversation", SPEAK: f'said: "{argument}"'}
    return plain.get(kind, f"[{kind}] {argument}")


def turn_of(kind: str, argument: str) -> str:
    """Write an action as a dialogue does."""
    return json.dumps({"action_type": kind, "argument": argument}, ensure_ascii=False)


def episode(pk: str, task: str, env: str, actions: list, scores: list, **more: Any) -> dict[str, Any]:
    """Write one episode as it is exported; scores are goal and relationship by agent."""
    told = [["Environment", NAMES[i], f"\n{BACKGROUND[i]}\nConversation Starts:\n"] for i in (0, 1)]
    messages = [told]
    for turn, action in enumerate(actions):
        texts = [text_of(*action), "did nothing"]
        messages[-1] += [[NAMES[i], "Environment", texts[(i + turn) % 2]] for i in (0, 1)]
        messages.append([["Environment", name, f"Turn #{turn}: …\n"] for name in NAMES])
    rewards = [[1.0, {"goal": float(goal), "relationship": float(rel)}] for goal, rel in scores]
    trial = more.get("trial", 0)
    made = {
        "pk": pk,
        "environment": env,
        "agents": AGENTS,
        "tag": f"benchmark_{ANNA}_{ANNA}_{JUDGE}_{task}_trial{trial}",
    }
    made |= {"models": [JUDGE, ANNA, ANNA], "messages": messages, "rewards": rewards, "status": "scored"}
    made |= {"source_episode": None, "agent_position": None, "location": None, "settings": {"task": task}}
    return deepcopy(made | more)


def trial(pk: str, task: str, of: tuple, actions: list, scores: tuple, trial: int, **more: Any) -> dict[str, Any]:
    """Write an episode that was played to do better than (episode, scenario, role, location)."""
    source, env, position, location = of
    both = [scores, (0, 0)] if position == 0 else [(10, 5), scores]
    facts = {"source_episode": source, "agent_position": position, "location": location, "trial": trial}
    return episode(pk, task, env, actions, both, **facts | more)


def episodes() -> list[dict[str, Any]]:
    """Write all episodes; N1, N2, N3 and both sides of N5 are negatives, and three of the four C."""
    vs_bob = {"tag": f"benchmark_{ANNA}_{BOB}_{JUDGE}_neg_trial0", "models": [JUDGE, BOB, ANNA], "agent_position": 1}
    n1, n2, n3 = ("N1", "e1", 0, 3), ("N2", "e1", 1, 1), ("N3", "e2", 1, 3)
    failed = {"status": "failed", "failure": "why", "rewards": [], "messages": []}
    return [
        episode("N1", "neg", "e1", LONG, [(5, 1), (9, 3)]),
        episode("N2", "neg", "e1", LONG, [(9, 3), (6, 0)]),
        episode("N3", "neg", "e2", LONG, [(1, -5), (7, 3)], **vs_bob),
        episode("N4", "neg", "e3", LONG, [], **failed),
        episode("N5", "neg", "e3", LONG[:1] + OTHER, [(2, 0), (10, 2)]),
        episode("N6", "neg", "e5", [("leave", "")], [(9, 3), (0, 0)]),  # side 1 never speaks
        *[episode(f"C{i}", "neg", "e4", LONG, [(1, i), (8, 3)], trial=i) for i in range(4)],
        trial("H0", "hpos", n1, LONG[:2] + OTHER, (8, 2), 0),
        trial("H1", "hpos", n1, LONG[:2] + OTHER[:2], (9, 1), 1),
        trial("H2", "hpos", n1, LONG[:3] + OTHER, (10, 5), 2),  # differs first in the partner's turn
        trial("H3", "hpos", n1[:3] + (1,), OTHER, (10, 5), 3),
        trial("H4", "hpos", n1, [], (0, 0), 4, **failed),
        trial("H5", "hpos", n1, LONG, (10, 5), 5),  # the same again
        trial("H6", "hpos", n2, LONG[:1] + OTHER, (6, 2), 0),
        trial("H7", "hpos", n3, LONG[:3] + OTHER, (7, 3), 0),  # not better
        trial("P0", "pos", n1[:3] + (None,), OTHER, (5, 2), 0),
        trial("P1", "pos", n1[:3] + (None,), OTHER, (5, 1), 1),
        trial("P2", "pos", n2[:3] + (None,), OTHER, (10, 5), 0),  # the partner begins in another way
        episode("S1", "sft", "e9", LONG, [(9, 3), (8, 3)]),
        episode("S2", "sft", "e9", OTHER, [(5, 3), (9, 3)], trial=1),
    ]


def dialogue(actions: list, position: int) -> list[dict[str, str]]:
    """Write the dialogue of a side, given the actions up to the agent's last one."""
    turns = [turn_of(*action) for action in actions]
    first = f"You are {NAMES[position]}.\n{BACKGROUND[position]}\n\nAct.\n" + "\n" * position
    values = [first + "".join(turns[:position]), *turns[position:]]
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


def record(pk: str, env: str, position: int, actions: list, scores: tuple) -> dict[str, Any]:
    """Write a record as the negatives' file has it."""
    made = {"conversations": dialogue(actions, position), "episode": pk, "env": env, "agents": AGENTS}
    return deepcopy(made | {"agent_position": position, "goal": float(scores[0]), "relationship": float(scores[1])})


def pair(pair_id: str, negative: dict, positive: dict, **facts: Any) -> list[dict[str, Any]]:
    """Write the two records of a pair."""
    both = zip(("negative", "positive"), (negative, positive), strict=True)
    return [deepcopy(side_record | {"side": side, "pair": pair_id} | facts) for side, side_record in both]


def cut(two: list[dict[str, Any]], start: int, end: int) -> list[dict[str, Any]]:
    """Cut both sides at the segment's end."""
    added = {"segment": [start, end], "reason": "it matters"}
    return [deepcopy(side | {"conversations": side["conversations"][:end]} | added) for side in two]


def files() -> dict[str, list[dict[str, Any]]]:
    """Write every step file."""
    n1 = record("N1", "e1", 0, LONG[:5], (5, 1))
    n2 = record("N2", "e1", 1, LONG, (6, 0))
    n3 = record("N3", "e2", 1, LONG, (7, 3))
    n5 = record("N5", "e3", 0, LONG[:1] + OTHER[:4], (2, 0)), record("N5", "e3", 1, LONG[:1] + OTHER, (10, 2))
    capped = [record(f"C{i}", "e4", 0, LONG[:5], (1, i)) for i in (0, 1, 3)]
    negatives = [n1, n2, n3, *n5, *capped]
    places = {"N1": 3, "N2": 1, "N3": 3}
    located = [n | {"location": places[n["episode"]], "reason": "here"} for n in (n1, n2, n3)]
    place = {"location_reason": "here"}
    h1, h6 = record("H1", "e1", 0, LONG[:2] + OTHER[:1], (9, 1)), record("H6", "e1", 1, LONG[:1] + OTHER, (6, 2))
    pairs = [
        *pair("N1/0@3", n1, h1, **place, location=3, goal_gain=4.0, relationship_gain=0.0),
        *pair("N2/1@1", n2, h6, **place, location=1, goal_gain=0.0, relationship_gain=2.0),
    ]
    p0 = record("P0", "e1", 0, OTHER, (5, 2))
    names = ("env", "agents", "agent_position", "episode")
    return {
        NEG: negatives,
        COMBOS: [
            dict(zip(("env_id", "agent_ids", *names[2:]), (n[k] for k in names), strict=True)) for n in negatives
        ],
        ERR: located,
        PREF: pairs,
        POS: deepcopy(pairs[1::2]),
        AUTO: cut(pairs[:2], 3, 4) + cut(pairs[2:], 1, 4),
        ETO: pair("N1/0", n1, p0, goal_gain=0.0, relationship_gain=1.0),
        SFT: [{"conversations": dialogue(*side)} for side in ((LONG[:5], 0), (LONG, 1), (OTHER, 0), (OTHER[:4], 1))],
    }


def write(folder: Path, files: Files) -> Path:
    """Write step files into a folder, which is made."""
    folder.mkdir(exist_ok=True)
    for name, records in files.items():
        text = records if isinstance(records, str) else json.dumps(records, ensure_ascii=False, indent=1)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_episodes(path: Path, episodes: list[dict[str, Any]]) -> Path:
    """Write episodes as `sotopia db export` does."""
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in episodes), encoding="utf-8")
    return path
