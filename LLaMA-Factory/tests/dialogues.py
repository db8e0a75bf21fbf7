"""Small dialogues for the tests, and random ones."""

from hypothesis import assume
from hypothesis import strategies as st


Record = dict[str, object]


def record(*turns: str, system: str | None = None, **extra: object) -> Record:
    """A ShareGPT record whose turns alternate between human and gpt."""
    values = [{"from": "gpt" if index % 2 else "human", "value": turn} for index, turn in enumerate(turns)]
    if system is not None:
        values.insert(0, {"from": "system", "value": system})
    return {"conversations": values, **extra}


def pair(history: list[str], rejected: list[str], chosen: list[str], **extra: object) -> list[Record]:
    """Two adjacent records with a shared history, negative first."""
    return [record(*history, *rejected, **extra), record(*history, *chosen, **extra)]


def ranking(history: list[str], rejected: list[str], chosen: list[str], **extra: object) -> Record:
    """The same in the ranking form."""
    whole = [record(*history, *side)["conversations"] for side in (rejected, chosen)]
    shared = len(history)
    return {
        "conversations": whole[0][:shared],
        "rejected": whole[0][shared:],
        "chosen": whole[1][shared:],
        **extra,
    }


texts = st.text(min_size=0, max_size=12)
actions = texts.map(lambda text: f'{{"action_type": "speak", "argument": "{text}"}}')


histories = st.lists(actions, max_size=2).map(lambda turns: turns if len(turns) % 2 == 0 else [])
"""Nothing, or a turn of the partner and one of the agent."""


@st.composite
def segment_pairs(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """History (ends on a human turn) and two answers of equal length that differ in their first turn."""
    turns = draw(st.integers(0, 3))
    history = ["Background. " + draw(texts)] + [draw(actions) for _ in range(2 * turns)]
    length = draw(st.sampled_from([1, 3, 5]))
    sides = [[draw(actions) for _ in range(length)] for _ in range(2)]
    sides[0][0] += draw(st.sampled_from(["!", " no", "…"]))
    if sides[0][0] == sides[1][0]:
        sides[1][0] += "?"
    return history, sides[0], sides[1]


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Two whole sessions of any lengths that are not the same."""
    sides = [[draw(actions) for _ in range(2 * draw(st.integers(1, 4)))] for _ in range(2)]
    sides[0][-1] += "!"
    if sides[0] == sides[1]:
        sides[1][-1] += "?"
    # A first difference in white space alone is refused, which has tests of its own.
    first = next((pair for pair in zip(*sides, strict=False) if pair[0] != pair[1]), ("", "?"))
    assume("".join(first[0].split()) != "".join(first[1].split()))
    return sides[0], sides[1]
