"""The one reader of YAML configs: what the host reads of a file, and mistakes in one line."""

import sys

import pytest

from llamafactory_sdpo.config_file import read_config
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.arguments import read_args
from llamafactory_sdpo.host.names import host_parser


@pytest.fixture
def write_config(tmp_path):
    def write_text(text: str | bytes):
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


CONFIG = """
save_strategy: no
learning_rate: 1e-6
eval_steps: 0x10
output_dir: saves/${oc.env:NOBODY,me}
model: &name here
again: *name
day: 2026-01-02
nested: {a: 1, b: [x, null]}
"""


def test_it_reads_what_the_host_reads(write_config, monkeypatch):
    """A bare `no`, numbers with an exponent, anchors, interpolations left as they stand, and overrides."""
    path = write_config(CONFIG)
    overrides = ["nested.a=2", "output_dir=with space=1", "eval_steps=", "new=true"]
    ours = read_config(path, overrides)
    monkeypatch.setattr(sys, "argv", ["llamafactory-cli", str(path), *overrides])
    assert ours == host_parser.read_args()
    assert read_args([str(path), *overrides]) == {**ours, "save_strategy": "no"}
    assert (ours["learning_rate"], ours["nested"], ours["output_dir"]) == (
        1e-6,
        {"a": 2, "b": ["x", None]},
        "with space=1",
    )
    assert read_config(path)["output_dir"] == "saves/${oc.env:NOBODY,me}"
    assert read_config(path, resolve=True)["output_dir"] == "saves/me"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("a: [1", [], "not a readable config: while parsing a flow sequence"),
        ("a: 1\na: 2\n", [], "not a readable config: .*duplicate key a"),
        ("- a\n", [], "not a readable config: it holds no key: value lines"),
        ("3\n", [], "not a readable config: "),
        (b"a: \xff\n", [], "not a readable config: "),
        ("a: ${b\n", [], "not a readable config: "),
        ("a: ${gone}\n", [], "not a readable config: Interpolation key 'gone' not found"),
        ("a: ${oc.env:NOBODY_SETS_THIS}\n", [], "not a readable config: .*'NOBODY_SETS_THIS' not found"),
        ("a: 1\n", ["b=[1"], "not a readable config: while parsing a flow sequence"),
        ("", [], "not a readable config: it holds no key: value lines"),
        ("a: " + "[" * 2000 + "]" * 2000, [], "not a readable config: more than 50 levels or 100000 values"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(write_config, text, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        read_config(write_config(text), overrides, resolve=True)
    assert "\n" not in str(error.value)


DEEP = 100_000
BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        *("a: " + "[" * DEEP + "]" * DEEP, "{a: " * DEEP + "}" * DEEP, "- " * DEEP + "x", "? " * DEEP),
        *(
            "a: " + "[" * DEEP,
            "\n".join(" " * level + "a:" for level in range(100)),
            BOMB,
            "a: &a [*a]",
            "&a {b: {c: *a}}",
        ),
    ],
    ids=["lists", "mappings", "items", "keys", "open", "block", "aliases", "itself", "itself, deeper"],
)
def test_a_config_that_would_end_the_process_or_fill_its_memory_is_refused(write_config, text):
    """YAML's loader recurses in C, and eight lines of nine aliases stand for 43 million values."""
    with pytest.raises(UserError, match="not a readable config: more than 50 levels or 100000 values$"):
        read_config(write_config(text))


def test_a_deep_override_is_refused(write_config):
    with pytest.raises(UserError, match="more than 50 levels"):
        read_config(write_config("a: 1"), ["a=" + "[" * DEEP])


def test_what_stands_at_the_limit_is_read(write_config):
    """The mapping is the first level; an anchor that is used twice is ordinary."""
    text = f"deep: {'[' * 49}{']' * 49}\na: &x [1, 2]\nb: *x\nc: *x"
    read = read_config(write_config(text))
    assert read["a"] == read["b"] == read["c"] == [1, 2]
