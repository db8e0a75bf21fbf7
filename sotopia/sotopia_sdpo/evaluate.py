"""`sotopia evaluate`: have stored sessions judged by an evaluator, and show the results.

Comes in: tags. Goes out: with another evaluator than the episodes', copies under a tag of their own, the originals
as they were; with the same one, the episodes that have no scores yet get them.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sotopia_sdpo.account import exit_code_of
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.panel import Evaluator, Rule, judges_of, parse_evaluator
from sotopia_sdpo.judge.rejudge import Rescore, check_players, rescores
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.results.calibration import calibration_table
from sotopia_sdpo.results.people import People
from sotopia_sdpo.results.scores import results_of, scores_of
from sotopia_sdpo.results.tables import panel_table, results_table, simulation_note
from sotopia_sdpo.run.execute import probe, rescore_all
from sotopia_sdpo.run.runner import Counts
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.run_names import tags_meant
from sotopia_sdpo.world.cast import hard_subset
from sotopia_sdpo.world.combos import load_splits


def evaluate(
    tags: Sequence[str],
    evaluator: str,
    db: str | None,
    data_dir: Path | None,
    output_tag: str,
    limits: Limits,
    rule: Rule = "mean",
    repeats: int = 1,
    calibrate: Path | None = None,
) -> int:
    """Judge what is not judged yet, and show the results."""
    model = parse_evaluator(evaluator, rule, repeats)
    people = People([calibrate]) if calibrate else None
    with open_store(database_url(db, data_dir), create=False) as store:
        items = _items(store, tags, model, output_tag)
        targets = list(dict.fromkeys(item.key.tag for item in items))
        found = store.find_keys([item.key for item in items])
        check_players(items, found)
        _check_sessions(store, items, found)
        done = {key for key, head in found.items() if head.status == "scored"}
        left = [item for item in items if item.key not in done]
        print(f"{len(items)} sessions, {len(done)} judged before by {model.name}", file=sys.stderr)
        counts = Counts(0)
        if left:
            store.check_keeps()
            probe(set(judges_of(model)), limits)
            counts = rescore_all(store, left, limits, done)
        if counts.elsewhere and not counts.stopped_because:
            # Who began at the same time may be another judge.
            check_players(items, store.find_keys([item.key for item in items]))
        hard = hard_subset(load_splits())
        for tag in [] if counts.stopped_because else targets:
            if scores := scores_of(store, [tag]):
                print("\n".join([results_table(tag, results_of(scores, hard)), *panel_table(scores)]))
                if people:
                    print(calibration_table(store, [tag], people))
                print("".join(f"{line}\n" for line in simulation_note(scores)), end="")
    return exit_code_of(counts.missed(len(done)))


def _check_sessions(store: Store, items: Sequence[Rescore], found: Mapping[EpisodeKey, EpisodeHead]) -> None:
    """Check that what is stored already under the keys of some work are the same sessions, not those of another run.

    Raises:
        UserError: the first one that is another.
    """
    for item in items:
        if item.key not in found or found[item.key].pk == item.source:
            continue
        source, there = store.get_episode(item.source), store.get_episode(found[item.key].pk)
        if source and there and source.messages != there.messages:
            raise UserError(
                f"tag {item.key.tag}: its session {there.pk} is another one than {source.pk} of tag {source.tag}, on"
                " the same scenario with the same characters, role and trial; give another --output-tag"
            )


def _items(store: Store, tags: Sequence[str], model: Evaluator, output_tag: str) -> list[Rescore]:
    """Return the sessions of these tags as work.

    Raises:
        UserError: if a tag has none.
    """
    tags = tags_meant(tags, store.counts().episodes, store.url)
    heads = [head for head in store.heads(list(tags)) if head.status != "failed"]
    for tag in tags:
        if not any(head.key.tag == tag for head in heads):
            raise UserError(f"{store.url}: no session with tag {tag}; `sotopia runs` shows which there are")
    if quest := next((head for head in heads if len(head.agents) == 1), None):
        raise UserError(f"tag {quest.key.tag}: its episodes are of an environment, which has scored them itself")
    return rescores(heads, model, output_tag)
