"""A row in the table of stages is a stage: parsed, paired, masked, scored and trained, and nothing else names it."""

import subprocess
import sys

import oracle
import pytest
import small
from dialogues import pair
from test_loss import POLICY, REFERENCE, TEMPLATE, TOKENIZER, encode, messages_of, trainer_for

from llamafactory_sdpo.data.encoding import IGNORE_INDEX
from llamafactory_sdpo.data.pairing import Rules
from llamafactory_sdpo.host.arguments import FinetuningArguments
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner
from llamafactory_sdpo.stages import STAGES, Stage


install()

HISTORY, WORSE, BETTER = ["u0", "a0", "u1"], ["a1", "u2", "a2"], ["b1", "w2", "b2"]
LATE = Stage("late", "segment", lambda turn, turns, gamma: (turn + 1) / turns, True, "later turns count more")
LAST = Stage("last", "session", lambda turn, turns, gamma: float(turn == turns - 1), False, "the last turn alone")


@pytest.fixture(params=[LATE, LAST], ids=lambda row: row.name)
def row(request, monkeypatch) -> Stage:
    """A stage that is not shipped, put into the table and nowhere else."""
    monkeypatch.setitem(STAGES, request.param.name, request.param)
    return request.param


def test_it_is_parsed(row):
    arguments = FinetuningArguments(stage=row.name)
    assert (arguments.pair_stage, arguments.stage, arguments.to_dict()["stage"]) == (row.name, "dpo", row.name)
    with pytest.raises(ValueError, match=f"did you mean {row.name}?"):
        FinetuningArguments(stage=f"{row.name}x")
    if row.scores == "segment":
        FinetuningArguments(stage=row.name, segment_scope="turn")
    else:
        with pytest.raises(ValueError, match="`segment_scope: turn` belongs to stage sdpo"):
            FinetuningArguments(stage=row.name, segment_scope="turn")
    assert small.arguments(stage=row.name)[3].pair_stage == row.name


def test_its_masks_by_hand(row):
    """Two scored turns weigh 1/2 and 1; or the last of three agent turns alone is scored."""
    (encoded,) = encode(pair(HISTORY, WORSE, BETTER), Rules(row.name))
    batch = trainer_for(row.name).data_collator([encoded])
    texts = [TOKENIZER.decode(labels[labels != IGNORE_INDEX]) for labels in batch["labels"]]
    weights = [sorted(set(side[side > 0].tolist())) for side in small.token_weights(batch)]
    end = "<|eot_id|>"
    if row is LATE:
        assert texts == [f"b1{end}b2{end}", f"a1{end}a2{end}"] and weights == [[0.5, 1.0]] * 2
    else:
        assert texts == [f"b2{end}", f"a2{end}"] and weights == [[1.0]] * 2


def test_its_loss_is_the_oracles(row, monkeypatch):
    """The oracle counts the agent turns of the dialogue from 1: of three, the last two are scored, or the last."""
    expected_weights = {LATE.name: {2: 0.5, 3: 1.0}, LAST.name: {3: 1.0}}[row.name]
    monkeypatch.setattr(oracle, "turn_weight", lambda stage, t, total, gamma: expected_weights.get(t, 0.0))
    sides = [oracle.encode_side(TEMPLATE, TOKENIZER, messages_of(HISTORY + side)) for side in (BETTER, WORSE)]
    expected = oracle.pair_loss(POLICY, REFERENCE, *sides, (1, 3), (1, 3), row.name, beta=0.3)
    trainer = trainer_for(row.name)
    batch = trainer.data_collator(encode(pair(HISTORY, WORSE, BETTER), Rules(row.name)))
    loss, _ = trainer.get_batch_loss_metrics(POLICY, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("may_shorten", [True, False])
def test_it_is_trained_and_shortened_as_its_row_says(tmp_path, monkeypatch, caplog, row, may_shorten):
    """Twelve pairs, half of them with a history that can lose a turn; the cutoff lets only shorter ones through."""
    monkeypatch.setitem(STAGES, row.name, row._replace(may_shorten=may_shorten))
    history = ["You are Ann.", '{"say": "hello, hello, hello"}', "Hm.", '{"say": "yes"}', "So?"]
    monkeypatch.setattr(small, "PAIRS", [(history[: 1 + 4 * (n % 2)], n) for n in range(12)])
    small.write_data(tmp_path / "data")
    small.write_model(tmp_path / "model")
    options = {"stage": row.name, "cache_dir": str(tmp_path / "cache")}
    host_tuner.run_exp(small.config(tmp_path, **options))
    found = small.losses(tmp_path / "out")
    assert found[0] == pytest.approx(0.693147, abs=1e-5) and found[-1] < found[0]
    scored_turns = {LATE.name: 2, LAST.name: 1}[row.name]
    assert small.history(tmp_path / "out")[0]["turns/chosen"] == scored_turns
    host_tuner.run_exp(small.config(tmp_path, **options, cutoff_len=80))
    lost, shortened = (0, 6) if may_shorten else (6, 0)
    assert f"of 12 pairs {lost} were longer than cutoff_len 80 and skipped, {shortened} lost turns" in caplog.text


def test_the_help_lists_the_table():
    """In a process of its own, since the host reads the choices of an option once."""
    script = (
        "from llamafactory_sdpo import stages\n"
        "stages.STAGES['late'] = stages.Stage('late', 'segment', stages.equal_weight, True, 'later turns count more')\n"
        "from transformers import HfArgumentParser\n"
        "from llamafactory_sdpo.host.arguments import FinetuningArguments\n"
        "parser = HfArgumentParser(FinetuningArguments)\n"
        "print(' '.join(parser.format_help().split()))\n"
        "print(parser.parse_args_into_dataclasses(['--stage', 'late'])[0].pair_stage)\n"
        "parser.parse_args_into_dataclasses(['--stage', 'early'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    shown, parsed = done.stdout.splitlines()[-2:]
    assert "--stage {pt,sft,rm,ppo,dpo,kto,sdpo,eto,dmpo,late}" in shown and parsed == "late"
    for stage in STAGES.values():
        assert f"{stage.name}: {stage.help}" in shown
    assert "late: later turns count more" in shown
    assert done.returncode == 2 and "invalid choice: 'early'" in done.stderr
