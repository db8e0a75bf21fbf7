"""What a task runs, under which keys, and what of it is left to do."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from small_world import SPLITS, finished, make_run, small_store

from sotopia_sdpo.benchmark import _with_partner
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.replay import Origin
from sotopia_sdpo.play.script import Player
from sotopia_sdpo.run.plan import items_of_combos, items_of_origins, plan
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.tag import tag_of, task_in
from sotopia_sdpo.world.combos import Combo, check_profiles, choose, fetch_combos, hard_environments, load_splits
from sotopia_sdpo.world.tasks import TASKS, Task, task_of


COMBO = Combo("e1", ("p0", "p1"))


def test_the_published_ids() -> None:
    """100 SFT scenarios, 310 for alignment, 90 of which 14 hard for evaluation."""
    splits = load_splits()
    assert len(splits["SFT-round-1"]) == 100 and len(splits["sotopia_env"]) == 90
    assert sum(len(splits[name]) for name in TASKS["neg"].splits) == 310
    assert len(hard_environments(splits)) == 14 and hard_environments(splits) <= set(splits["sotopia_env"])


def test_combos_come_round_by_round_and_by_seed(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    found = choose(store, TASKS["sft"], SPLITS, None, 0)
    assert [combo.environment for combo in found.combos] == ["e0", "e1"] * 4 and found.missing == 0
    two = choose(store, TASKS["sft"], SPLITS, 2, 0).combos
    assert two == found.combos[:4] and two == choose(small_store(tmp_path), TASKS["sft"], SPLITS, 2, 0).combos
    assert any(choose(store, TASKS["sft"], SPLITS, 2, seed).combos != two for seed in range(1, 9))


def test_a_task_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CONTRIBUTING says of a new task: its row decides combos, trials, temperature and tag, and is found in it."""
    monkeypatch.setitem(TASKS, "probe", Task("probe", ("SFT-round-1",), 1, target_temperature=0.3, trials=2))
    store, task = small_store(tmp_path), task_of("probe")
    combos = choose(store, task, SPLITS, None, 0).combos
    assert [combo.environment for combo in combos] == ["e0", "e1"]
    found = items_of_combos(make_run("probe"), combos)
    assert len(plan(store, found).items) == 4
    assert {task_in(item.key.tag) for item in found} == {"probe"} and {item.key.trial for item in found} == {0, 1}
    assert found[0].script.players[0].temperature == 0.3


