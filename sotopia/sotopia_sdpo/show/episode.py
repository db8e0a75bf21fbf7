"""`sotopia show RUN [N]`: one episode, with what each agent knows, what is said and done, and why it scored so.

Comes in: a run and the number of one of its episodes. Goes out: its text. Invariant: nothing of the dialogue is left
out; an episode in a form that we do not read is shown message by message.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.judge.reasons import reasons_in
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.outcomes import range_of
from sotopia_sdpo.play.actions import NONE_TEXT, Action
from sotopia_sdpo.play.dialogue import ENVIRONMENT, Session, session_of
from sotopia_sdpo.play.walk import Walk, walk_of
from sotopia_sdpo.results.repeats import main_score
from sotopia_sdpo.results.scores import SHOWN, score_of
from sotopia_sdpo.results.stats import decimals
from sotopia_sdpo.show.screen import BOLD, DIM, Screen, name
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.run_names import name_of_run, tags_meant


UNKNOWN = "Unknown"
SCENARIO = re.compile(r"^Scenario:[ \t]*(.*)$", re.MULTILINE)


class Listed(NamedTuple):
    """An episode's place in the list of its run."""

    pk: str
    value: float | None
    """Its goal, or its environment's score; None without one."""


def show(run: str, number: int | None, worst: bool, best: bool, db: str | None, data_dir: Path | None) -> int:
    """Print an episode: the first one, that of a number from 1, or the worst or best that have a score.

    Raises:
        UserError: if there is no such run or episode.
    """
    if worst and best:
        raise UserError("--worst and --best are two ways to count; give one of them")
    with open_store(database_url(db, data_dir), create=False) as store:
        tags = tags_meant([run], store.counts().episodes, store.url)
        listed = _listed(store, tags, worst, best)
        place = number or 1
        if place > len(listed):
            kind = "scored episodes" if worst or best else "episodes"
            raise UserError(f"{run} has {len(listed)} {kind}, found {place}; give a number from 1 to {len(listed)}")
        episode = store.get_episode(listed[place - 1].pk)
    if episode is None:
        raise UserError(f"{store.url}: episode {listed[place - 1].pk} has been deleted just now; run it again")
    order = " from the worst" if worst else " from the best" if best else ""
    show_episode(Screen(), episode, f"{name_of_run(episode.tag)}, episode {place} of {len(listed)}{order}")
    return EXIT_DONE


def _listed(store: Store, tags: Sequence[str], worst: bool, best: bool) -> list[Listed]:
    """Return the episodes of a run in the order of their combos, or those with a score in the order of it."""
    if not (worst or best):
        heads = sorted(
            store.heads(tags), key=lambda head: (head.key.combo, head.key.position, head.key.trial, head.pk)
        )
        return [Listed(head.pk, None) for head in heads]
    scored = [episode for tag in tags for episode in store.episodes(tag, "scored")]
    if not scored:
        raise UserError(f"{store.url}: no episode of this run is scored, so none is the worst or best")
    scores = [score_of(episode) for episode in scored]
    compared = main_score(scores)
    if compared is None:
        raise UserError("the episodes of this run have no score in common, so none is the worst or best")
    listed = [Listed(episode.pk, score.values[compared]) for episode, score in zip(scored, scores, strict=True)]
    sign = -1 if best else 1
    return sorted(listed, key=lambda one: (sign * (one.value or 0.0), one.pk))


def show_episode(screen: Screen, episode: Episode, title: str) -> None:
    """Print all of an episode."""
    screen.line(f"{title}: {episode.status}", BOLD)
    played = [f"{episode.created:%Y-%m-%d}"] if episode.created else []
    judge = [f"judged by {short_name(episode.models[0])}"] if episode.models and not episode.env else []
    screen.line(", ".join([episode.pk, f"trial {episode.trial + 1}", *played, *judge]), DIM)
    if episode.failure:
        screen.block(f"Why there is no score: {episode.failure}", 0)
    screen.line()
    try:
        if episode.env:
            _show_walk(screen, walk_of(episode.messages), episode)
        else:
            _show_session(screen, session_of(episode.messages), episode)
    except ValueError:
        _show_messages(screen, episode)
    if episode.status == "scored":
        _show_scores(screen, episode)


