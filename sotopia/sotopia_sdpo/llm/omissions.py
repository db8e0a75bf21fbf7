"""Remember which settings are left out of requests, since a server does not take them.

Comes in: what a server has refused. Goes out: the fields to send, and notes for users. Invariant: a setting is left
out for one model, one kind of question and, but for the seed, which is another with every request, one value.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from sotopia_sdpo.llm.refusals import FORM, LENGTH, NEW_LENGTH


NAMED_ALONE = (FORM, "seed")
"""Settings whose value says nothing to users."""


class Setting(NamedTuple):
    """A setting as it is refused."""

    model: str
    question: str
    """What is asked for: an action, an evaluation …"""
    name: str
    value: float | None
    """None: whatever it is."""


class Omissions:
    """What is left out, by model."""

    def __init__(self) -> None:
        """Start with nothing left out."""
        self.notes: list[str] = []
        self.by_model: dict[str, dict[str, list[str]]] = defaultdict(dict)
        """The settings that were left out of a model's requests, by kind of question, as episodes store them."""
        self._instead: dict[Setting, str] = {}
        """What is sent in the place of a setting; empty for nothing."""
        self._takes_form: set[tuple[str, str]] = set()
        self._seen: set[tuple[Setting, ...]] = set()

    def fields(self, model: str, question: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the request fields that the model's server takes, as far as is known."""
        found = {}
        for name, value in parameters.items():
            sent: str | None = name
            while sent and (other := self._instead.get(_setting(model, question, sent, value))) is not None:
                sent = other
            if sent:
                found[sent] = value
        return found

    def add(
        self,
        model: str,
        question: str,
        fields: dict[str, Any],
        names: Iterable[str],
        error: str = "",
        why: str = "the server refuses {}; going on without",
    ) -> None:
        """Leave these of the fields out from now on, or send them under the name that the error gives."""
        new = {}
        for name in names:
            setting = _setting(model, question, name, fields[name])
            if setting not in self._instead:
                new[name] = NEW_LENGTH if name == LENGTH and NEW_LENGTH in error else ""
                self._instead[setting] = new[name]
        left = [name if name in NAMED_ALONE else f"{name} {fields[name]}" for name, other in new.items() if not other]
        if left:
            self.notes.append(f"{model}, {question}: {why.format(', '.join(left))}")
            self.by_model[model].setdefault(question, []).extend(left)

    def is_new(self, model: str, question: str, fields: dict[str, Any]) -> bool:
        """Return whether these fields are sent for the first time."""
        settings = tuple(_setting(model, question, name, value) for name, value in fields.items())
        is_new = settings not in self._seen
        self._seen.add(settings)
        return is_new

    def may_be_form(self, model: str, question: str, fields: dict[str, Any]) -> bool:
        """Return whether an error may be due to the form that the answer shall have: none was ever given in it."""
        return FORM in fields and (model, question) not in self._takes_form

    def works(self, model: str, question: str, fields: dict[str, Any]) -> None:
        """Remember that a request with these fields was answered."""
        if FORM in fields:
            self._takes_form.add((model, question))


def _setting(model: str, question: str, name: str, value: Any) -> Setting:
    """Return what is remembered of a field."""
    return Setting(model, question, name, value if isinstance(value, int | float) and name != "seed" else None)
