"""Load what a model is and how it reads text, without its weights; what cannot be loaded is one line."""

from collections.abc import Callable
from typing import Any

from ..errors import OptionError, one_line
from .names import load_config, load_tokenizer


def tokenizer_of(model_args: Any) -> dict[str, Any]:
    """Return the host's tokenizer of a model, and its processor, None for models of text.

    Raises:
        OptionError: if it is not there or cannot be read.
    """
    return _loaded(load_tokenizer, model_args)  # type: ignore[no-any-return]


def config_of(model_args: Any) -> Any:
    """Return a model's config.

    Raises:
        OptionError: if it is not there or cannot be read.
    """
    return _loaded(load_config, model_args)


def _loaded(load: Callable[[Any], Any], model_args: Any) -> Any:
    try:
        return load(model_args)
    except (OSError, ValueError) as err:
        name = model_args.model_name_or_path
        raise OptionError("model_name_or_path", f"model_name_or_path {name}: {reason(err)}") from None


def reason(err: Exception) -> str:
    """Return why something cannot be loaded: the host's own words for a tokenizer leave it out."""
    return one_line(err.__cause__ or err)[:300]
