"""Kept files of encoded pairs: a damaged one is named and made again."""

import logging
from pathlib import Path

import oracle
import pytest
import small
from datasets import load_from_disk

from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host import kept
from llamafactory_sdpo.host.data import prepare_pairs
from llamafactory_sdpo.host.install import install


install()


def halved(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def flipped(raw: bytes) -> bytes:
    """Some bits of the last numbers, which no reader would notice."""
    return raw[:-400] + bytes(byte ^ 1 for byte in raw[-400:-396]) + raw[-396:]


@pytest.fixture
def prepare(tmp_path):
    small.write_data(tmp_path / "data")
    (tmp_path / "model").mkdir()
    oracle.toy_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")

    def prepared(**options: object) -> list[Path]:
        prepare_pairs(small.config(tmp_path, cache_dir=str(tmp_path / "cache"), **options))
        return sorted((tmp_path / "cache").rglob("*.arrow"))

    return prepared


@pytest.mark.parametrize("damage", [halved, flipped, lambda raw: b"", lambda raw: b"x" * len(raw)])
def test_a_damaged_file_is_named_and_made_again(prepare, caplog, damage):
    """The rows of the generator, and those that are encoded from them."""
    files = prepare()
    assert len(files) == 2
    before = {path: path.read_bytes() for path in files}
    for path in files:
        path.unlink()  # a copy may still map it
        path.write_bytes(damage(before[path]))
        with caplog.at_level(logging.WARNING):
            assert prepare() == files
        assert f"{path} is damaged; its pairs are read and encoded again" in caplog.text
        assert path.read_bytes() == before[path]
    caplog.clear()
    prepare()
    assert "damaged" not in caplog.text


def test_a_file_of_the_users_is_not_removed(prepare, tmp_path):
    folder = tmp_path / "tokenized"
    prepare(tokenized_path=str(folder))
    (file,) = folder.rglob("*.arrow")
    assert len(load_from_disk(str(folder))["train"]) == 12
    file.write_bytes(halved(file.read_bytes()))
    with pytest.raises(UserError, match="tokenized_path .*arrow is damaged; remove the folder"):
        prepare(tokenized_path=str(folder))
    assert file.exists()


def test_a_disk_that_damages_every_file():
    def load() -> None:
        raise kept.Damaged("/none/cache-1.arrow")

    with pytest.raises(UserError, match="/none/cache-1.arrow is damaged again after it was written anew"):
        kept.made_again(load, None)
