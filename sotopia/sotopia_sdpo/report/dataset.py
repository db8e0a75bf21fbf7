"""Write pairs as a folder that `datasets.load_dataset` and the Hugging Face hub take, with a card.

Comes in: pairs as `shown_pairs` reads them, and the records of their file. Goes out: pairs.jsonl, a record a line with
the same fields in every one, and README.md, whose figures are counted over the records. Invariant: the records say
what those of the file say, so training reads the folder as it reads the file.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.report.reading import ShownPair
from sotopia_sdpo.results.stats import decimals
from sotopia_sdpo.text import one_line
from sotopia_sdpo.whole_files import whole_files


CARD, ROWS = "README.md", "pairs.jsonl"
WHOLE = ("trial", "location", "agent_position", "segment")
"""Fields whose numbers are whole; others may have fractions in a later record, and a column has one type."""
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
"""The hub's words for how many rows there are."""
MOST_LISTED = 8


def write_folder(folder: Path, records: Sequence[dict[str, Any]], pairs: Sequence[ShownPair], source: str) -> None:
    """Write the folder; what else is in it stays.

    Args:
        folder: made if it is not there.
        records: of the file, a negative and its positive next to each other.
        pairs: the same, read.
        source: the name of the file.

    Raises:
        UserError: if it cannot be written.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    rows = ({name: _one_type(name, record.get(name)) for name in names} for record in records)
    texts = {
        ROWS: "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows),
        CARD: card_of(pairs, source, names),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files() as draft:
            for name, text in texts.items():
                with draft(folder / name) as file:
                    file.write(text)
    except OSError as err:
        raise UserError(f"{folder}: cannot be written ({err.strerror or err}); give another --dataset-folder") from err


def _one_type(name: str, value: Any) -> Any:
    """Return a value with fractional numbers for whole ones, where others of its column may have fractions."""
    if isinstance(value, dict):
        return {key: _one_type(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_one_type(name, item) for item in value]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number and name not in WHOLE else value


def card_of(pairs: Sequence[ShownPair], source: str, fields: Sequence[str]) -> str:
    """Write the card: how to load it, what is in it, where it comes from, and what can be counted."""
    rows = 2 * len(pairs)
    size = next((word for most, word in SIZES if rows < most), "n>1M")
    head = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {ROWS}",
        "tags:",
        "- preference",
        "- dpo",
        "- sdpo",
        "size_categories:",
        f"- {size}",
        "---",
    ]
    body = [
        f"# Preference pairs: {_code(source)}",
        f"{len(pairs):,} pairs of dialogues for segment-level DPO ([SDPO](https://arxiv.org/abs/2501.01821)), of "
        f"{_counted(_scenarios(pairs), 'scenario or task', 'scenarios or tasks')}. Row 2i is the negative of pair i, "
        "row 2i + 1 its positive: do not shuffle rows, or join them by `pair` where there is that field. "
        "`conversations` holds the turns in ShareGPT form; `segment`, half-open over them, those that are compared.",
        "## Where they come from",
        *_listed("Models", _models(pairs)),
        *_listed("Sources", Counter(side.source for pair in pairs for side in pair if side.source)),
        "## Counts",
        "| | pairs | negative | positive | least gain | largest gain |\n| --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(_score_row(pairs, name) for name in _names(pairs)),
        *_rules(pairs),
        f"Fields: {', '.join(map(_code, fields))}.",
    ]
    return "\n".join(head) + "\n\n" + "\n\n".join(part for part in body if part) + "\n"


def _names(pairs: Sequence[ShownPair]) -> list[str]:
    return list(dict.fromkeys(name for pair in pairs for side in pair for name in side.outcome_names))


def _scenarios(pairs: Sequence[ShownPair]) -> int:
    return len({pair.negative.task or pair.negative.env for pair in pairs} - {None})


def _models(pairs: Sequence[ShownPair]) -> "Counter[str]":
    """Count pairs by who played them."""
    found: Counter[str] = Counter()
    for pair in pairs:
        agent, partner = pair.negative.agent_model, pair.negative.partner_model
        if agent:
            found[f"{agent} with {partner}" if partner else agent] += 1
    return found


def _score_row(pairs: Sequence[ShownPair], name: str) -> str:
    """Write the means of an outcome on both sides, over the pairs that have both, and the range of the gain."""
    known = [(pair.negative.value(name), pair.positive.value(name)) for pair in pairs]
    both = [(one, other) for one, other in known if one is not None and other is not None]
    gains = [other - one for one, other in both] or [
        gain for pair in pairs if (gain := pair.negative.gain(name)) is not None
    ]
    means = [decimals(sum(values) / len(both)) for values in zip(*both, strict=True)] or ["-", "-"]
    ends = [decimals(min(gains), "+"), decimals(max(gains), "+")] if gains else ["-", "-"]
    return f"| {_code(name)} | {len(gains):,} | {' | '.join([*means, *ends])} |"


def _rules(pairs: Sequence[ShownPair]) -> list[str]:
    """Say what holds of all pairs, as far as the records show it."""
    lengths = Counter(
        side.segment[1] - side.segment[0] for pair in pairs if (side := pair.positive).segment is not None
    )
    located = sum(pair.negative.location is not None for pair in pairs)
    by_state = sum(pair.negative.match == "state" or pair.positive.match == "state" for pair in pairs)
    lines = []
    if lengths:
        shown = ", ".join(f"{length}: {count:,}" for length, count in sorted(lengths.items())[:MOST_LISTED])
        lines.append(f"- Turns of the positive's segment, with how many pairs have so many: {shown}.")
    if located:
        lines.append(f"- The turn with which the negative went wrong is recorded for {located:,} pairs.")
    if by_state:
        lines.append(f"- In {by_state:,} pairs the history is shared by the same calls with the same results.")
    return ["Rules, as the records show them:\n" + "\n".join(lines)] if lines else []


def _listed(title: str, counts: "Counter[str]") -> list[str]:
    """List names with the number of pairs of each; nothing where none is known."""
    if not counts:
        return [f"{title}: not recorded."] if title == "Models" else []
    lines = [f"- {_code(name)}: {count:,}" for name, count in counts.most_common(MOST_LISTED)]
    more = [f"- and {len(counts) - MOST_LISTED} more"] if len(counts) > MOST_LISTED else []
    return [f"{title}:\n" + "\n".join(lines + more)]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}" if count else "scenarios that are not recorded"


def _code(text: str) -> str:
    """Return a name as Markdown's code, on one line and without what would end it."""
    return f"`{one_line(text, 200).replace('`', chr(39)).replace('|', '/')}`"
