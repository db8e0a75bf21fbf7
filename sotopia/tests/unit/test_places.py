"""How commands are typed, and that every script has one."""

from pathlib import Path

import pytest

from sotopia_sdpo import places, sdpo


@pytest.mark.parametrize(
    ("text", "as_commands"),
    [
        ("bash dpo/demo.sh TRIALS=5", "sdpo demo TRIALS=5"),
        ("x.json is not there; data_filtering_positive.py --pairs eto writes it", "… sdpo positives --pairs eto …"),
        ("fix it or rerun locate.py", "fix it or rerun sdpo locate"),
        ("python dpo/auto_tail.py writes it", "sdpo auto-tail writes it"),
        ("bash train.sh my.yaml; bash inference.sh", "sdpo train my.yaml; sdpo serve"),
        ("/a b/locate.py, relocate.py and mylocate.pyc are other files", ""),
    ],
)
def test_scripts_are_named_as_commands(text: str, as_commands: str) -> None:
    found = places._as_commands(text)
    assert all(part in found for part in as_commands.split("…")) if as_commands else found == text
    assert places.typed(text) == text, "in a checkout there are scripts"


def test_every_script_is_a_command() -> None:
    assert places.CHECKOUT == Path(__file__).resolve().parents[3]
    scripts = {path.stem for path in (places.CHECKOUT / "dpo").glob("*.py")} - {"environment"}
    assert scripts == places.STEPS.keys() and set(places.STEPS.values()) == sdpo.SCRIPTS.keys()