def _show_session(screen: Screen, session: Session, episode: Episode) -> None:
    scenario = SCENARIO.search(session.backgrounds[0])
    if scenario:
        screen.line("Scenario", BOLD)
        screen.block(scenario[1])
        screen.line()
    for position in (0, 1):
        _show_character(screen, session, position, _player(episode, position))
        screen.line()
    for turn, action in enumerate(session.actions):
        screen.line(f"{turn + 1:3} {name(session.names[turn % 2])}{_marked(action)}", BOLD)
        if action.argument:
            screen.block(action.argument, 4)
    screen.line()


def _player(episode: Episode, position: int) -> str:
    """Return who plays a character, and whether that is who is measured."""
    model = short_name(episode.models[1 + position]) if len(episode.models) == 3 else "model unknown"
    is_target = not episode.is_self_chat and position == episode.position
    return f"{model}, measured" if is_target else model


def _show_character(screen: Screen, session: Session, position: int, player: str) -> None:
    """Print what an agent is told of itself, and which of it the other one is not."""
    own, other = session.names[position], session.names[1 - position]
    told = session.backgrounds[position]
    screen.line(f"{name(own)} ({name(player)})", BOLD)
    parts = {part: told_of(told, own, part, session.names) for part in ("background", "goal")}
    if not any(parts.values()):
        screen.block(told)
        return
    for part, text in parts.items():
        if text:
            seen = told_of(session.backgrounds[1 - position], own, part, session.names)
            hidden = "" if seen == text else f" ({'partly ' if seen not in ('', UNKNOWN) else ''}hidden from {other})"
            screen.block(f"{part.capitalize()}{hidden}: {text}")


def told_of(background: str, who: str, part: str, names: Sequence[str]) -> str:
    """Return what a background says of somebody's background or goal; empty where it has no such line."""
    _, label, rest = background.partition(f"\n{who}'s {part}:")
    if not label:
        return ""
    ends = [rest.find(f"\n{name}'s {other}:") for name in names for other in ("background", "goal")]
    return rest[: min((end for end in ends if end >= 0), default=len(rest))].strip()


def _marked(action: Action) -> str:
    """Return what to say behind a name, of an action other than speech."""
    if action.action_type == "speak":
        return ""
    words = {"leave": "leaves the conversation", "none": "does nothing"}
    return f" {words.get(action.action_type, f'[{action.action_type}]')}"


def _show_walk(screen: Screen, walk: Walk, episode: Episode) -> None:
    """Print a quest: what the agent is told first, then each action with what came of it."""
    player = short_name(episode.models[1]) if len(episode.models) == 3 else "model unknown"
    screen.line(f"{episode.env}: {name(episode.environment)}, played by {name(player)}", BOLD)
    screen.block(walk.told[0])
    screen.line()
    for turn, (action, observation) in enumerate(zip(walk.actions, walk.told[1:], strict=True)):
        screen.line(f"{turn + 1:3} {name(action)}", BOLD)
        screen.block(observation, 4)
    screen.line()


def _show_messages(screen: Screen, episode: Episode) -> None:
    """Print the messages of an episode in another form, as far as they say something new."""
    if not episode.messages:
        screen.line("(no text is stored)")
    for turn, messages in enumerate(episode.messages):
        for sender, receiver, text in messages:
            is_told = sender == ENVIRONMENT and turn == 0
            if is_told or (sender != ENVIRONMENT and text != NONE_TEXT):
                screen.line(f"{turn:3} {name(sender)} to {name(receiver)}", BOLD)
                screen.block(text, 4)
    screen.line()


def _show_scores(screen: Screen, episode: Episode) -> None:
    """Print every score with the judge's reason for it."""
    if episode.env:
        outcome = episode.outcome
        known = range_of(outcome.low, outcome.high)
        screen.line(f"{name(outcome.name)} {outcome.value:g}{f' ({known})' if known else ''}", BOLD)
        return
    try:
        names: Sequence[str] = session_of(episode.messages).names
    except ValueError:
        names = [f"agent {number}" for number in range(1, len(episode.agents) + 1)]
    reasons = reasons_in(episode.reasoning)
    for position, reward in enumerate(episode.rewards):
        if isinstance(reward, float):
            continue
        screen.line(f"Scores of {name(names[position])}", BOLD)
        given = reward[1]
        order = [one for one in SHOWN if one in given] + [one for one in given if one not in SHOWN]
        said = reasons[position] if position < len(reasons) else {}
        screen.grid((one.replace("_", " "), decimals(given[one]), "\n".join(said.get(one, []))) for one in order)
