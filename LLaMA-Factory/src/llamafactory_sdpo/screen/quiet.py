"""Leave out what others say at every training and nobody can act on: each warning by its name, none by its level.

Imports nothing heavy, so that it can come before what reads the environment when it is imported.
"""

import logging
import os
import re
import sys
import warnings
from typing import NamedTuple


class Known(NamedTuple):
    """A warning that is left out.

    Attributes:
        source: the module that says it.
        message: how it begins, as a regular expression.
        logger: by which it is said; "" for one of Python's `warnings`.
        on_gpu: whether it is left out on a machine with a GPU too.
    """

    source: str
    message: str
    logger: str = ""
    on_gpu: bool = True


KNOWN = (
    # There is no GPU, as the first line of a training on one would say otherwise.
    Known("deepspeed.accelerator.real_accelerator", "Setting accelerator to CPU", "DeepSpeed"),
    # On a CPU it would be slower.
    Known("llamafactory.hparams.parser", "We recommend enable mixed precision", "llamafactory.hparams.parser", False),
    # Evaluation comes after the figures, which are drawn again then.
    Known("llamafactory.extras.ploting", "No metric eval_", "llamafactory.extras.ploting"),
    # Names that the host and trl give to options of each other.
    Known("transformers.configuration_utils", "`torch_dtype` is deprecated", "transformers.configuration_utils"),
    Known("transformers.modeling_utils", "`torch_dtype` is deprecated", "transformers.modeling_utils"),
    Known("trl.trainer.dpo_trainer", "The `padding_value` property is deprecated"),
    # Fewer processes than were allowed, for a file that one reads at once.
    Known("datasets.builder", "Setting num_proc from", "datasets.builder"),
    Known("torch.utils.data.dataloader", "'pin_memory' argument is set as true but no accelerator"),
)  # fmt: skip

SHORT_S = "1"
"""Seconds that a bar must last to be shown."""


class _Without(logging.Filter):
    """Lets everything pass but one message."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.known = known

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to say it."""
        return not re.match(self.known.message, record.getMessage())


def prepare() -> None:
    """Keep bars that would only flash up, and what every machine says, off the screen, before the heavy imports."""
    # tqdm reads this when it is imported.
    os.environ.setdefault("TQDM_DELAY", SHORT_S)
    # Building the demo's model imports DeepSpeed before the host is asked whether there is a GPU.
    quieten(has_gpu=True)


def quieten(has_gpu: bool) -> None:
    """Leave the known warnings out, in this process; a second call changes nothing."""
    for known in KNOWN:
        if has_gpu and not known.on_gpu:
            continue
        if not known.logger:
            warnings.filterwarnings("ignore", known.message, module=re.escape(known.source))
            continue
        logger = logging.getLogger(known.logger)
        if not any(isinstance(found, _Without) and found.known == known for found in logger.filters):
            logger.addFilter(_Without(known))


def stop_bars() -> None:
    """Have no bars where no terminal shows them, or where another rank does."""
    if sys.stderr.isatty() and os.environ.get("LOCAL_RANK", "0") == "0":
        return
    # Heavy.
    import datasets
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
