"""Put a page together: one HTML file that needs nothing besides itself.

Comes in: the data of a report and the name of its file. Goes out: the text of the page.
Invariant: dialogues are strangers' text. They stand in the page as JSON without a `<`, are shown as text alone, and
the page's policy lets no script run but ours and loads nothing.
"""

import base64
import hashlib
import html
import json
from importlib.resources import files
from typing import Any, NamedTuple

from sotopia_sdpo.prompts import fill


PACKAGE = "sotopia_sdpo.report"
SCRIPTS = ("head.js", "pair.js", "order.js", "page.js")


class Words(NamedTuple):
    """What a page calls the things it shows."""

    heading: str
    sides: tuple[str, str]
    agent: str
    gain: str
    """What one side has more than the other, before the name of an outcome."""
    are_pairs: bool
    """Whether they can be trained on, so that flags make sense."""


PAIRS = Words("Preference pairs", ("negative", "positive"), "agent (trained)", "Gain in", are_pairs=True)
RUNS = Words("Two runs", ("A", "B"), "agent (measured)", "B − A in", are_pairs=False)


def page_of(report: dict[str, Any], name: str, words: Words = PAIRS) -> str:
    """Fill the page's template.

    Args:
        report: what `report_of` gives.
        name: the name of the file that the pairs come from, or of both runs.
        words: what is shown.
    """
    script = "".join(map(_part, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "heading": words.heading,
        "title": html.escape(name),
        "style": _part("page.css"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "data": json_in_html({**report, "file": name, "words": words._asdict()}),
    }
    return fill(_part("page.html"), values)


def json_in_html(value: Any) -> str:
    r"""Write JSON that may stand in a script element: ASCII, and `<` as \u003c, so that no text can end it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _part(name: str) -> str:
    return files(PACKAGE).joinpath(name).read_text("utf-8")
