"""Find the two dialogues of a pair in its records, still as the file spells them.

    adjacent form   records 2i, 2i+1      {"conversations": [...]} negative, {"conversations": [...]} positive
    ranking form    record i              {"conversations": [history], "chosen": [...], "rejected": [...]}

In the ranking form a side may also be a whole dialogue: one that begins with the history, or with the partner's or a
system turn where only the agent's can follow. Which of these a record is follows from its turns alone.

This is where negative/positive (episodes) become rejected/chosen (training).
"""

from typing import Any, NamedTuple

from ..errors import UserError, kind
from .formats import Format


MAX_SHOWN = 20
"""How many names of fields a message lists."""

AGENT_ROLES, PARTNER_ROLES = ("assistant", "function"), ("user", "observation")


class Dialogue(NamedTuple):
    """One dialogue of a pair.

    Attributes:
        name: for messages.
        turns: as the file spells them, not yet checked.
        record: that has its `segment` and `system`.
    """

    name: str
    turns: list[Any]
    record: dict[str, Any]


def split(records: list[Any], form: Format) -> tuple[Dialogue, Dialogue]:
    """Return the rejected and the chosen dialogue.

    Args:
        records: one record in the ranking form; else two, the negative one first.
        form: columns and tags.

    Raises:
        UserError: without file and record, which the caller knows.
    """
    if form.ranking:
        return _ranking(records[0], form)
    rejected, chosen = map(_adjacent, ("the first (negative)", "the second (positive)"), records, [form, form])
    return rejected, chosen


def _adjacent(name: str, record: Any, form: Format) -> Dialogue:
    turns = _field(record, form.messages or "", name)
    if not isinstance(turns, list):
        raise UserError(f"{name}: '{form.messages}' is {kind(turns)}, expected a list of turns")
    return Dialogue(name, turns, record)


def _ranking(record: Any, form: Format) -> tuple[Dialogue, Dialogue]:
    chosen, rejected = (_answer(record, column or "", form) for column in (form.chosen, form.rejected))
    if form.messages is None:
        sides = _end_replaced(record, chosen, rejected, form), chosen
    else:
        history = _history(record, form)
        # UltraFeedback's `messages` is the chosen dialogue once more.
        history = [] if form.lenient and _are_same(history, chosen) and begins_whole(chosen, form) else history
        sides = (
            _joined(record, history, rejected, form.rejected, form),
            _joined(record, history, chosen, form.chosen, form),
        )
    names = f"'{form.rejected}'", f"'{form.chosen}'"
    return Dialogue(names[0], sides[0], record), Dialogue(names[1], sides[1], record)


def _history(record: Any, form: Format) -> list[Any]:
    """Return the turns that both sides share."""
    history = _field(record, form.messages or "", "the record")
    if isinstance(history, str) and form.lenient:
        parts = [part for part in (history, value_of(record, form.query)) if part]
        return [*_earlier(record, form), _turn("\n".join(parts), form.user_tag, form)]
    if not isinstance(history, list):
        raise UserError(
            f"'{form.messages}' is {kind(history)}, expected a list of turns (it may be empty){_text_remedy(history)}"
        )
    return history


def _earlier(record: dict[str, Any], form: Format) -> list[Any]:
    """Return the turns before the one that a text is."""
    found = value_of(record, form.earlier) or []
    if not isinstance(found, list) or not all(isinstance(both, list) and len(both) == 2 for both in found):
        raise UserError(f"'{form.earlier}' is not a list of [question, answer]; correct it or leave it out")
    tags = (form.user_tag, form.assistant_tag)
    return [_turn(text, tag, form) for both in found for text, tag in zip(both, tags, strict=True)]


def _answer(record: Any, column: str, form: Format) -> list[Any]:
    """Return the turns of one side."""
    answer = _field(record, column, "the record")
    if isinstance(answer, str) and form.lenient:
        answer = _turn(answer, form.assistant_tag, form)
    if isinstance(answer, dict):
        answer = [answer]
    if not isinstance(answer, list):
        raise UserError(f"'{column}' is {kind(answer)}, expected a turn or a list of turns{_text_remedy(answer)}")
    return answer


