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
from typing import Any

from sotopia_sdpo.prompts import fill


PACKAGE = "sotopia_sdpo.report"
SCRIPTS = ("head.js", "pair.js", "page.js")


def page_of(report: dict[str, Any], name: str) -> str:
    """Fill the page's template.

    Args:
        report: what `report_of` gives.
        name: the name of the file that the pairs come from.
    """
    script = "".join(map(_part, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "title": html.escape(name),
        "style": _part("page.css"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "data": json_in_html(report),
    }
    return fill(_part("page.html"), values)


def json_in_html(value: Any) -> str:
    r"""Write JSON that may stand in a script element: ASCII, and `<` as \u003c, so that no text can end it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _part(name: str) -> str:
    return files(PACKAGE).joinpath(name).read_text("utf-8")
