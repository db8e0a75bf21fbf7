"""Recheck the files that hold pairs: whole ones against the trials, cut ones against the whole ones.

Comes in: a book of step files and episodes. Goes out: what is violated and counted, into the book's report.
"""

from recheck_book import CUT, PAIRS, POSITIVES, Book, pair_id, side_key
from rederive import Record, Side, task_of, who


def trials(book: Book, negative: Record, task: str) -> list[Side]:
    """Find the sides that were played to do better than a negative."""
    wanted = (negative["episode"], negative["agent_position"], negative.get("location"))
    return [
        side
        for side in book.sides.values()
        if task_of(side.episode) == task
        and (side.episode["source_episode"], side.position, side.episode["location"]) == wanted
        and side.position == side.episode["agent_position"]
        and (side.episode["environment"], side.episode["agents"]) == (negative["env"], negative["agents"])
    ]


def is_usable(book: Book, negative: Record, trial: Side) -> bool:
    """Return whether the first difference is an agent's turn that both have, not before the located one."""
    index = book.sides[side_key(negative)].difference(trial)
    if index is None or index < negative.get("location", 0):
        return False
    return who(index) == "gpt" or ("location" not in negative and book.rules.eto_any_difference)


def best_of(book: Book, negative: Record, task: str) -> tuple[float, float] | None:
    """Return the best scores among the usable trials, where they are better than the negative's."""
    if side_key(negative) not in book.sides:
        return None
    scores = [trial.scores for trial in trials(book, negative, task) if is_usable(book, negative, trial)]
    # Tuples compare as the rule does: the goal is higher, or it is equal and the relationship is higher.
    return max(scores) if scores and max(scores) > book.sides[side_key(negative)].scores else None


def pairs(book: Book, name: str, source: str, task: str) -> None:
    """Check preference_data.json or eto_data.json: right sides, right gains, the best trial, every pair once."""
    records, negatives = book.files[name], {pair_id(record): record for record in book.files[source]}
    if len(records) % 2:
        book.say(name, f"{len(records)} records are no whole pairs")
    for index, (negative, positive) in enumerate(zip(records[::2], records[1::2], strict=False)):
        pair(book, f"{name} pair {index}", negative, positive)
        where, origin = f"{name} pair {index}", negatives.get(pair_id(negative))
        if origin is None:
            book.say(where, f"its negative {pair_id(negative)} is none of {source}")
            continue
        from_origin(book, where, negative, positive, origin)
        choice(book, where, positive, origin, task)
    ids = [pair_id(record) for record in records[::2]]
    book.each_once(name, ids)
    owed = {key for key, negative in negatives.items() if best_of(book, negative, task)}
    for key in sorted(owed - set(ids)):
        book.say(name, f"lacks the pair {key}")
    book.report.counts[name] = f"{len(ids)} pairs of {len(owed)} owed by {len(negatives)} negatives"


def pair(book: Book, where: str, negative: Record, positive: Record) -> None:
    """Check what the two records of a pair say of themselves."""
    book.expect(where, "side", (negative["side"], positive["side"]), ("negative", "positive"))
    book.expect(where, "pair", (negative["pair"], positive["pair"]), (pair_id(negative),) * 2)
    for name in ("goal", "relationship"):
        gain = positive[name] - negative[name]
        book.expect(where, f"{name}_gain", [r[f"{name}_gain"] for r in (negative, positive)], [gain, gain])


def from_origin(book: Book, where: str, negative: Record, positive: Record, origin: Record) -> None:
    """Check what a pair takes from the negative of the step before."""
    book.side_of(f"{where} negative", negative)
    book.side_of(f"{where} positive", positive)
    book.expect(where, "negative's conversations", negative["conversations"], origin["conversations"])
    if "location" in origin:
        for record in (negative, positive):
            facts = (record["location"], record["location_reason"])
            book.expect(where, "location, location_reason", facts, (origin["location"], origin["reason"]))
        history = [record["conversations"][: origin["location"]] for record in (negative, positive)]
        if history[0] != history[1]:
            book.say(where, "the sides differ before the located turn")


def choice(book: Book, where: str, positive: Record, origin: Record, task: str) -> None:
    """Check that the positive is the best usable trial of its negative, and better."""
    candidates = {trial.key: trial for trial in trials(book, origin, task)}
    trial, best = candidates.get(side_key(positive)), best_of(book, origin, task)
    if trial is None:
        book.say(where, f"{side_key(positive)} is none of the {len(candidates)} {task} trials of its negative")
    elif not is_usable(book, origin, trial):
        book.say(where, "the first difference is no agent's turn that both have")
    elif best is None:
        book.say(where, f"goal, relationship {trial.scores} are not better than the negative's")
    else:
        book.expect(where, "goal, relationship of the chosen trial", trial.scores, best)


def positives(book: Book) -> None:
    """Check positive_data.json: the positives of the pairs."""
    records, wanted = book.files[POSITIVES], book.files[PAIRS][1::2]
    if records != wanted:
        differ = [i for i, (a, b) in enumerate(zip(records, wanted, strict=False)) if a != b]
        book.say(POSITIVES, f"{len(records)} records for {len(wanted)} positives of {PAIRS}, other ones: {differ}")
    book.report.counts[POSITIVES] = f"{len(records)} of {len(wanted)} positives"


def cut(book: Book) -> None:
    """Check preference_data_auto.json: pairs of preference_data.json, in order, each cut at its segment's end."""
    records, whole = book.files[CUT], book.files[PAIRS]
    pairs = {two[0]["pair"]: two for two in zip(whole[::2], whole[1::2], strict=False)}
    if len(records) % 2:
        book.say(CUT, f"{len(records)} records are no whole pairs")
    for index, sides in enumerate(zip(records[::2], records[1::2], strict=False)):
        if sides[0]["pair"] in pairs:
            segment(book, f"{CUT} pair {index}", sides, pairs[sides[0]["pair"]])
        else:
            book.say(f"{CUT} pair {index}", f"{sides[0]['pair']} is none of {PAIRS}")
    ids = [record["pair"] for record in records[::2]]
    book.each_once(CUT, ids)
    if ids != [pair for pair in pairs if pair in ids]:
        book.say(CUT, f"its pairs are not in the order of {PAIRS}")
    book.report.counts[CUT] = f"{len(ids)} pairs, {len(pairs) - len(ids)} of {len(pairs)} dropped"


def segment(book: Book, where: str, sides: tuple[Record, Record], whole: tuple[Record, Record]) -> None:
    """Check a pair's segment and that both sides are the whole ones up to its end."""
    added = ("conversations", "segment", "reason")
    for side, uncut in zip(sides, whole, strict=True):
        rest = [{k: v for k, v in record.items() if k not in added} for record in (side, uncut)]
        book.expect(where, f"what the {uncut['side']} tells beside its segment", *rest)
    book.expect(where, "segment, reason of the positive", *[(s["segment"], s["reason"]) for s in reversed(sides)])
    book.reason(where, sides[0]["reason"])
    start, end = sides[0]["segment"]
    turns = [uncut["conversations"] for uncut in whole]
    first = next((i for i, (a, b) in enumerate(zip(*turns, strict=False)) if a != b), None)
    book.expect(where, "segment's start, the first difference,", start, first)
    if end <= start or (end - start) % 2 == 0:
        book.say(where, f"segment {[start, end]} has no odd length")
    for side, uncut in zip(sides, turns, strict=True):
        book.gpt_turn(where, "segment's last turn", end - 1, uncut)
        if side["conversations"] != uncut[:end]:
            book.say(where, f"{side['side']} is not its whole dialogue up to turn {end}")
