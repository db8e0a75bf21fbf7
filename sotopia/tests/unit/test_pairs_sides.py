"""Episodes become dialogues of their sides, and every one that cannot be used is counted."""

from pathlib import Path
from typing import Any

import pytest
from pairs_world import TEMPLATE, episode, messages_of, turns
from small_world import small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs.runs import stored_runs
from sotopia_sdpo.pairs.sides import EpisodeSide, record_of, sample_of, sides_of
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.dialogue import Template
from sotopia_sdpo.play.sources import target_positions


def rendered(
    folder: Path, *changes: dict[str, Any], both: bool = False, template: Template = TEMPLATE
) -> tuple[list[EpisodeSide], Tally]:
    """Store episodes E0, E1, … and return their sides."""
    tally = Tally("sides")
    with small_store(folder) as store:
        for number, change in enumerate(changes):
            store.put_episode(episode(**{"pk": f"E{number}", **change}))
        return list(sides_of(store, stored_runs(store), template, tally, both)), tally


@pytest.mark.parametrize(
    ("changes", "both", "positions"),
    [
        ({}, False, (0,)),
        ({"agent_position": 1}, False, (1,)),
        ({"models": ["j", "a", "a"]}, False, (0, 1)),
        ({"models": ["j", "a", "a"], "agent_position": 1}, False, (1,)),
        ({"models": []}, False, (0,)),
        ({"models": ["j", "a@x", "a@y"]}, False, (0,)),
        ({"agent_position": 1}, True, (0, 1)),
    ],
)
def test_whose_sides_are_taken(
    tmp_path: Path, changes: dict[str, Any], both: bool, positions: tuple[int, ...]
) -> None:
    sides, tally = rendered(tmp_path, changes, both=both)
    assert tuple(side.record.agent_position for side in sides) == positions and tally.total == 0
    assert both or target_positions(episode(**changes)) == positions


@pytest.mark.parametrize(
    ("changes", "reason", "count"),
    [
        ({"scores": ()}, "unscored episode", 1),
        ({"scores": (), "models": ["j", "a", "a"]}, "unscored episode", 2),
        ({"scores": (), "status": "failed", "failure": "f"}, "failed episode", 1),
        ({"agents": ["p0", "p1", "p2"], "scores": ((1, 1),) * 3}, "unusable: not two agents", 1),
        ({"messages": []}, "unusable: turn 0: expected an observation for each of two agents, found 0", 1),
        ({"messages": messages_of(())}, "unusable: the agent never has its turn", 1),
        ({"messages": messages_of(("a",)), "agent_position": 1}, "unusable: the agent never has its turn", 1),
        ({"rewards": [(1.0, {"goal": 1}), (1.0, {"goal": 1})]}, "unusable: no score of relationship", 1),
        ({"rewards": [(1.0, {"relationship": 1}), (1.0, {"goal": 1})]}, "unusable: no score of goal", 1),
    ],
)
def test_what_cannot_be_used_is_counted(tmp_path: Path, changes: dict[str, Any], reason: str, count: int) -> None:
    sides, tally = rendered(tmp_path, changes, {})
    assert [side.episode.pk for side in sides] == ["E1"] and tally.dropped == {reason: count}


def test_a_side_is_its_agents_own(tmp_path: Path) -> None:
    found, _ = rendered(tmp_path, {"said": ("a", "b", "c", "d"), "scores": ((7.0, -1.5), (3, 0))}, both=True)
    first, second = (side.record for side in found)
    assert first.conversations == turns("a", "b", "c")
    assert [turn["from"] for turn in second.conversations] == ["human", "gpt", "human", "gpt"]
    assert second.conversations[0]["value"].endswith('\n\n{"action_type": "speak", "argument": "a"}')
    assert (first.scores, second.scores) == ((7, -1.5), (3, 0)) and isinstance(first.goal, int)
    assert (
        (first.agent_model, first.partner_model) == (second.partner_model, second.agent_model) == ("agent", "partner")
    )
    assert [first.name, second.name] == ["E0/0", "E0/1"]


@pytest.mark.parametrize("models", [[], ["j"], ["j", "a"], ["j", "a", "b", "c"]])
def test_models_that_are_not_known_are_left_out(models: list[str]) -> None:
    assert "agent_model" not in record_of(episode(models=models), 0, TEMPLATE).dump()


@pytest.mark.parametrize("status", [{"status": "unscored"}, {"status": "failed", "failure": "f"}])
def test_an_episode_without_scores_has_no_record(status: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"^{status['status']} episode$"):
        record_of(episode(scores=(), **status), 0, TEMPLATE)


def test_another_template_is_refused(tmp_path: Path) -> None:
    other = Template("Now: {{background}}", "o.txt")
    settings = {"prompt_template": other.fingerprint}
    fault = (
        f"tag t_neg_trial0: its episodes were sampled with prompt template {other.fingerprint}, found "
        f"{TEMPLATE.fingerprint}; pass theirs with --prompt-template, since agents are trained on what they are prompted with"
    )
    with pytest.raises(UserError, match=f"^{fault}$"):
        rendered(tmp_path, {}, {"settings": settings})
    (tmp_path / "x").mkdir()
    assert len(rendered(tmp_path / "x", {}, {"settings": settings}, template=other)[0]) == 2


def test_what_does_not_say_how_it_was_prompted_is_noted(tmp_path: Path) -> None:
    """Imported episodes have no settings; the note names the template that they are rendered with."""
    _, tally = rendered(tmp_path, {}, {}, {"settings": {"prompt_template": TEMPLATE.fingerprint}})
    told = f"they are rendered with t.txt ({TEMPLATE.fingerprint})"
    assert tally.note_lines() == [f"note: 2 episodes do not say how they were prompted; {told}"]


def test_what_is_drawn_does_not_depend_on_the_name_of_the_run(tmp_path: Path) -> None:
    """Forty sides under two tags, so with other names: the same trials of the same combos are drawn."""
    drawn = []
    for tag in ("one", "another"):
        (tmp_path / tag).mkdir()
        runs = [{"pk": "", "tag": tag, "trial": trial} for trial in range(40)]
        sides, tally = rendered(tmp_path / tag, *runs)
        kept = sample_of(sides, 6, 0, tally)
        trials = {side.record.name: side.episode.trial for side in sides}
        assert len(trials) == 40 and len(kept) == 6
        drawn.append({trials[record.name] for record in kept})
    assert drawn[0] == drawn[1]
