"""The demo's model: its tokenizer, its forward pass, and when it is built."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import ROOT

from llamafactory_sdpo.demo import build
from llamafactory_sdpo.demo.build import DEMO_MODEL, SHIPPED_DATA, ensure
from llamafactory_sdpo.demo.model import MAX_POSITIONS, SPECIAL_TOKENS, build_model, read_texts
from llamafactory_sdpo.errors import UserError


PAIRS = ROOT / "data" / "demo_pairs.json"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint built from the shipped files."""
    folder = tmp_path_factory.mktemp("demo") / "models" / "tiny"
    build_model(folder, read_texts([PAIRS]), seed=1)
    return folder


def test_tokenizer_round_trip(checkpoint: Path):
    """Special tokens are single ids, any text survives, and no token is added unasked."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert [tokenizer(token).input_ids for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>",
    )  # fmt: skip
    for text in ('{"action_type": "speak", "argument": "Hi."}', "café, 東京 🙂 \n\n x , y ."):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_model_is_small_and_runs(checkpoint: Path):
    """A forward pass gives one finite row of logits a token, and a rebuild with the same seed gives equal weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    ids = torch.tensor([tokenizer("Hello there").input_ids])
    logits = model(input_ids=ids).logits
    assert logits.shape == (1, ids.shape[1], len(tokenizer)) and torch.isfinite(logits).all()
    assert model.num_parameters() < 2_000_000 and model.config.max_position_embeddings == MAX_POSITIONS
    build_model(checkpoint.with_name("again"), read_texts([PAIRS]), seed=1)
    again = AutoModelForCausalLM.from_pretrained(checkpoint.with_name("again"))
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["again", "tiny"], "no part folder stays behind"


def test_no_text_is_refused(tmp_path: Path):
    """An empty list of texts is the user's mistake."""
    with pytest.raises(ValueError, match="no text"):
        build_model(tmp_path / "m", [])


def copy_data(root: Path) -> None:
    (root / "data").mkdir()
    for name in SHIPPED_DATA:
        shutil.copy(ROOT / "data" / name, root / "data")


def test_the_model_is_built_once_and_only_the_demos(tmp_path: Path, capsys):
    copy_data(tmp_path)
    ensure(tmp_path, tmp_path / "my own model")
    assert not (tmp_path / DEMO_MODEL).exists()
    ensure(tmp_path, DEMO_MODEL)
    assert (tmp_path / DEMO_MODEL / "model.safetensors").is_file()
    capsys.readouterr()
    ensure(tmp_path, DEMO_MODEL)
    assert capsys.readouterr().out == ""


def test_a_model_that_another_process_was_first_to_build_stays(tmp_path: Path, monkeypatch):
    """It may be read by then; what lies there without a whole model is replaced."""
    copy_data(tmp_path)
    own, made = tmp_path / DEMO_MODEL, build_model

    def build_beside(folder: Path, texts: Iterable[str]) -> None:
        made(folder, texts)
        own.mkdir(parents=True)
        (own / name).write_text("theirs", encoding="utf-8")

    monkeypatch.setattr(build, "build_model", build_beside)
    for name in ("config.json", "half"):
        ensure(tmp_path, DEMO_MODEL)
        left = [path.name for path in own.iterdir()]
        assert left == ["config.json"] if name == "config.json" else "half" not in left and "config.json" in left
        assert [path.name for path in own.parent.iterdir()] == [own.name]
        shutil.rmtree(own)


@pytest.mark.parametrize("name", SHIPPED_DATA)
def test_a_shipped_file_that_is_missing_is_named_with_how_to_get_it_back(tmp_path: Path, name):
    copy_data(tmp_path)
    (tmp_path / "data" / name).unlink()
    with pytest.raises(
        UserError, match=f"{name} is shipped, but does not exist; .*: git -C .* checkout -- data/{name}, or: python "
    ) as error:
        ensure(tmp_path, DEMO_MODEL)
    assert "\n" not in str(error.value) and not (tmp_path / DEMO_MODEL).exists()
