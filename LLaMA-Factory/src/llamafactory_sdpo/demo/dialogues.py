"""Write the demo's data: preference pairs that share a history, and whole dialogues for fine-tuning.

In demo_pairs.json records 2i and 2i + 1 are negative and positive; demo_sft.json mixes good and flawed play. Both
sides of a pair perform the same acts, worded from the same pools; they differ in when an act comes, so that no word
and no length gives the better side away. The seed decides everything.

    python -m llamafactory_sdpo.demo.dialogues --pairs 240 --sft 160 --seed 11 --out LLaMA-Factory/data
"""

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

from .background import Stage, draw_stage
from .play import Message, Speaker, message, play_history
from .plots import LONG_PLOTS, PLOTS, TURNED_PLOTS, Plot
from .wording import PARTNER_LINES


PAIRS_FILE = "demo_pairs.json"
SFT_FILE = "demo_sft.json"
DEFAULT_PAIRS = 240
DEFAULT_SFT = 160
DEFAULT_SEED = 11

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
    """Fix the outer form of one pair."""

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
    """Deal count cards in the given shares, shuffled; what rounding leaves goes to the first kind."""
    cards = [value for value, share in shares[1:] for _ in range(round(share * count))][:count]
    cards += [shares[0][0]] * (count - len(cards))
    rng.shuffle(cards)
    return cards


def _play_pair(rng: random.Random, name: str, shape: Shape) -> list[Record]:
    """Play one pair: the history once, then the acts in a flawed and in the fitting order."""
    stage, plot, position = draw_stage(rng), _draw_plot(rng, shape), rng.randint(0, 1)
    history = play_history(rng, stage, plot, position, shape.start)
    need, other = rng.sample(stage.scene.needs, 2)
    positive, negative = Speaker(rng, stage, (need, need)), Speaker(rng, stage, (need, other))
    negative.take_over(positive)
    sides = (("negative", negative, rng.choice(plot.flawed)), ("positive", positive, plot.fitting))
    records = []
    for side, speaker, acts in sides:
        messages = history + speaker.perform(acts, in_one_turn=shape.length == 1)
        if shape.going_on in (side, "both"):
            messages.append(message("human", "speak", speaker.line(f"reply_{acts[-1]}")))
            messages.append(message("gpt", "speak", speaker.line("part")))
        segment = [shape.start, shape.start + shape.length]
        notes = _notes(rng, name, side, stage, plot, position)
        records.append({"conversations": messages, "segment": segment, **notes})
    return records


def _draw_plot(rng: random.Random, shape: Shape) -> Plot:
    if shape.length > 3:
        return rng.choice(LONG_PLOTS)
    return rng.choice(TURNED_PLOTS if shape.turned else PLOTS)


def _notes(rng: random.Random, name: str, side: str, stage: Stage, plot: Plot, position: int) -> Record:
    """Fill the fields that training ignores, as the sampling side would."""
    names = [stage.slots["agent"], stage.slots["partner"]]
    return {
        "reason": plot.reason.format(**stage.slots),
        "side": side,
        "pair": name,
        "episode": f"{name}-{side}",
        "env": stage.scene.key,
        "agents": names if position == 0 else names[::-1],
        "agent_position": position,
        "goal": rng.randint(*GOALS[side]),
        "relationship": rng.randint(*RELATIONSHIPS[side]),
    }


def _play_whole(rng: random.Random) -> list[Message]:
    """Play two plots in a row after some small talk, each in its fitting or in a flawed order."""
    stage = draw_stage(rng)
    first, second = rng.sample(PLOTS + TURNED_PLOTS, 2)
    speaker = Speaker(rng, stage, tuple(rng.sample(stage.scene.needs, 2)))
    messages = play_history(rng, stage, first, rng.randint(0, 1), rng.choice(SFT_STARTS))
    messages += speaker.perform(_draw_acts(rng, first))
    messages.append(message("human", "speak", rng.choice(PARTNER_LINES[second.state]).format(**stage.slots)))
    acts = _draw_acts(rng, second)
    messages += speaker.perform(acts)
    messages.append(message("human", "speak", speaker.line(f"reply_{acts[-1]}")))
    leaving = rng.random() < SHARE_LEAVING
    messages.append(message("gpt", "leave", "") if leaving else message("gpt", "speak", speaker.line("part")))
    return messages


def _draw_acts(rng: random.Random, plot: Plot) -> tuple[str, ...]:
    return plot.fitting if rng.random() < SHARE_FITTING else rng.choice(plot.flawed)


def write_records(path: Path, records: list[Record]) -> None:
    """Write a JSON list with one record a line, in full or not at all."""
    body = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    part = path.with_name(f"{path.name}.tmp{os.getpid()}")
    part.write_text(f"[\n{body}\n]\n", encoding="utf-8")
    os.replace(part, path)


def main() -> None:
    """Write both files into the folder --out."""
    parser = argparse.ArgumentParser(description="Write the demo pairs and the demo dialogues for fine-tuning.")
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help="number of preference pairs")
    parser.add_argument("--sft", type=int, default=DEFAULT_SFT, help="number of whole dialogues")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="decides every draw")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives both files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_records(args.out / PAIRS_FILE, make_pairs(args.pairs, args.seed))
    write_records(args.out / SFT_FILE, make_sft(args.sft, args.seed))
    print(f"wrote {args.pairs} pairs -> {PAIRS_FILE}, {args.sft} dialogues -> {SFT_FILE} (seed {args.seed})")


if __name__ == "__main__":
    main()
