"""The grammar of tags: `benchmark_{model}_{partner}_{evaluator}_{task}_trial{n}`, as in published databases.

Names of models may hold underscores, so a tag cannot be split into its fields. Each function here reads or replaces
the one field that can be told; a tag of another form (`--tag`) has no task and trial 0.
"""

import re


TRIAL = re.compile(r"_trial(\d+)$")
TASK = re.compile(r"_([a-z]+)_trial\d+$")


def tag_of(model: str, partner: str, evaluator: str, task: str, trial: int) -> str:
    """Return the tag of a run; models by the name that ModelSpec.name gives."""
    return f"{_players(model, partner)}{evaluator}_{task}_trial{trial}"


def trial_in(tag: str) -> int:
    """Return the trial, 0 where the tag has none."""
    found = TRIAL.search(tag)
    return int(found[1]) if found else 0


def without_trial(tag: str) -> str:
    """Return what the trials of a run have in common."""
    return TRIAL.sub("", tag)


def task_in(tag: str) -> str:
    """Return the word where the task stands, '' where the tag has none."""
    found = TASK.search(tag)
    return found[1] if found else ""


def is_of_players(tag: str, model: str, partner: str) -> bool:
    """Return whether the tag names these two, the model under test first."""
    return tag.startswith(_players(model, partner))


def with_evaluator(tag: str, evaluator: str, new: str) -> str:
    """Return the tag with another evaluator in the place of this one; at its end where it does not name this one."""
    start, found, end = tag.rpartition(f"_{evaluator}_")
    return f"{start}_{new}_{end}" if evaluator and found else f"{tag}_by_{new}"


def _players(model: str, partner: str) -> str:
    return f"benchmark_{model}_{partner}_"
