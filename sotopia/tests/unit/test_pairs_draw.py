"""Lots: the same for a seed, whatever the order and whatever else is there."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.pairs.draw import draw


NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=14)


def taken(names: list[str], limit: int | None, seed: int) -> list[str]:
    """Draw by name, in groups by first letter."""
    return draw(names, limit, seed, str, lambda name: name[0])


@given(NAMES, st.integers(1, 4), st.integers(0, 3), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_is_kept(names: list[str], limit: int, seed: int, random: object) -> None:
    found = taken(names, limit, seed)
    shuffled = sorted(names, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert found == [name for name in names if name in set(taken(shuffled, limit, seed))]
    groups = Counter(name[0] for name in names)
    assert Counter(name[0] for name in found) == {letter: min(limit, count) for letter, count in groups.items()}


@given(NAMES, NAMES, st.integers(1, 4), st.integers(0, 3))
def test_what_else_is_there_does_not_matter(names: list[str], others: list[str], limit: int, seed: int) -> None:
    """Of more, one that was left out stays out; other groups change nothing; a higher limit only adds."""
    more = list(dict.fromkeys(names + others))
    few = set(taken(names, limit, seed))
    assert set(taken(more, limit, seed)) & set(names) <= few
    strangers = [name for name in others if name[0] not in {n[0] for n in names}]
    assert set(taken(strangers + names, limit, seed)) & set(names) == few
    assert few <= set(taken(names, limit + 1, seed))


def test_no_limit_takes_all_and_seeds_differ() -> None:
    names = [f"n{i}" for i in range(20)]
    assert taken(names, None, 0) == names and taken([], 3, 0) == []
    assert len({tuple(draw(names, 5, seed, str)) for seed in range(8)}) == 8
