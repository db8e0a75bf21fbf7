"""Every key=value after train.sh in the pages is a key that training has, and every config is there."""

import sys

from conftest import ROOT


sys.path.append(str(ROOT.parent / "dpo" / "tests"))

from docs_commands import PAGES, commands  # noqa: E402

from llamafactory_sdpo.config_file import read_config  # noqa: E402
from llamafactory_sdpo.host.arguments import check_keys  # noqa: E402
from llamafactory_sdpo.host.install import install  # noqa: E402


SEEN_AT_LEAST = 10


def test_keys_in_the_pages_are_real():
    install()
    seen = 0
    for page in PAGES:
        for words in commands(page):
            if words[:2] == ["bash", "train.sh"]:
                keys = [word.partition("=")[0] for word in words[2:] if "=" in word and not word.startswith("[")]
                check_keys(dict.fromkeys(keys))
                seen += bool(keys)
    assert seen >= SEEN_AT_LEAST


def test_another_model_is_not_given_the_adapter_of_a_config():
    """The adapter that a config of ours names is one of the config's own model, and is not there for a reader's."""
    seen = 0
    for page in PAGES:
        for words in commands(page):
            keys = {word.partition("=")[0] for word in words if "=" in word}
            if words[:2] == ["bash", "train.sh"] and "model_name_or_path" in keys:
                has_adapter = "adapter_name_or_path" in read_config(ROOT.parent / words[2])
                assert not has_adapter or "adapter_name_or_path" in keys, " ".join(words)
                seen += has_adapter
    assert seen