def test_a_combo_that_is_stored_twice_counts_once(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    store.put_entries([("combos", {"pk": "again", "env_id": "e0", "agent_ids": ["p0", "p1"]})])
    assert len(choose(store, TASKS["sft"], SPLITS, None, 0).combos) == 8


def test_scenarios_that_are_not_there(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    assert choose(store, TASKS["sft"], {"SFT-round-1": ["e0", "x"]}, None, 0).missing == 1
    with pytest.raises(UserError, match="has no combo of the 1 scenarios of SFT-round-1"):
        choose(store, TASKS["sft"], {"SFT-round-1": ["x"]}, None, 0)
    with pytest.raises(UserError, match="the split file has no 'dev-round-1'"):
        choose(store, TASKS["neg"], SPLITS, None, 0)


@pytest.mark.parametrize(
    ("combo", "fault"),
    [
        (Combo("x", ("p0", "p1")), "scenario x is not there"),
        (Combo("e0", ("p0", "x")), "character x is not there"),
    ],
)
def test_profiles_that_are_not_there_are_found_before_anything_starts(
    tmp_path: Path, combo: Combo, fault: str
) -> None:
    with pytest.raises(UserError, match=fault):
        check_profiles(small_store(tmp_path), [combo])


def test_a_combo_of_one_character_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    """Its own episode fails, with the reason that a SotopiaStage gives."""
    check_profiles(small_store(tmp_path), [Combo("e0", ("p0", "p0")), Combo("e0", ("p0", "p1"))])


def test_a_scenario_without_two_goals_is_refused(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    store.put_entries([("environments", {"pk": "e0", "scenario": "s", "agent_goals": ["a"]})])
    with pytest.raises(UserError, match="scenario e0 has 1 goals"):
        check_profiles(store, [Combo("e0", ("p0", "p1"))])


def test_roles() -> None:
    """Self-chat runs a combo once, both sides the target; two models run it in both roles."""
    (item,) = items_of_combos(make_run(target_temperature=1.0), [COMBO])
    assert item.agent_position is None and item.side(0) == item.side(1) == Player(item.run.model, 1.0)
    first, second = items_of_combos(make_run(partner="p", target_temperature=1.0), [COMBO])
    assert first.side(0) == second.side(1) == Player(first.run.model, 1.0)
    assert first.side(1) == second.side(0) == Player(first.run.partner, 0.7)
    assert first.key.pk != second.key.pk


def test_positives_take_the_role_from_the_record_and_run_five_times() -> None:
    items = items_of_origins(make_run("hpos"), [Origin(COMBO, 1, "S", 3)])
    assert [item.key.trial for item in items] == [0, 1, 2, 3, 4] and len({item.seed for item in items}) == 5
    assert items[0].side(1)[1] == 1.0 and items[0].side(0)[1] == 0.7
    assert items[2].key.tag.endswith("_hpos_trial2") and items[0].key.combo == "e1/p0/p1/S/@3"


def test_draws_do_not_depend_on_what_the_run_is_called() -> None:
    """Nor on the name of the negative's episode, which holds the tag of its run."""
    named = [make_run("hpos", tag=tag) for tag in ("", "mine", "yours")]
    combos = [[item.seed for item in items_of_combos(run, [COMBO, Combo("e2", ("p0", "p1"))])] for run in named]
    assert combos[0] == combos[1] == combos[2] and len(set(combos[0])) == 10
    starts = [[Origin(COMBO, 1, f"{tag}{n}", 3) for n in range(2)] for tag in ("", "mine", "yours")]
    found = [[item.seed for item in items_of_origins(*pair)] for pair in zip(named, starts, strict=True)]
    assert found[0] == found[1] == found[2] and len(set(found[0])) == 10


def test_draws_depend_on_what_is_played() -> None:
    hi = (Action("speak", "Hi"),)
    items = [
        *items_of_combos(make_run(partner="p"), [COMBO, COMBO._replace(agents=("p1", "p0"))]),
        *items_of_combos(make_run(partner="p", seed=1), [COMBO]),
        *items_of_combos(make_run("hard", partner="p"), [COMBO]),
        *items_of_origins(make_run("hpos"), [Origin(COMBO, 0, "S", 2), Origin(COMBO, 0, "S", 2, hi), Origin(COMBO, 0, "S", 4)]),
    ]  # fmt: skip
    assert len({item.seed for item in items}) == len(items) == 23
    assert all(0 <= item.seed < 2**31 for item in items)


def test_the_seed_of_an_episode() -> None:
    """So that another version draws the same."""
    assert items_of_combos(make_run(), [COMBO])[0].seed == 2051007626


def test_tags() -> None:
    assert tag_of("m", "p", "e", "hard", 0) == "benchmark_m_p_e_hard_trial0"
    assert make_run("pos", trials=2).tags == [
        f"benchmark_{name}_{name}_custom/judge@http://h/v1_pos_trial{trial}"
        for trial in (0, 1)
        for name in ("custom/m@http://h/v1",)
    ]
    assert make_run("pos", tag="mine").tags == ["mine"]
    with pytest.raises(UserError, match="'hpo' is not a task; expected one of sft, neg, pos, hpos, all, hard"):
        task_of("hpo")


def test_what_is_scored_is_not_run_again(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    items = items_of_combos(make_run(), [COMBO._replace(environment=f"e{i}") for i in range(3)])
    for item, status in zip(items, ("scored", "unscored", "failed"), strict=True):
        store.put_episode(finished(item, status))
    found = plan(store, items)
    assert [item.combo.environment for item in found.items] == ["e1", "e2"]
    assert (len(found.done), found.unscored, found.failed) == (1, 1, 1)
    assert found.items[0].stored is not None and found.items[0].stored.status == "unscored"


def test_episodes_of_a_published_database_are_found(tmp_path: Path) -> None:
    """They have a pk of their own and do not say where the target sits; their tag and models do."""
    store = small_store(tmp_path)
    items = items_of_combos(make_run(partner="p"), [COMBO])
    fields = finished(items[1]).model_dump() | {"pk": "01H", "agent_position": None, "settings": {}}
    store.put_episode(Episode.model_validate(fields))
    found = plan(store, items)
    assert len(found.done) == 1 and [item.agent_position for item in found.items] == [0]


def test_other_settings_under_the_same_tag_are_refused(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    (item,) = items_of_combos(make_run(), [COMBO])
    store.put_episode(finished(item))
    (warmer,) = items_of_combos(make_run(temperature=0.9), [COMBO])
    with pytest.raises(UserError, match="temperature 0.7, this command 0.9"):
        plan(store, [warmer])
    assert len(plan(store, items_of_combos(make_run(seed=5), [COMBO])).done) == 1
    (cut,) = items_of_combos(make_run(top_p=0.7), [COMBO])
    with pytest.raises(UserError, match="top_p None, this command 0.7"):
        plan(store, [cut])
    assert cut.side(0) == Player(cut.run.model, 0.7, 0.7, None)


def test_an_episode_from_before_a_setting_was_stored_is_done(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    (item,) = items_of_combos(make_run(), [COMBO])
    old = {name: value for name, value in item.run.settings().items() if name not in ("top_p", "top_k")}
    store.put_episode(finished(item).model_copy(update={"settings": old}))
    assert len(plan(store, items_of_combos(make_run(top_p=0.7), [COMBO])).done) == 1


@pytest.mark.parametrize(("model", "partner"), [("other", "m"), ("m", "other"), ("other", "other")])
def test_other_models_under_the_same_tag_are_refused(tmp_path: Path, model: str, partner: str) -> None:
    store = small_store(tmp_path)
    (item,) = items_of_combos(make_run(tag="mine"), [COMBO])
    store.put_episode(finished(item))
    with pytest.raises(UserError, match="tag mine: its episodes are by custom/m@http://h/v1"):
        plan(store, items_of_combos(make_run(tag="mine", model=model, partner=partner), [COMBO]))


def test_the_same_models_may_move(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    run = make_run(tag="mine", partner="p")
    store.put_episode(finished(items_of_combos(run, [COMBO])[0]))
    moved = dataclasses.replace(run, partner=parse_model("custom/p@http://elsewhere/v1"))
    assert len(plan(store, items_of_combos(moved, [COMBO])).done) == 1


ORIGINS = [
    Origin(COMBO, 0, "S0", models=("custom/m", "custom/n")),
    Origin(COMBO, 0, "S1", models=("custom/m", "custom/m")),
    Origin(COMBO, 0, "S2"),
    Origin(COMBO, 1, "S3", models=("custom/old", "custom/n")),
]


@pytest.mark.parametrize(("partner", "kept"), [("n", ["S0", "S2", "S3"]), ("m", ["S1", "S2"]), ("x", ["S2"])])
def test_negatives_of_another_partner_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str], partner: str, kept: list[str]
) -> None:
    found = _with_partner(Path("d/n.json"), make_run("pos", partner=partner), ORIGINS)
    assert [origin.episode for origin in found] == kept
    left = f"n.json: {4 - len(kept)} records are of sessions with another partner and are left out\n"
    assert capsys.readouterr() == ("", left)


def test_where_none_has_the_partner_all_are_kept_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    origins = [ORIGINS[0], ORIGINS[1]]
    assert _with_partner(Path("d/n.json"), make_run("pos", partner="x"), origins) == origins
    note = "n.json: note: its negatives are of custom/m with custom/m, custom/m with custom/n, not with this partner\n"
    assert capsys.readouterr() == ("", note)


def test_nothing_is_said_where_all_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(_with_partner(Path("n.json"), make_run("pos", partner="n"), ORIGINS[2:])) == 2
    assert capsys.readouterr() == ("", "")


def test_one_name_at_two_addresses_is_self_chat_in_records(capsys: pytest.CaptureFixture[str]) -> None:
    run = dataclasses.replace(make_run("pos"), partner=parse_model("custom/m@http://other/v1"))
    assert [origin.episode for origin in _with_partner(Path("n.json"), run, ORIGINS)] == ["S1", "S2"]


# ---- combos of upstream's --url


@pytest.fixture
def at_address() -> Iterator[Callable[[bytes], str]]:
    """Serve a text on loopback, and return its address."""
    text = b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if text else 404)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def serve(found: bytes) -> str:
            nonlocal text
            text = found
            return f"http://127.0.0.1:{server.server_port}/combos.json?key=secret"

        yield serve
        server.shutdown()


def test_combos_of_an_address_stand_for_those_of_the_store(tmp_path: Path, at_address: Callable[[bytes], str]) -> None:
    """Task `all` takes every one of them, `hard` those of its scenarios."""
    rows = [{"env_id": env, "agent_ids": ["p0", "p3"], "pk": "x"} for env in ("e0", "e2", "e0")]
    listed = fetch_combos(at_address(json.dumps(rows).encode()))
    store = small_store(tmp_path)
    every = choose(store, TASKS["all"], SPLITS, None, 0, listed)
    assert every.combos == [Combo("e0", ("p0", "p3")), Combo("e2", ("p0", "p3"))] and every.missing == 0
    assert choose(store, TASKS["hard"], SPLITS, None, 0, listed).combos == [Combo("e2", ("p0", "p3"))]
    with pytest.raises(UserError, match="the list of --url has no combo of the 2 scenarios of SFT-round-1"):
        choose(store, TASKS["sft"], SPLITS, None, 0, [Combo("e9", ("p0", "p3"))])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no list of combos can be read there (HTTP Error 404"),
        ("x", "no list of combos can be read there (Expecting value"),
        ("[]", "expected a list of combos, found none"),
        ("{}", "expected a list of combos, found no list"),
        ('[{"env_id": "e", "agent_ids": ["a"]}]', "record 0: expected an env_id and two agent_ids, found"),
    ],
)
def test_an_address_without_combos_is_refused(at_address: Callable[[bytes], str], text: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        fetch_combos(at_address(text.encode()))
    assert fault in str(caught.value) and "secret" not in str(caught.value)
    with pytest.raises(UserError, match="expected an address, http://"):
        fetch_combos("file:///etc/passwd")
    with pytest.raises(UserError, match="the address cannot be read; expected http://"):
        fetch_combos("http://[::1")
    with pytest.raises(UserError, match="no list of combos can be read there"):
        fetch_combos("http://127.0.0.1:abc/")
