"""`sotopia evaluate`: which stored scores are those of the sessions that are to be judged."""

from pathlib import Path

import pytest
from small_world import finished, make_run, small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.evaluate import evaluate
from sotopia_sdpo.judge.panel import parse_evaluator
from sotopia_sdpo.judge.rejudge import rescores, under
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.run.plan import items_of_combos
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
