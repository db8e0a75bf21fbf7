"""Make the demo's data: preference pairs that share a history, and whole dialogues for fine-tuning.

Records 2i and 2i + 1 of the pairs are negative and positive; the dialogues mix good and flawed play. Both sides of a
pair perform the same acts, worded from the same pools; they differ in when an act comes, so that no word and no length
gives the better side away. The seed decides everything.
"""

import random
from typing import Any, NamedTuple

from .background import Scenery, draw_scenery
from .play import Message, Speaker, message, play_history
from .plots import LONG_PLOTS, PLOTS, TURNED_PLOTS, Plot
from .wording import PARTNER_LINES


# Values of a pair's outer form with their shares; starts and lengths follow the published set.
STARTS: tuple[tuple[int, float], ...] = ((1, 0.30), (3, 0.48), (5, 0.09), (7, 0.10), (9, 0.03))
LENGTHS: tuple[tuple[int, float], ...] = ((3, 0.89), (1, 0.04), (5, 0.07))
GOING_ON: tuple[tuple[str, float], ...] = (("", 0.90), ("negative", 0.03), ("positive", 0.03), ("both", 0.04))
TURNED: tuple[tuple[bool, float], ...] = ((False, 0.90), (True, 0.10))

SFT_STARTS: tuple[int, ...] = (1, 3, 3, 5)
SHARE_FITTING = 0.5
SHARE_LEAVING = 0.3

GOALS = {"negative": (3, 6), "positive": (7, 9)}
RELATIONSHIPS = {"negative": (-1, 2), "positive": (2, 4)}

Record = dict[str, Any]


class Shape(NamedTuple):
    """The outer form of one pair."""

    start: int
    """Index of the first differing turn."""
    length: int
    """Messages of the segment, of both speakers."""
    going_on: str
    """The side that has two messages more after the segment: negative, positive, both or none."""
    turned: bool
    """Whether the fitting order of acts is one that another plot calls flawed."""


def make_pairs(count: int, seed: int) -> list[Record]:
    """Return 2 * count records: for each pair the negative one, then the positive one."""
    rng = random.Random(f"pairs {seed}")
    decks = [_deck(rng, shares, count) for shares in (STARTS, LENGTHS, GOING_ON, TURNED)]
    records = []
    for number, form in enumerate(zip(*decks, strict=True)):
        records.extend(_play_pair(rng, f"demo-{number:04d}", Shape(*form)))
    return records


def make_sft(count: int, seed: int) -> list[Record]:
    """Return count whole dialogues, in which some steps are played well and others not."""
    rng = random.Random(f"sft {seed}")
    return [{"conversations": _play_whole(rng)} for _ in range(count)]


def _deck(rng: random.Random, shares: tuple[tuple[Any, float], ...], count: int) -> list[Any]:
    """Return count values in the given shares, shuffled; what rounding leaves goes to the first value."""
    cards = [value for value, share in shares[1:] for _ in range(round(share * count))][:count]
    cards += [shares[0][0]] * (count - len(cards))
    rng.shuffle(cards)
    return cards


def _play_pair(rng: random.Random, name: str, shape: Shape) -> list[Record]:
    """Play one pair: the history once, then the acts in a flawed and in the fitting order."""
    scenery, plot, position = draw_scenery(rng), _draw_plot(rng, shape), rng.randint(0, 1)
    history = play_history(rng, scenery, plot, position, shape.start)
    need, other = rng.sample(scenery.scene.needs, 2)
    positive, negative = Speaker(rng, scenery, (need, need)), Speaker(rng, scenery, (need, other))
    negative.take_over(positive)
    sides = (("negative", negative, rng.choice(plot.flawed)), ("positive", positive, plot.fitting))
    records = []
    for side, speaker, acts in sides:
        messages = history + speaker.perform(acts, in_one_turn=shape.length == 1)
        if shape.going_on in (side, "both"):
            messages.append(message("human", "speak", speaker.line(f"reply_{acts[-1]}")))
            messages.append(message("gpt", "speak", speaker.line("part")))
        segment = [shape.start, shape.start + shape.length]
        notes = _notes(rng, name, side, scenery, plot, position)
        records.append({"conversations": messages, "segment": segment, **notes})
    return records


def _draw_plot(rng: random.Random, shape: Shape) -> Plot:
    if shape.length > 3:
        return rng.choice(LONG_PLOTS)
    return rng.choice(TURNED_PLOTS if shape.turned else PLOTS)


def _notes(rng: random.Random, name: str, side: str, scenery: Scenery, plot: Plot, position: int) -> Record:
    """Return the fields that training ignores, as the sampling side would fill them."""
    names = [scenery.slots["agent"], scenery.slots["partner"]]
    return {
        "reason": plot.reason.format(**scenery.slots),
        "side": side,
        "pair": name,
        "episode": f"{name}-{side}",
        "env": scenery.scene.key,
        "agents": names if position == 0 else names[::-1],
        "agent_position": position,
        "goal": rng.randint(*GOALS[side]),
        "relationship": rng.randint(*RELATIONSHIPS[side]),
    }


def _play_whole(rng: random.Random) -> list[Message]:
    """Play two plots in a row after some small talk, each in its fitting or in a flawed order."""
    scenery = draw_scenery(rng)
    first, second = rng.sample(PLOTS + TURNED_PLOTS, 2)
    need, offered = rng.sample(scenery.scene.needs, 2)
    speaker = Speaker(rng, scenery, (need, offered))
    messages = play_history(rng, scenery, first, rng.randint(0, 1), rng.choice(SFT_STARTS))
    messages += speaker.perform(_draw_acts(rng, first))
    messages.append(message("human", "speak", rng.choice(PARTNER_LINES[second.state]).format(**scenery.slots)))
    acts = _draw_acts(rng, second)
    messages += speaker.perform(acts)
    messages.append(message("human", "speak", speaker.line(f"reply_{acts[-1]}")))
    leaving = rng.random() < SHARE_LEAVING
    messages.append(message("gpt", "leave", "") if leaving else message("gpt", "speak", speaker.line("part")))
    return messages


def _draw_acts(rng: random.Random, plot: Plot) -> tuple[str, ...]:
    return plot.fitting if rng.random() < SHARE_FITTING else rng.choice(plot.flawed)
