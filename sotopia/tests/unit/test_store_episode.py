"""The records: what an episode may be, its key and primary key, and reading what others wrote."""

import pytest
from pydantic import ValidationError
from store_contract import VERDICT, make_episode

from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.keys import PK_ALPHABET, PK_LENGTH, EpisodeKey, combo_key
from sotopia_sdpo.text import whole_text


LOG = {"environment": "e", "agents": ["a", "b"], "messages": [], "tag": "t"}


@pytest.mark.parametrize(
    ("rewards", "status"),
    [
        ([VERDICT, VERDICT], "scored"),
        ([[3.5, {"goal": 8}], [3.5, {"goal": 8}]], "scored"),
        ([0.0, 0.0], "unscored"),
        ([VERDICT, 0.0], "unscored"),
        ([VERDICT], "unscored"),
        ([(0.0, {}), (0.0, {})], "unscored"),
        ([(0.0, {"goal": None}), VERDICT], "unscored"),
        ([(float("nan"), {"goal": 1.0}), VERDICT], "unscored"),
        ([], "unscored"),
        (None, "unscored"),
    ],
)
def test_status_of_a_plain_log_is_read_from_its_rewards(rewards, status):
    episode = Episode(**LOG, rewards=rewards)
    assert episode.status == status
    assert bool(episode.rewards) == (status == "scored")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "scored"}, "has a verdict"),
        ({"status": "scored", "rewards": [0.0, 0.0]}, "has a verdict"),
        ({"status": "unscored", "rewards": [VERDICT, VERDICT]}, "rewards must be empty"),
        ({"status": "failed"}, "failure must say why"),
        ({"status": "done"}, "'scored', 'unscored' or 'failed'"),
        ({"status": "unscored", "agent_position": 2}, "agent_position is 2, expected 0 to 1"),
        ({"satus": "failed"}, "satus"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Episode(**LOG, **fields)


def test_json_round_trip():
    episode = make_episode(seed=1, usage={"cost": 0.5})
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


def test_pk_belongs_to_the_key():
    """The same work has the same pk, other work another one; it looks like an ULID."""
    first, second = make_episode(1), make_episode(1, status="failed")
    assert first.pk == second.pk == first.key.pk
    assert make_episode(2).pk != first.pk
    assert len(first.pk) == PK_LENGTH and set(first.pk) <= set(PK_ALPHABET)


def test_key_names_all_that_makes_the_work():
    episode = make_episode(source_episode="S", location=3, agent_position=1, trial=4)
    assert episode.key == EpisodeKey(episode.tag, "env0/ann/bob/S/@3", 1, 4)
    assert combo_key("e", ["a", "b"]) == "e/a/b"


@pytest.mark.parametrize(("tag", "trial"), [("x_all_trial12", 12), ("x_trial1_more", 0), ("", 0), (None, 0)])
def test_trial_is_read_from_the_tag(tag, trial):
    assert Episode(**{**LOG, "tag": tag}, rewards=[]).trial == trial


@pytest.mark.parametrize(
    ("tag", "models", "recorded", "position"),
    [
        ("benchmark_m_p_e_all_trial0", ["e", "m", "p"], None, 0),
        ("benchmark_m_p_e_all_trial0", ["e", "p", "m"], None, 1),
        ("benchmark_m_m_e_all_trial0", ["e", "m", "m"], None, 0),
        ("benchmark_m_p_e_all_trial0", ["e", "m", "p"], 1, 1),
        ("gpt-4_gpt-4", [], None, 0),
    ],
)
def test_position_of_published_episodes(tag, models, recorded, position):
    """Upstream tells the role only by the order of the models."""
    episode = Episode(**{**LOG, "tag": tag}, models=models, agent_position=recorded, status="unscored")
    assert episode.position == position
    # Its role is its own from now on, whatever it or a model is called later.
    renamed = Episode.model_validate({**episode.model_dump(), "pk": "", "tag": "benchmark_p_m_e_all_trial0"})
    for other in (renamed, episode.model_copy(update={"tag": "mine"})):
        assert other.key == episode.key._replace(tag=other.tag)


def test_halves_of_surrogates_are_replaced():
    """A model's broken JSON may hold them; no database takes them."""
    broken = "a\ud83d b \ude00"
    assert whole_text({"k": [broken, "ok \U0001f600"]}) == {"k": ["a\ufffd b \ufffd", "ok \U0001f600"]}
    episode = make_episode().model_dump() | {"messages": [[("A", "B", broken)]], "pk": ""}
    assert Episode(**episode).messages[0][0][2] == "a\ufffd b \ufffd"
