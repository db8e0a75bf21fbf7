"""What the commands of training print of an error."""

import pytest

from llamafactory_sdpo.data.forms import recognise
from llamafactory_sdpo.errors import TrainingFailed, run_at_edge


HOSTILE, SHOWN = "\x1b[2J\u202eX\u200f\ud800", r"\x1b[2J\u202eX\u200f\ud800"


def test_names_of_others_files_are_printed_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    """A column's name, which an error quotes."""
    assert run_at_edge(lambda: recognise([{HOSTILE: 1}], False, "a.json") and None, "c.yaml: ") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: c.yaml: a.json has the columns of no form") and SHOWN in said
    assert said.removesuffix("\n").isprintable()


def test_a_progress_bars_line_is_ended(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise TrainingFailed(HOSTILE)

    assert run_at_edge(fails) == 1
    assert capsys.readouterr().err == f"\nerror: {SHOWN}\n"
