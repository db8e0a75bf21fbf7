"""Judge stored sessions: those without scores, or all of them by another evaluator.

Comes in: an episode and an evaluator. Goes out: the episode with its scores, or with what the evaluator's answers
lacked; under another evaluator a copy with a tag of its own, the original as it was.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo.judge.verdict import Verdict, evaluate
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.redact import reason_of
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.play.dialogue import session_of
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.tag import with_evaluator


class Rescore(NamedTuple):
    """A stored session that is to be judged."""

    key: EpisodeKey
    evaluator: ModelSpec
    source: str
    """The pk of the episode whose session it is."""

    def with_stored(self, _: EpisodeHead | None) -> "Rescore":
        """Return it as it is: whatever is stored under the key, the source stays."""
        return self


async def rejudge(client: LLMClient, evaluator: ModelSpec, stored: Episode) -> tuple[Episode, bool]:
    """Judge a stored session; its text and what it took to sample stay as they are.

    Returns:
        The episode, and whether the evaluator's server was not there.
    """
    meter = Meter()
    try:
        verdict = await evaluate(client, evaluator, session_of(stored.messages), meter)
    except ValueError as err:
        verdict = Verdict(failure=f"cannot be judged: {reason_of(err)}")
    models = [evaluator.name, *stored.models[1:]] if len(stored.models) > 1 else stored.models
    changes = {**verdict.fields(), "models": models, "usage": {**stored.usage, **meter.record()}}
    return stored.model_copy(update=changes), verdict.is_unreachable


def rescores(heads: Sequence[EpisodeHead], evaluator: ModelSpec, output_tag: str) -> list[Rescore]:
    """Return the work of judging these sessions: in place where it is their own evaluator and no tag is given."""
    items = []
    for head in heads:
        is_same = bool(head.models) and head.models[0] == evaluator.name and not output_tag
        tag = head.key.tag if is_same else output_tag or new_tag(head, evaluator.name)
        items.append(Rescore(head.key._replace(tag=tag), evaluator, head.pk))
    return items


def new_tag(head: EpisodeHead, evaluator: str) -> str:
    """Return the tag of an episode's new scores: with the evaluator in its place in the old one, if it has one."""
    return with_evaluator(head.key.tag, head.models[0] if head.models else "", evaluator)
