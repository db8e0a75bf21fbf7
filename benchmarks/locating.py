"""Count how often the turn that went wrong is located, over negatives of which it is known, and what that takes.

`--world sotopia`: careful scripted agents play the demo world. Into sessions that went well (a goal of 8 or more, and
none of these errors) one error is planted: at a turn before the deal that is drawn, the agent is rude, makes a greedy
offer, or leaves, and both go on by themselves from there. Those that end with a goal of at most 7 count. `--world
game`: the scripted agent's own walks in the small game that ended below 100; the wrong turn is the one that wastes the
tool. Methods:

- annotator: names the known turn in 65 % of the negatives, and another one of the agent's, where there is one, in the
  others; it is drawn, and stands for a model that is wrong in 35 %.
- full search: every point is played `--rollouts` times.
- replay: `locate.py --by replay`.
- verify: the annotator's turn, verified by continuations (`--verify`).

Prints the share of negatives located at the known turn with its 95 % interval (Wilson's), the share of those that go
on to training at another turn, and continuations, steps and calls a negative.

    python benchmarks/locating.py --seeds 0 1 2 3 4
"""

import argparse
import contextlib
import io
import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.envs.registry import open_environment
from sotopia_sdpo.judge.verdict import template_hash
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.make.servers import scripted_server
from sotopia_sdpo.pairs.continuations import Players, Side, agent_turns, played_of, search_all
from sotopia_sdpo.pairs.proof import ANOTHER, CONFIRMED, verified
from sotopia_sdpo.pairs.quests import record_of as quest_record
from sotopia_sdpo.pairs.sides import record_of
from sotopia_sdpo.pairs.steps.negatives import PRESETS, Preset
from sotopia_sdpo.pairs.values import Found, Played, Search, steepest
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import load_template, session_of
from sotopia_sdpo.run.execute import sample_all
from sotopia_sdpo.run.plan import Run, items_of_combos
from sotopia_sdpo.run.quests import QuestRun, items_of_quests, quests_of
from sotopia_sdpo.run.rollouts import roll_out_all
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.draws import draws
from sotopia_sdpo.simulated.policy import BEST_CARE, WORST_CARE
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.world.cast import demo_splits, require_world
from sotopia_sdpo.world.combos import choose
from sotopia_sdpo.world.tasks import TASKS


PLANTS = (acts.RUDE, acts.GREEDY, acts.LEAVE)
WENT_WELL = 8
WRONG = 0.35
LIMITS = Limits(16)


class Planted(NamedTuple):
    """A negative whose wrong turn is known."""

    side: Side
    turn: int
    """Among the agent's."""
    kind: str


class Row(NamedTuple):
    """What one method did, over some negatives."""

    right: int = 0
    wrong: int = 0
    """Located at another turn."""
    rollouts: int = 0
    steps: int = 0
    calls: int = 0

    def plus(self, other: "Row") -> "Row":
        """Return the sum."""
        return Row(*(one + two for one, two in zip(self, other, strict=True)))


