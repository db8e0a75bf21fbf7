"""Recheck the files that hold single dialogues: the negatives, their combos, their located turns, and the SFT data.

Comes in: a book of step files and episodes. Goes out: what is violated and counted, into the book's report.
"""

import json
from collections import Counter, defaultdict

from recheck_book import COMBOS, LOCATED, NEGATIVES, SFT, Book, side_key
from rederive import Record, Side, parsed, run_of, targets_of, task_of


def is_negative(book: Book, side: Side) -> bool:
    """Apply the thresholds; a side without a turn of its own has no dialogue."""
    goal, relationship = side.scores
    bound = book.rules.max_relationship
    return bool(side.turns) and (goal <= book.rules.max_goal or (bound is not None and relationship <= bound))


def negatives(book: Book) -> None:
    """Check negative_data.json: each qualifies, none over the cap, none missing under it."""
    records = book.files[NEGATIVES]
    taken: Counter[tuple[str, int, str]] = Counter()
    for index, record in enumerate(records):
        where = f"{NEGATIVES} record {index}"
        if not (side := book.side_of(where, record)):
            continue
        if task_of(side.episode) != "neg" and not book.rules.runs:
            book.say(where, f"is of task {task_of(side.episode)}")
        if side.position not in targets_of(side.episode):
            book.say(where, "is the partner's side, which is another model's")
        if not is_negative(book, side):
            book.say(where, f"goal, relationship {side.scores} do not qualify")
        taken[side.episode["environment"], side.position, run_of(side.episode)] += 1
    book.each_once(NEGATIVES, [side_key(record) for record in records])
    negs = [side for side in book.sides.values() if task_of(side.episode) == "neg"]
    all_runs = {run_of(side.episode) for side in negs}
    runs = {run for _, _, run in taken} if taken and not book.rules.runs else all_runs
    qualify = Counter(
        (side.episode["environment"], side.position, run_of(side.episode))
        for side in book.sides.values()
        if run_of(side.episode) in runs and side.position in targets_of(side.episode) and is_negative(book, side)
    )
    for group in sorted(qualify | taken):
        expected = min(qualify[group], book.rules.cap)
        book.expect(f"{NEGATIVES} (scenario, role, run) {group}", "number of records", taken[group], expected)
    skipped = f", {len(all_runs - runs)} other neg runs not looked at" * bool(all_runs - runs)
    counted = f"{len(records)} of {qualify.total()} sides that qualify in {len(runs)} runs{skipped}"
    book.report.counts[NEGATIVES] = counted


def combos(book: Book) -> None:
    """Check negative_combos.json: one to one with the negatives."""
    names = ("env", "agents", "agent_position", "episode")
    renamed = {"env": "env_id", "agents": "agent_ids"}
    wanted = [{renamed.get(name, name): record[name] for name in names} for record in book.files[NEGATIVES]]
    texts = [Counter(json.dumps(r, sort_keys=True) for r in rows) for rows in (wanted, book.files[COMBOS])]
    for text in texts[0] - texts[1]:
        book.say(COMBOS, f"lacks {text}")
    for text in texts[1] - texts[0]:
        book.say(COMBOS, f"has {text}, which is of no record of {NEGATIVES}")
    book.report.counts[COMBOS] = f"{len(book.files[COMBOS])} for {len(wanted)} negatives"


def located(book: Book) -> None:
    """Check negative_data_error.json: records of negative_data.json, each with an agent's turn and a reason."""
    negatives = {side_key(record): record for record in book.files[NEGATIVES]}
    records = book.files[LOCATED]
    for index, record in enumerate(records):
        where = f"{LOCATED} record {index}"
        book.side_of(where, record)
        rest = {name: value for name, value in record.items() if name not in ("location", "reason")}
        if rest != negatives.get(side_key(record)):
            book.say(where, f"is not the record of {NEGATIVES} of its episode and role")
        book.gpt_turn(where, "location", record["location"], record["conversations"])
        book.reason(where, record["reason"])
    book.each_once(LOCATED, [side_key(record) for record in records])
    book.report.counts[LOCATED] = f"{len(records)} of {len(negatives)} negatives"


def sft(book: Book) -> None:
    """Check sft_data.json: one dialogue for each side of each scored sft episode."""
    least = book.rules.sft_min_goal
    sides = [side for side in book.sides.values() if task_of(side.episode) == "sft" and side.turns]
    left = defaultdict(list)
    for side in sides:
        if least is None or side.scores[0] >= least:
            left[json.dumps(side.turns)].append(side)
    for index, record in enumerate(book.files[SFT]):
        turns = record["conversations"]
        same = left[json.dumps([parsed(turn["value"]) for turn in turns[1:]])]
        found = next((side for side in same if not side.faults(turns) and tells(record, side)), None)
        book.compared += 1
        if found:
            same.remove(found)
        else:
            book.say(f"{SFT} record {index}", "is the dialogue of no side of an sft episode, or of one once more")
    for side in sum(left.values(), []):
        if least is None or side.scores[0] > least:
            book.say(SFT, f"lacks the side {side.key}")
    book.report.counts[SFT] = f"{len(book.files[SFT])} of {len(sides)} sides"


def tells(record: Record, side: Side) -> bool:
    """Return whether what a record says of its origin, where it does, is right."""
    said = (record.get("episode", side.key[0]), record.get("agent_position", side.key[1]))
    scores = (record.get("goal", side.scores[0]), record.get("relationship", side.scores[1]))
    return said == side.key and scores == side.scores
