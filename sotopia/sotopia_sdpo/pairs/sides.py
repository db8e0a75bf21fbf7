"""Turn episodes into the dialogues of their agents, with the scores of that side.

Comes in: the runs that are meant. Goes out: one record a side, in the order of the episodes' keys, and a count of
every episode and side that cannot be used, by reason.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.pairs.draw import draw
from sotopia_sdpo.pairs.records import PLAYED, PlayedSide, Position, check_dialogue
from sotopia_sdpo.pairs.runs import StoredRun
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.dialogue import Template, session_of, sharegpt_of
from sotopia_sdpo.play.sources import target_positions
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode


class EpisodeSide(NamedTuple):
    """The record of one agent's side, with the episode it was made from."""

    episode: Episode
    record: PlayedSide


def sides_of(
    store: Store, runs: Sequence[StoredRun], template: Template, tally: Tally, both: bool = False
) -> Iterator[EpisodeSide]:
    """Render the sides of all scored episodes of some runs.

    Args:
        store: the episodes.
        runs: the runs that are meant.
        template: the wording that the agent was prompted with.
        tally: counts what is left out.
        both: take both sides, whoever played them; otherwise the target's, which are both in self-chat.

    Raises:
        UserError: if episodes were sampled with another template than this one.
    """
    for run in runs:
        for episode in store.episodes(run.tag):
            positions: tuple[Position, ...] = (0, 1) if both else target_positions(episode)
            if episode.status != "scored":
                tally.drop(f"{episode.status} episode", len(positions))
                continue
            _check_template(episode, template)
            if "prompt_template" not in episode.settings:
                tally.note(f"episodes do not say how they were prompted; they are rendered with {template}")
            for position in positions:
                try:
                    yield EpisodeSide(episode, record_of(episode, position, template))
                except ValueError as err:
                    tally.drop(f"unusable: {err}")


def _check_template(episode: Episode, template: Template) -> None:
    sampled, given = episode.settings.get("prompt_template"), template.fingerprint
    if sampled not in (None, given):
        raise UserError(
            f"tag {episode.tag}: its episodes were sampled with prompt template {sampled}, found {given}; "
            "pass theirs with --prompt-template, since agents are trained on what they are prompted with"
        )


def record_of(episode: Episode, position: Position, template: Template) -> PlayedSide:
    """Render one side of a scored episode.

    Raises:
        ValueError: if the episode has no scores, is no session of two agents who take turns, the agent says nothing,
            or a score is missing.
    """
    if episode.status != "scored":
        raise ValueError(f"{episode.status} episode")
    if len(episode.agents) != 2:
        raise ValueError("not two agents")
    dialogue = sharegpt_of(session_of(episode.messages), position, template)
    if len(dialogue) < 2:
        raise ValueError("the agent never has its turn")
    agent, partner = episode.players_from(position) or (None, None)
    return PlayedSide(
        conversations=check_dialogue(dialogue, PLAYED),
        episode=episode.pk,
        env=episode.environment,
        agents=(episode.agents[0], episode.agents[1]),
        agent_position=position,
        goal=_score(episode, position, "goal"),
        relationship=_score(episode, position, "relationship"),
        agent_model=agent,
        partner_model=partner,
    )


def _score(episode: Episode, position: int, dimension: str) -> float:
    """Read a score; whole ones without a fraction, as the evaluator gave them."""
    reward = episode.rewards[position]
    score = None if isinstance(reward, float) else reward[1].get(dimension)
    if score is None:
        raise ValueError(f"no score of {dimension}")
    return int(score) if score == int(score) else score


def lot_of(side: EpisodeSide) -> str:
    """Return by what a side is drawn: what was played, and by whom; not its name, which holds that of the run."""
    episode = side.episode
    players = map(without_address, episode.models)
    return "/".join(map(str, [episode.key.combo, episode.trial, side.record.agent_position, *players]))


def sample_of(sides: Sequence[EpisodeSide], limit: int | None, seed: int, tally: Tally) -> list[PlayedSide]:
    """Draw the records of at most `limit` sides; count these as kept and the others as dropped."""
    drawn = draw(sides, limit, seed, lot_of)
    tally.drop("over --limit", len(sides) - len(drawn))
    tally.keep(len(drawn))
    return [side.record for side in drawn]