def main() -> None:
    """Plant, locate by every method, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=("sotopia", "game"), default="sotopia")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--negatives", type=int, default=40, help="of each seed, at most")
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--care", type=float, default=0.9, help="of the agents, at least")
    options = parser.parse_args()
    rows: dict[str, Row] = defaultdict(Row)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    total = 0
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            log = Path(folder) / "log"
            with (
                scripted_server(log, "--seed", str(seed), env=dict(os.environ)) as url,
                open_store(f"sqlite:///{folder}/sotopia.db") as store,
            ):
                agent, partner = (model(url, seed, name, options.care) for name in ("agent", "partner"))
                plant = sessions if options.world == "sotopia" else walks
                negatives = plant(store, agent, partner, seed, options.negatives)
                total += len(negatives)
                players = Players(agent, options.rollouts, LIMITS, partner, partner, seed)
                for name, row, right in methods(store, negatives, players):
                    rows[name] = rows[name].plus(row)
                    kinds[name].update(right)
                kinds["negatives"].update(one.kind for one in negatives)
    print(f"{options.world}: {total} negatives, seeds {options.seeds}, K = {options.rollouts}, care {options.care}")
    print(
        f"{'':12}{'found':>7}  {'95 % interval':15}{'wrong':>6}{'continuations':>15}{'steps':>8}{'calls':>8}  by kind"
    )
    for name, row in rows.items():
        ends = "[{:.1%}, {:.1%}]".format(*wilson(row.right, total))
        each = "".join(f"{count / total:{width}.1f}" for count, width in zip(row[2:], (15, 8, 8), strict=True))
        by_kind = ", ".join(f"{kind} {kinds[name][kind]}/{count}" for kind, count in kinds["negatives"].items())
        print(f"{name:12}{row.right / total:7.1%}  {ends:16}{row.wrong / total:6.1%}{each}  {by_kind}")


def methods(store: Store, negatives: Sequence[Planted], players: Players) -> Iterator[tuple[str, Row, list[str]]]:
    """Locate by every method; give its name, what it did, and the kinds of the negatives that it got right."""
    sides = [one.side for one in negatives]
    draw = random.Random(players.seed)
    named = {number: name_turn(one, draw) for number, one in enumerate(negatives)}
    yield _row("annotator", negatives, named, calls=len(named))
    for name, search in (("full search", full), ("replay", steepest)):
        searches = [search(played_of(side), players.rollouts) for side in sides]
        found, spent = search_all(store, sides, searches, players)
        turns = {number: one.fall.start for number, one in enumerate(found) if one and one.fall.mean > 0}
        yield _row(name, negatives, turns, *spent[:3])
    checks = [
        verified(played_of(side), players.rollouts, turn) for side, turn in zip(sides, named.values(), strict=True)
    ]
    proofs, spent = search_all(store, sides, checks, players)
    kept = {
        number: proof.found.fall.start
        for number, proof in enumerate(proofs)
        if proof and proof.verdict in (CONFIRMED, ANOTHER)
    }
    yield _row("verify", negatives, kept, spent[0], spent[1], spent[2] + len(named))


def name_turn(negative: Planted, draw: random.Random) -> int:
    """Name a turn as an annotator does that is wrong in 35 %."""
    others = [turn for turn in range(len(agent_turns(negative.side))) if turn != negative.turn]
    return draw.choice(others) if others and draw.random() < WRONG else negative.turn


def full(played: Played, most: int) -> Search[Found]:
    """Play every point, and take the turn with the largest fall."""
    scores = yield dict.fromkeys(range(played.turns), most)
    falls = [played.fall(turn, turn + 1, scores) for turn in range(played.turns)]
    return Found(max(falls, key=lambda fall: fall.mean), played.values(scores))


def _row(
    name: str, negatives: Sequence[Planted], turns: dict[int, int], rollouts: int = 0, steps: int = 0, calls: int = 0
) -> tuple[str, Row, list[str]]:
    right = [negatives[number].kind for number, turn in turns.items() if turn == negatives[number].turn]
    return name, Row(len(right), len(turns) - len(right), rollouts, steps, calls), right


def model(url: str, seed: int, name: str, care: float) -> str:
    """Return the first model of a name with a number that the scripted server plays with this much care."""
    number = next(
        number
        for number in range(10**6)
        if WORST_CARE + (BEST_CARE - WORST_CARE) * draws(seed, f"{name}-{number}")("care") >= care
    )
    return f"custom/{name}-{number}@{url}/"


def sessions(store: Store, agent: str, partner: str, seed: int, count: int) -> list[Planted]:
    """Plant errors in sessions of SOTOPIA that went well."""
    require_world(store, is_demo=True)
    spec, other, template = parse_model(agent), parse_model(partner), load_template()
    run = Run(spec, other, other, TASKS["neg"], template, template_hash(), seed=seed)
    combos = choose(store, TASKS["neg"], demo_splits(), None, seed).combos
    sample_all(store, items := items_of_combos(run, combos), LIMITS)
    draw, planted = random.Random(seed), {}
    for item in items:
        episode = store.get_episode(item.key.pk)
        position = 1 if item.agent_position else 0
        if episode is None or episode.status != "scored":
            continue
        if record_of(episode, position, template).goal < WENT_WELL:
            continue
        actions = session_of(episode.messages).actions
        own = [acts.heard(action) for action in actions[position::2]]
        before_deal = next((turn for turn, action in enumerate(actions) if acts.heard(action) == acts.ACCEPT), 0)
        turns = range((before_deal - position + 1) // 2)
        if not turns or any(act in own[: len(turns)] for act in PLANTS):
            continue
        turn = draw.choice(turns)
        kind = draw.choice(PLANTS)
        history = (*actions[: 2 * turn + position], said(kind, draw))
        key = item.key._replace(tag="planted")
        planted[key.pk] = (item._replace(run=_tagged(run), key=key, history=history), turn, kind)
    sample_all(store, [item for item, _, _ in planted.values()], LIMITS)
    found = []
    for pk, (item, turn, kind) in planted.items():
        episode = store.get_episode(pk)
        if episode is None or episode.status != "scored":
            continue
        side = record_of(episode, 1 if item.agent_position else 0, template)
        if side.goal <= PRESETS[Preset.code].goal:
            found.append(Planted(side, turn, kind))
    return found[:count]


def _tagged(run: Run) -> Run:
    return replace(run, tag="planted")


def said(kind: str, draw: random.Random) -> Action:
    """Return an error in words."""
    return acts.say(kind, draw.random(), "friend", "matter")


def walks(store: Store, agent: str, partner: str, seed: int, count: int) -> list[Planted]:
    """Play the game, and return the walks that went wrong."""
    game = Game()
    run = QuestRun("game", TASKS["neg"], parse_model(agent), max_actions=game.max_actions, temperature=0.7, seed=seed)
    items = items_of_quests(run, quests_of(game, game.kinds, "train", seed))
    roll_out_all(store, items, partial(open_environment, "game"), LIMITS)
    found = []
    for item in items:
        episode = store.get_episode(item.key.pk)
        if episode is None or episode.status != "scored" or episode.outcome.value == 100:
            continue
        side = quest_record(episode)
        if (turn := wasted_at(item.quest, side)) is not None:
            found.append(Planted(side, turn, item.quest.kind))
    return found[:count]


def wasted_at(quest: Quest, side: Side) -> int | None:
    """Return the action that wastes the tool."""
    game = Game()
    game.reset(quest)
    for number, index in enumerate(agent_turns(side)):
        game.act(side.conversations[index]["value"])
        if game.is_wasted:
            return number
    return None


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's interval of a share (JASA 22, 1927)."""
    z, share = 1.96, right / total
    middle, width = share + z * z / (2 * total), z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (middle - width) / (1 + z * z / total), (middle + width) / (1 + z * z / total)


if __name__ == "__main__":
    main()
