"""`sotopia evaluate`: have stored sessions judged by an evaluator.

Comes in: tags. Goes out: with another evaluator than the episodes', copies under a tag of their own, the originals
as they were; with the same one, the episodes that have no scores yet get them.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sotopia_sdpo.errors import EXIT_DONE, EXIT_INCOMPLETE, UserError
from sotopia_sdpo.llm.spec import ModelSpec, parse_model
from sotopia_sdpo.results.scores import results_of, scores_of
from sotopia_sdpo.results.tables import results_table, simulation_note
from sotopia_sdpo.run.runner import Outcome
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import EpisodeHead
from sotopia_sdpo.store.tag import with_evaluator
from sotopia_sdpo.world.cast import hard_subset
from sotopia_sdpo.world.combos import load_splits


if TYPE_CHECKING:
    from sotopia_sdpo.run.execute import Rescore


def new_tag(head: EpisodeHead, evaluator: str) -> str:
    """Name the run that holds an episode's new scores: the evaluator's place in the tag, where it has one."""
    return with_evaluator(head.key.tag, head.models[0] if head.models else "", evaluator)


def rescore(
    tags: Sequence[str], evaluator: str, db: str | None, data_dir: Path | None, output_tag: str, batch_size: int
) -> int:
    """Judge what is not judged yet, and show the results."""
    from sotopia_sdpo.run.execute import Limits, probe, rescore_all

    model = parse_model(evaluator)
    with open_store(database_url(db, data_dir), create=False) as store:
        items, targets, done = _items(store, tags, model, output_tag)
        print(f"{len(items) + done} sessions, {done} judged before by {model.name}", file=sys.stderr)
        outcome = Outcome(0)
        if items:
            asyncio.run(probe([model], Limits(batch_size)))
            outcome = asyncio.run(rescore_all(store, items, Limits(batch_size)))
        hard = hard_subset(load_splits())
        for tag in [] if outcome.is_stopped else targets:
            if scores := scores_of(store, [tag]):
                print("\n".join([results_table(tag, results_of(scores, hard)), *simulation_note(scores)]))
    return EXIT_DONE if outcome.is_complete else EXIT_INCOMPLETE


def _items(
    store: Store, tags: Sequence[str], model: ModelSpec, output_tag: str
) -> "tuple[list[Rescore], list[str], int]":
    """Find what is to be judged, under which tags the scores go, and how many are there already."""
    from sotopia_sdpo.run.execute import Rescore

    heads = [head for head in store.heads(list(tags)) if head.status != "failed"]
    for tag in tags:
        if not any(head.key.tag == tag for head in heads):
            raise UserError(f"{store.url}: no session with tag {tag}; `sotopia db info` shows which there are")
    items = []
    for head in heads:
        is_same = bool(head.models) and head.models[0] == model.name and not output_tag
        target = head.key.tag if is_same else output_tag or new_tag(head, model.name)
        items.append(Rescore(head.key._replace(tag=target), model, head.pk))
    found = store.find_keys([item.key for item in items])
    left = [item for item in items if item.key not in found or found[item.key].status != "scored"]
    return left, list(dict.fromkeys(item.key.tag for item in items)), len(items) - len(left)
