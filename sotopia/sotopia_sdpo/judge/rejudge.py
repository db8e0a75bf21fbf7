"""Judge stored sessions: those without scores, or all of them by another evaluator.

Comes in: an episode and an evaluator. Goes out: the episode with its scores, or with what the evaluator's answers
lacked; under another evaluator a copy with a tag of its own, the original as it was.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.panel import PANEL, Evaluator, judge
from sotopia_sdpo.judge.verdict import Verdict
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.redact import reason_of
from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.play.dialogue import session_of
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.tag import with_evaluator


class Rescore(NamedTuple):
    """A stored session that is to be judged."""

    key: EpisodeKey
    evaluator: Evaluator
    source: str
    """The pk of the episode whose session it is."""
    players: tuple[str, ...] = ()
    """The models that play in it; empty where unknown."""

    def with_stored(self, _: EpisodeHead | None) -> "Rescore":
        """Return it as it is: whatever is stored under the key, the source stays."""
        return self


async def rejudge(client: LLMClient, evaluator: Evaluator, stored: Episode) -> tuple[Episode, bool]:
    """Judge a stored session; its text and what it took to sample stay as they are.

    Returns:
        The episode, and whether the evaluator's server was not there.
    """
    meter = Meter()
    record: dict[str, Any] = {}
    try:
        verdict, record = await judge(client, evaluator, session_of(stored.messages), meter)
    except ValueError as err:
        verdict = Verdict(failure=f"cannot be judged: {reason_of(err)}")
    models = [evaluator.name, *stored.models[1:]] if len(stored.models) > 1 else stored.models
    settings = {name: value for name, value in stored.settings.items() if name != PANEL} | record
    usage = {**stored.usage, **meter.record()}
    changes = {**verdict.fields(), "models": models, "settings": settings, "usage": usage}
    return stored.model_copy(update=changes), verdict.is_unreachable


def under(key: EpisodeKey, source: Episode) -> Episode:
    """Return a copy of an episode that has this key, whose tag is another."""
    return source.model_copy(update={"pk": key.pk, "tag": key.tag})


def rescores(heads: Sequence[EpisodeHead], evaluator: Evaluator, output_tag: str) -> list[Rescore]:
    """Return the work of judging these sessions: in place where it is their own evaluator and no tag is given.

    Raises:
        UserError: if two of different runs would be stored as one.
    """
    items: dict[EpisodeKey, Rescore] = {}
    first: dict[EpisodeKey, EpisodeHead] = {}
    for head in heads:
        is_same = bool(head.models) and head.models[0] == evaluator.name and not output_tag
        tag = head.key.tag if is_same else output_tag or new_tag(head, evaluator.name)
        item = Rescore(head.key._replace(tag=tag), evaluator, head.pk, head.models[1:])
        if (other := first.setdefault(item.key, head)).key.tag != head.key.tag:
            raise UserError(
                f"tag {tag}: the sessions {other.pk} and {head.pk} of different runs are of one scenario, with the "
                "same characters, role and trial, and would be stored as one; judge one run at a time"
            )
        # Published databases have some sessions twice; what is stored as one is judged once.
        items.setdefault(item.key, item)
    return list(items.values())


def check_players(items: Sequence[Rescore], found: Mapping[EpisodeKey, EpisodeHead]) -> None:
    """Check that what is stored already under the keys of some work is not by other models, nor judged by others.

    Raises:
        UserError: the first one that is.
    """
    for item in items:
        there = found[item.key].models if item.key in found else ()
        judge, *stored = there or (item.evaluator.name, *item.players)
        if without_address(judge) != without_address(item.evaluator.name):
            raise UserError(
                f"tag {item.key.tag}: its episodes are judged by {judge}, not by {item.evaluator.name}; give another"
                " --output-tag"
            )
        if [*map(without_address, stored)] != [*map(without_address, item.players)]:
            raise UserError(
                f"tag {item.key.tag}: its episodes are by {', '.join(stored) or 'unknown models'}, those that are to"
                f" be judged by {', '.join(item.players) or 'unknown models'}; give another --output-tag"
            )


def new_tag(head: EpisodeHead, evaluator: str) -> str:
    """Return the tag of an episode's new scores: with the evaluator in its place in the old one, if it has one."""
    return with_evaluator(head.key.tag, head.models[0] if head.models else "", evaluator)
