"""What may be printed of texts that others wrote."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError, run_at_edge
from sotopia_sdpo.llm.redact import redact
from sotopia_sdpo.show.screen import Screen
from sotopia_sdpo.text import MOST_SHOWN, as_cell, of_cell, one_line, printable


HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2Jx"
WRITTEN_OUT = r"\x1b]52;c;ZXZpbA==\x07\x1b[2Jx"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, WRITTEN_OUT),
        ("one\ttab\nline", "one\ttab\nline"),
        ("over\rwritten\x00\x7f\x9b2J", r"over\rwritten\x00\x7f\x9b2J"),
        ("李小雨 שרה Zoë 🙂 \u200d\u200c", "李小雨 שרה Zoë 🙂 \u200d\u200c"),
        ("marks \u200f3 - 2\u200e \u061c", r"marks \u200f3 - 2\u200e \u061c"),
        ("turned \u202eround\u2066 \u2028", r"turned \u202eround\u2066 \u2028"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printable_can_be_written_and_stays_as_it_is(text):
    shown = printable(text)
    assert not any(ord(character) < 32 and character not in "\t\n" for character in shown)
    assert printable(shown) == shown
    assert isinstance(shown.encode(), bytes)


def test_one_line():
    assert one_line(f" a \r\n b{HOSTILE}\n") == f"a b{WRITTEN_OUT}"
    assert one_line("two  spaces") == "two  spaces"
    long = one_line("start" + "x" * 182_917 + "end")
    assert long.startswith("startxx") and long.endswith("xxend") and MOST_SHOWN - 10 < len(long) < MOST_SHOWN + 10


def test_an_error_is_one_printable_line(capsys):
    def fails():
        raise UserError(f"{HOSTILE}\nmore {'x' * 10_000} remedy")

    assert run_at_edge(fails) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {WRITTEN_OUT} more xx") and shown.endswith("xx remedy\n") and len(shown) < 2100


def test_what_a_command_prints_is_printable(capsys):
    """Both streams, and they are themselves again afterwards, also where the command breaks."""
    before = sys.stdout, sys.stderr

    def prints():
        print(f"tag {HOSTILE}\n", end="")
        print(f"reason {HOSTILE}", file=sys.stderr, flush=True)
        assert not sys.stdout.isatty()
        raise LookupError

    with pytest.raises(LookupError):
        run_at_edge(prints)
    assert capsys.readouterr() == (f"tag {WRITTEN_OUT}\n", f"reason {WRITTEN_OUT}\n")
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(
    ("encoding", "errors"), [("ascii", "strict"), ("latin-1", "strict"), ("ascii", "surrogateescape")]
)
def test_what_the_terminal_has_no_sign_for_is_written_out(monkeypatch, encoding, errors):
    """PYTHONIOENCODING=ascii, and Python in the locale C: also what rich draws."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding, errors))

    def prints():
        print("goal ≥ 7 шаг")
        Screen().line("3.14 ≤ 4 Šimůnek")
        sys.stdout.flush()

    assert run_at_edge(prints) == 0
    first, second = written.getvalue().decode(encoding).splitlines()
    assert first == r"goal \u2265 7 \u0448\u0430\u0433" and second.startswith(r"3.14 \u2264 4 \u0160im\u016fnek")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "'=1", "''-1"])
def test_no_cell_is_a_formula(text):
    assert as_cell(text) == f"'{text}" and of_cell(as_cell(text)) == text


@given(st.text() | st.text("'=+-@\t\ra1"))
def test_a_cell_gives_its_text_again(text):
    cell = as_cell(text)
    assert of_cell(cell) == text and not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_servers_text_is_printable_and_short():
    assert redact(f"{HOSTILE} {'x' * 1000}").startswith(f"{WRITTEN_OUT} xxx")
