"""Short names of runs: `anna-all-kqzx` for all trials of one, `anna-all-kqzx-2` for its second trial.

Comes in: tags, and what a user typed. Goes out: names, or the tags that are meant. A name is made of its tag alone
(the model, the task, and four letters of the tag's digest), so runs that are added change none. Invariant: what is
typed means one run, or is one line that says which it may be; a whole tag means itself.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.store.tag import task_in, trial_in, without_trial


LETTERS = "bcdfghjklmnpqrstvwxz"
"""Those of which no words are made."""
TAIL = 4
MOST_MODEL = 20
"""Characters of a model's name, or of what begins a tag of the user's own."""
PLAIN = re.compile(r"[\w.-]{1,32}")
FIRST_MODEL = re.compile(r"(?:benchmark|rollout_[a-z0-9]+)_((?:[a-z]+(?:_ai|_text|_chat)?/)*[^_@]+)")
"""The model under test at the beginning of a tag; where its name has an underscore, the part before that."""
TRIAL = re.compile(r"(.+)-([1-9]\d*)")
MOST_NEAR = 3
MOST_COMPARED = 500
"""Characters of a tag that names are compared with; the comparison takes the square of the length."""


def name_of_run(tag: str) -> str:
    """Return the short name of a tag's run, which its trials have in common; a plain tag of the user's own is one."""
    run = without_trial(tag)
    if PLAIN.fullmatch(run):
        return run
    found = FIRST_MODEL.match(run)
    words = [short_name(found[1]), task_in(tag)] if found else [run]
    shown = [re.sub(r"[^\w.]+", "-", word)[:MOST_MODEL].strip("-") for word in words]
    return "-".join([*filter(None, shown), _letters(run)])


def tags_by_run(tags: Iterable[str]) -> dict[str, list[str]]:
    """Return the tags of every run, in the order of their trials, by its short name, or its tag if two have one."""
    runs: dict[str, list[str]] = {}
    for tag in sorted(tags, key=lambda tag: (without_trial(tag), trial_in(tag))):
        runs.setdefault(without_trial(tag), []).append(tag)
    names = [name_of_run(run[0]) for run in runs.values()]
    return {run[0] if names.count(name) > 1 else name: run for name, run in zip(names, runs.values(), strict=True)}


def find_run(typed: str, tags: Collection[str], is_exact: bool = False) -> list[str]:
    """Return the tags that are meant, nothing where there are none.

    Args:
        typed: a tag, a short name, the beginning of one up to a hyphen, or one of these with `-` and the number of a
            trial from 1.
        tags: of the store.
        is_exact: take no beginning.

    Raises:
        UserError: if it is the beginning of several.
    """
    if typed in tags:
        return [typed]
    runs = tags_by_run(tags)
    if found := _named(typed, runs):
        return found
    if is_exact:
        return []
    begun = [name for name in runs if name.startswith(f"{typed}-")]
    number = None
    if not begun and (parts := TRIAL.fullmatch(typed)):
        begun, number = [name for name in runs if name.startswith(f"{parts[1]}-")], int(parts[2]) - 1
    found = [tag for name in begun for tag in runs[name] if number in (None, trial_in(tag))]
    if len(begun) > 1 and found:
        listed = ", ".join(begun[:MOST_NEAR]) + (" …" if len(begun) > MOST_NEAR else "")
        raise UserError(f"'{typed}' is the beginning of {len(begun)} runs: {listed}; type one of these")
    return found


def tags_meant(typed: Iterable[str], tags: Collection[str], url: str, is_exact: bool = False) -> list[str]:
    """Return the tags of all runs that were typed, each once.

    Raises:
        UserError: if a name fits none, or several; with the nearest ones.
    """
    found = []
    for name in typed:
        meant = find_run(name, tags, is_exact)
        if not meant:
            raise UserError(f"{url}: no episode has the tag '{name}'; {_nearest(name, tags)}")
        found += meant
    return list(dict.fromkeys(found))


def _named(typed: str, runs: dict[str, list[str]]) -> list[str]:
    """Return the tags of a whole name, perhaps with the number of a trial."""
    if typed in runs:
        return runs[typed]
    parts = TRIAL.fullmatch(typed)
    return [tag for tag in runs.get(parts[1], []) if trial_in(tag) == int(parts[2]) - 1] if parts else []


def _nearest(typed: str, tags: Collection[str]) -> str:
    known = [*tags_by_run(tags), *(tag for tag in tags if len(tag) <= MOST_COMPARED)]
    near = get_close_matches(typed[:MOST_COMPARED], known, MOST_NEAR, 0.5)
    if not near:
        return "`sotopia runs` lists them"
    others = f" Also near: {', '.join(near[1:])}" if near[1:] else ""
    return f"did you mean '{near[0]}'?{others}"


def _letters(run: str) -> str:
    """Return letters of a digest: of 160,000 that there are, two runs of a model and task hardly have the same."""
    number = int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big")
    return "".join(LETTERS[number // len(LETTERS) ** place % len(LETTERS)] for place in range(TAIL))
