"""Recognise the form of a file of pairs by its columns and its first records.

A form is a row of `FORMS`. One with more of the file's columns goes before one with fewer; where two with as many read
the records differently, the user is asked. An entry of dataset_info.json that names columns is never second-guessed.
"""

from typing import Any, NamedTuple

from ..errors import UserError, kind
from . import tables
from .formats import OPENAI, Format
from .reading import read_sides
from .splitting import MAX_SHOWN, begins_whole, value_of


SAMPLE = 16
"""How many records of a file decide; even, so that they are whole pairs."""

SYSTEM_COLUMNS, TOOLS_COLUMNS = ("system", "system_prompt"), ("tools",)


OPTIONAL = ("tools", "system", "earlier")


class Form(NamedTuple):
    """A usual form of pairs.

    Attributes:
        name: for the line that says what a file is.
        columns: by the field of `Format`; those of `OPTIONAL` may be missing from a file.
    """

    name: str
    columns: dict[str, str]

    @property
    def needs(self) -> set[str]:
        """The columns of a file by which the form is recognised."""
        return {column.partition(".")[0] for field, column in self.columns.items() if field not in OPTIONAL}


def _sides(chosen: str = "chosen", rejected: str = "rejected", **others: str) -> dict[str, str]:
    return {"chosen": chosen, "rejected": rejected, **others}


FORMS = (
    Form("adjacent records", {"messages": "conversations"}),
    Form("adjacent records", {"messages": "messages"}),
    Form("LLaMA-Factory's ranking form", _sides(messages="conversations")),
    Form("LLaMA-Factory's Alpaca form", _sides(messages="instruction", query="input", earlier="history")),
    Form("TRL's preference form", _sides()),
    Form("TRL's preference form", _sides(messages="prompt")),
    Form("axolotl's form", _sides(messages="messages")),
    *(Form("a prompt and two answers", _sides(messages=prompt)) for prompt in ("question", "instruction", "input")),
    *(
        Form("Argilla's form", _sides("chosen_response", "rejected_response", messages=prompt))
        for prompt in ("instruction", "prompt")
    ),
    Form("ms-swift's form", _sides("messages", "rejected_messages")),
    Form("ms-swift's form", _sides("messages", "rejected_response")),
    Form("ms-swift's form", _sides("response", "rejected_response", messages="query", earlier="history")),
    Form(
        "OpenAI's preference form",
        _sides("preferred_output", "non_preferred_output", messages="input.messages", tools="input.tools"),
    ),
)


class Recognised(NamedTuple):
    """The format of a file, and the line that says so."""

    format: Format
    said: str


def recognise(rows: list[Any], is_table: bool, file: str) -> Recognised:
    """Return how a file spells its pairs.

    Args:
        rows: the first `SAMPLE` of its records.
        is_table: whether they are rows of a table, whose lists may be texts.
        file: the name for messages.

    Raises:
        UserError: if no form has its columns, or two forms read it differently.
    """
    present = {column for row in rows if isinstance(row, dict) for column, value in row.items() if value is not None}
    fitting = [form for form in FORMS if form.needs <= present]
    if not fitting:
        found = ", ".join(sorted(present)[:MAX_SHOWN]) or (kind(rows[0]) if rows else "no records")
        raise UserError(
            f"{file} has the columns of no form of pairs, found {found}; expected conversations or messages, or "
            "chosen and rejected (docs/training.md lists the forms), or an entry of dataset_info.json that names them"
        )
    most = max(len(form.needs) for form in fitting)
    fitting = [form for form in fitting if len(form.needs) == most]
    formats = [_format(form, rows, present) for form in fitting]
    readings = [[_reading(pair, form) for pair in _pairs_in(rows, is_table, form)] for form in formats]
    reading = [number for number, sides in enumerate(readings) if any(sides)] or [0]
    first = reading[0]
    for other in reading[1:]:
        if any(a and b and a != b for a, b in zip(readings[first], readings[other], strict=True)):
            raise UserError(_question(file, fitting[first], fitting[other]))
    return Recognised(formats[first], f"{fitting[first].name}, {_layout(rows, is_table, formats[first])}")


def _format(form: Form, rows: list[Any], present: set[str]) -> Format:
    """Return the format of a form, with the tags of the first turn that is found."""
    fields: dict[str, Any] = {"messages": None, **form.columns}
    for field, names in (("system", SYSTEM_COLUMNS), ("tools", TOOLS_COLUMNS)):
        fields.setdefault(field, next((name for name in names if name in present), None))
    values = [value_of(row, column) for row in rows if isinstance(row, dict) for column in form.columns.values()]
    lists = [found if isinstance(found, list) else [found] for found in map(tables.turns, values)]
    turns = [turn for found in lists for turn in found if isinstance(turn, dict)]
    if not any("from" in turn for turn in turns):
        fields |= {**OPENAI, "openai": True}
    return Format(ranking="chosen" in form.columns, lenient=True, **fields)


def _pairs_in(rows: list[Any], is_table: bool, form: Format) -> list[list[Any]]:
    """Return the records of each pair."""
    records = [tables.as_record(row, form) if is_table else row for row in rows]
    size = 1 if form.ranking else 2
    return [records[start : start + size] for start in range(0, len(records) - size + 1, size)]


def _reading(records: list[Any], form: Format) -> Any:
    """Return what a pair says, None if it cannot be read."""
    try:
        sides = read_sides(records, form, with_segment=False)
    except UserError:
        return None
    return [(side.system, side.messages) for side in sides[:2]], sides.tools


def _question(file: str, one: Form, other: Form) -> str:
    """Return what to ask about two forms that read a file differently."""
    field = next(
        field
        for field in ("messages", "query", "chosen", "rejected")
        if one.columns.get(field) != other.columns.get(field)
    )
    choices = [f'"{field}": "{form.columns.get(field)}"' for form in (one, other)]
    return (
        f"{file} can be read as {one.name} with {' + '.join(sorted(one.needs))} or as {other.name} with "
        f"{' + '.join(sorted(other.needs))}; say which by {choices[0]} or {choices[1]} in columns of an entry of "
        "dataset_info.json"
    )


def _layout(rows: list[Any], is_table: bool, form: Format) -> str:
    """Return in which columns what stands."""
    if not form.ranking:
        return f"a negative and a positive next to each other, turns in {form.messages}"
    records = [record for (record,) in _pairs_in(rows, is_table, form) if isinstance(record, dict)]
    sides = [value_of(record, column) for record in records[:1] for column in (form.chosen, form.rejected)]
    whole = [isinstance(side, list) and begins_whole(side, form) for side in sides]
    if all(whole) or (form.messages is None and not whole[0]):
        return f"whole dialogues in {form.chosen} and {form.rejected}"
    if form.messages is None:
        return f"a whole dialogue in {form.chosen}, the end of the other in {form.rejected}"
    history = " and ".join(column for column in (form.messages, form.query) if column)
    return f"the history in {history}, what follows in {form.chosen} and {form.rejected}"
