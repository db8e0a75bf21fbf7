"""What a step is doing, on a terminal; and what there is to do, at the start."""

import io
import math
from pathlib import Path

import pytest

from sotopia_sdpo.loop.plan import Planned, overview
from sotopia_sdpo.make import live
from sotopia_sdpo.make.live import Live, last_line


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    monkeypatch.setenv("COLUMNS", "30")
    return tmp_path / "step.log"


def test_the_last_line_stands_behind_the_beginning_and_goes_again(log: Path) -> None:
    out = Terminal()
    shown = Live(" 1  sample ", log, out)
    shown.look()
    log.write_text("plan\n3/80 episodes, 0 failed, 0:40 left\n\n")
    shown.look()
    shown.look()
    shown.clear()
    assert out.getvalue() == "\r 1  sample 3/80 episodes, 0 f\x1b[K\r 1  sample \x1b[K"


def test_what_others_print_cannot_move_the_cursor(log: Path) -> None:
    out = Terminal()
    log.write_bytes(b"\x1b[2Jx\xff\n")
    Live("", log, out).look()
    assert out.getvalue() == "\r\\x1b[2Jx\ufffd\x1b[K"


def test_a_pipe_gets_nothing(log: Path) -> None:
    log.write_text("3/80 episodes\n")
    out = io.StringIO()
    shown = Live(" 1  sample ", log, out)
    shown.look()
    shown.clear()
    assert out.getvalue() == ""


@pytest.mark.parametrize(("text", "line"), [("", ""), ("a\nb", "b"), ("a\n \n", "a"), ("x" * 5000 + "\nend", "end")])
def test_the_last_line_of_a_log(log: Path, text: str, line: str) -> None:
    assert last_line(log) == ""
    log.write_text(text)
    assert last_line(log) == line


def planned(kind: str, is_done: bool, seconds: float = math.nan) -> Planned:
    return Planned(kind, is_done, {} if math.isnan(seconds) else {"seconds": seconds}, 0)


def test_how_many_steps_there_are_and_how_long_they_take() -> None:
    assert overview([planned("sft", False), planned("sdpo", False)]) == "2 steps"
    # A training that is left takes as long as one that was timed.
    found = overview([planned("sft", True, 120), planned("sdpo", False), planned("sdpo", False)])
    assert found == "3 steps, 1 of them done, about 4 minutes by what was timed here"
    assert overview([planned("sft", True, 120)]) == "1 steps, 1 of them done"
