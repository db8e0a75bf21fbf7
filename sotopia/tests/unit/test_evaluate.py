"""`sotopia evaluate`: which stored scores are those of the sessions that are to be judged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_world import VERDICT, finished, make_run, small_store

from sotopia_sdpo import evaluate as command
from sotopia_sdpo.account import ACCOUNT, Missed, read_account
from sotopia_sdpo.errors import EXIT_INCOMPLETE, UserError
from sotopia_sdpo.evaluate import evaluate
from sotopia_sdpo.judge.panel import parse_evaluator
from sotopia_sdpo.judge.rejudge import rescores, under
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.run import execute
from sotopia_sdpo.run import runner as pool
from sotopia_sdpo.run.plan import items_of_combos
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.combos import Combo


OTHER = "custom/other@http://127.0.0.1:1/v1"


def test_another_run_of_the_same_models_is_not_judged_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two commands with one --output-tag: the second one's sessions would be taken for the first one's."""
    url = f"sqlite:///{tmp_path}/small.db"
    with small_store(tmp_path) as store:
        for tag in ("one", "same", "two"):
            for item in items_of_combos(make_run(), [Combo(f"e{i}", ("p0", "p1")) for i in range(2)]):
                said = [[("p0", "Environment", "left" if tag == "two" else "did nothing")]]
                changes = {"messages": said, "tag": tag, "pk": f"{tag}-{item.combo.environment}"}
                store.put_episode(finished(item).model_copy(update=changes))
        judged = parse_evaluator(OTHER, "mean", 1)
        for item in rescores(store.heads(["one"]), judged, "new"):
            source = store.get_episode(item.source)
            assert source
            models = [judged.name, *source.models[1:]]
            store.put_episode(under(item.key, source).model_copy(update={"models": models}))

    def again(tag: str) -> int:
        return evaluate([tag], OTHER, url, None, "new", Limits())

    assert again("one") == 0 and "2 sessions, 2 judged before" in capsys.readouterr().err
    assert again("same") == 0
    with pytest.raises(UserError, match="tag new: its session .* is another one than two-e0 of tag two, on the same"):
        again("two")


def judging(patch: pytest.MonkeyPatch, before: Callable[[Episode], object]) -> None:
    """Have every session judged at once, after something has happened."""

    async def rejudge(_: object, evaluator: Any, stored: Episode) -> tuple[Episode, bool]:
        before(stored)
        verdict = (1.0, VERDICT)
        models = [evaluator.name, *stored.models[1:]]
        return stored.model_copy(update={"status": "scored", "rewards": [verdict] * 2, "models": models}), False

    patch.setattr(execute, "rejudge", rejudge)
    patch.setattr(command, "probe", lambda *_: None)


def sampled(store: Store) -> list[Episode]:
    """Store the sessions of a run, in their order."""
    items = items_of_combos(make_run(), [Combo(f"e{i}", ("p0", "p1")) for i in range(3)])
    made = [finished(item).model_copy(update={"tag": "one", "pk": f"one-{n}"}) for n, item in enumerate(items)]
    store.put_entries(("episodes", episode) for episode in made)
    return made


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("new", "1 of the episodes that count as done are not there any more, such as e0/p0/p1 of tag new"),
        ("one", "session one-2 was there when this began, and is not any more; look whether its tag was deleted"),
    ],
    ids=["what was judged before", "what is to be judged"],
)
def test_what_somebody_deletes_meanwhile_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tag: str, said: str
) -> None:
    monkeypatch.setenv(ACCOUNT, str(tmp_path / "account"))
    url = f"sqlite:///{tmp_path}/small.db"
    with small_store(tmp_path) as store:
        made = sampled(store)
        (first,) = rescores([made[0].head], parse_evaluator(OTHER, "mean", 1), "new")
        models = [first.evaluator.name, *made[0].models[1:]]
        store.put_episode(under(first.key, made[0]).model_copy(update={"models": models}))
        gone = {"new": first.key.pk, "one": made[2].pk}[tag]
        judging(monkeypatch, lambda _: store.delete_episodes([gone]))
        assert evaluate(["one"], OTHER, url, None, "new", Limits(concurrency=1)) == EXIT_INCOMPLETE
        assert len(store.heads(["new"])) == 2
    err = capsys.readouterr().err
    assert "3 sessions, 1 judged before" in err and f"stopped early: sqlite:///{tmp_path}/small.db: {said}" in err
    missed = read_account(tmp_path / "account")
    assert missed and missed == Missed(1, 3, "episodes", missed.reason, is_stopped=True) and said in missed.reason


def test_another_judge_who_fills_the_tag_at_the_same_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is stored when both begin; what the other one has stored is no judgement of this one's."""
    monkeypatch.setattr(pool, "LOOK_AGAIN_S", 0.05)
    url = f"sqlite:///{tmp_path}/small.db"
    with small_store(tmp_path) as store:
        made = sampled(store)
        (last,) = rescores([made[2].head], parse_evaluator(OTHER.replace("other", "third"), "mean", 1), "new")
        models = [last.evaluator.name, *made[2].models[1:]]
        theirs = under(last.key, made[2]).model_copy(update={"models": models})
        judging(monkeypatch, lambda _: store.put_episode(theirs))
        with pytest.raises(UserError, match="tag new: its episodes are judged by .*third.*, not by .*other"):
            evaluate(["one"], OTHER, url, None, "new", Limits(concurrency=1))