def _joined(record: Any, history: list[Any], answer: list[Any], column: str | None, form: Format) -> list[Any]:
    """Return a whole dialogue of a history and an answer, which may be that dialogue."""
    system, shared = _system_apart(history, form)
    own_system, own = _system_apart(answer, form)
    if _are_same(own[: len(shared)], shared) and not (system and own_system and system != own_system):
        return (own_system or system) + own
    if not own or _role(own[0], form) not in PARTNER_ROLES or not shared:
        return history + answer
    if isinstance(value_of(record, form.messages), str):
        if not _says(own, shared[0][form.content_tag], form):
            raise UserError(
                f"'{column}' is a whole dialogue without the turn that '{form.messages}' holds; if that is something "
                'else, name "chosen" and "rejected" but not "messages" in columns of an entry of dataset_info.json'
            )
        return own_system + own
    if _role(shared[-1], form) in AGENT_ROLES:
        raise UserError(
            f"'{form.messages}' ends on an agent's turn, so this answer would stand before both sides; expected the "
            f"history that they share, up to a '{form.user_tag}' turn; if '{form.chosen}' and '{form.rejected}' are "
            "whole dialogues, make it an empty list"
        )
    return history + answer


def _end_replaced(record: Any, chosen: list[Any], rejected: list[Any], form: Format) -> list[Any]:
    """Return the rejected one of two whole dialogues, which may be only what replaces the end of the chosen one.

    So does ms-swift: a text replaces the last turn, turns what comes after the last one of the user's.
    """
    if begins_whole(rejected, form) or not begins_whole(chosen, form):
        for column in (form.chosen, form.rejected):
            if isinstance(value_of(record, column), str):
                raise UserError(
                    f"'{column}' is text without a prompt; name the prompt's column as \"messages\" in an entry of "
                    "dataset_info.json"
                )
        return rejected
    users = [index for index, turn in enumerate(chosen) if _role(turn, form) == "user"]
    end = len(chosen) - 1 if isinstance(value_of(record, form.rejected), str) or not users else users[-1] + 1
    return chosen[:end] + rejected


def begins_whole(turns: list[Any], form: Format) -> bool:
    """Return whether turns begin as only a whole dialogue does: with a system turn or the partner's."""
    return bool(turns) and _role(turns[0], form) in ("system", *PARTNER_ROLES)


def _text_remedy(value: Any) -> str:
    return '; "formatting": "openai" reads a text as one turn' if isinstance(value, str) else ""


def value_of(record: Any, column: str | None) -> Any:
    """Return the value of a column, or None; a dot leads into an object."""
    if column is None or column in record:
        return record.get(column)
    outer, _, inner = column.partition(".")
    return value_of(record[outer], inner) if inner and isinstance(record.get(outer), dict) else None


def _field(record: Any, column: str, name: str) -> Any:
    """Return the value of a required column."""
    if not isinstance(record, dict):
        raise UserError(f"{name}: is {kind(record)}, expected an object with '{column}'")
    value = value_of(record, column)
    if value is None:
        raise UserError(f"{name}: has no '{column}'; found {', '.join(list(record)[:MAX_SHOWN]) or 'nothing'}")
    return value


def _turn(text: str, tag: str, form: Format) -> dict[str, Any]:
    return {form.role_tag: tag, form.content_tag: text}


def _role(turn: Any, form: Format) -> str | None:
    """Return the role of a turn that may be anything; None if it has none."""
    tag = turn.get(form.role_tag) if isinstance(turn, dict) else None
    return form.roles.get(tag) if isinstance(tag, str) else None


def _system_apart(turns: list[Any], form: Format) -> tuple[list[Any], list[Any]]:
    """Return the leading system turn, or nothing, and the other turns."""
    end = int(bool(turns) and _role(turns[0], form) == "system")
    return turns[:end], turns[end:]


def _are_same(turns: list[Any], others: list[Any]) -> bool:
    """Return whether two lists of turns say the same, whatever they weigh."""
    one, other = ([_unweighted(turn) for turn in each] for each in (turns, others))
    return one == other


def _unweighted(turn: Any) -> Any:
    return {key: value for key, value in turn.items() if key != "weight"} if isinstance(turn, dict) else turn


def _says(turns: list[Any], text: str, form: Format) -> bool:
    """Return whether one of the partner's turns is a text, but for white space around it."""
    said = [turn.get(form.content_tag) for turn in turns if _role(turn, form) in PARTNER_ROLES]
    return any(isinstance(content, str) and content.strip() == text.strip() for content in said)
