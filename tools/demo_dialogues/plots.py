"""The plots of the demo dialogues: which order of the agent's acts fits what the partner has just said.

A plot has the same acts in its fitting and in its flawed orders. Some pairs of acts occur in two plots with opposite
fitting orders (a question before a plan, or a plan first since the partner waits for it), so that the history decides.
"""

from typing import NamedTuple


class Plot(NamedTuple):
    """A state of the dialogue, the order of acts that fits it, and the orders that do not."""

    state: str
    """Key of PARTNER_LINES: what the partner has just said."""
    fitting: tuple[str, ...]
    flawed: tuple[tuple[str, ...], ...]
    hint: str
    """Told in the first turn when the agent must act before the partner has said anything."""
    reason: str
    """Why the flawed order hurts, as the judge of a real run would note it."""


PLOTS: tuple[Plot, ...] = (
    Plot(
        "neutral", ("ask", "offer"), (("offer", "ask"),),
        "So far {partner} has not said what matters about {topic}.",
        "{agent} puts a plan on the table before knowing what {partner} needs, and asks only afterwards.",
    ),
    Plot(
        "upset", ("reflect", "share"), (("share", "reflect"),),
        "You have heard that {partner} is upset about {topic}.",
        "{agent} speaks of reasons of their own while {partner} is still hurt; the kind word comes too late.",
    ),
    Plot(
        "refused", ("concede", "hold"), (("hold", "concede"),),
        "Last week {partner} already said no to your first wish about {topic}.",
        "{agent} presses on right after a refusal instead of giving way first.",
    ),
    Plot(
        "granted", ("thank", "settle"), (("settle", "thank"),),
        "This morning {partner} wrote that you can have your way with {topic}.",
        "{agent} goes straight to business after a favour and thanks {partner} only later.",
    ),
)  # fmt: skip

TURNED_PLOTS: tuple[Plot, ...] = (
    Plot(
        "wants_idea", ("offer", "ask"), (("ask", "offer"),),
        "In a letter {partner} has told you all wishes about {topic} and now waits for a plan.",
        "{partner} waits for a plan, and {agent} dodges with a question whose answer is known.",
    ),
    Plot(
        "wants_reasons", ("share", "reflect"), (("reflect", "share"),),
        "In a letter {partner} was friendly and asked for your reasons about {topic}.",
        "{partner} asks for reasons, and {agent} answers a reproach that nobody made.",
    ),
)  # fmt: skip

LONG_PLOTS: tuple[Plot, ...] = (
    Plot(
        "upset", ("reflect", "ask", "offer"), (("offer", "ask", "reflect"), ("ask", "offer", "reflect")),
        "You have heard that {partner} is upset about {topic}.",
        "{agent} treats the matter as a business deal and meets the feelings of {partner} only at the end.",
    ),
    Plot(
        "neutral", ("ask", "offer", "settle"), (("offer", "settle", "ask"), ("settle", "ask", "offer")),
        "So far {partner} has not said what matters about {topic}.",
        "{agent} wants to fix things at once, and the question about the wishes of {partner} comes too late.",
    ),
)  # fmt: skip
