"""Make the host know our stages. The only file that patches it beyond a `with` block.

Its fine-tuning arguments become ours, what it refuses becomes a UserError, its trainings stop at a NaN, and its DPO
gives way to one of our stages if that is asked for, also in the workers of its Ray launcher. Its own DPO computes the
loss that `pref_loss` names.
"""

from functools import partial
from typing import Any

from torch import Tensor

from .arguments import FinetuningArguments, parse_args
from .names import CustomDPOTrainer, HostFinetuningArguments, host_parser, host_tuner
from .running import run_training
from .seams import seam
from .stages import run_dpo


_trl_dpo_loss = seam(CustomDPOTrainer, "dpo_loss", "loss_type")


def install() -> None:
    """Make the host know our stages, in this process; a second call changes nothing."""
    for name in ("_TRAIN_ARGS", "_TRAIN_MCA_ARGS", "_INFER_ARGS", "_EVAL_ARGS"):
        classes: list[type] = seam(host_parser, name)
        classes[:] = [FinetuningArguments if kind is HostFinetuningArguments else kind for kind in classes]
    if seam(host_tuner, "run_dpo") is not run_dpo:
        seam(host_tuner, "run_dpo", "model_args", "data_args", "training_args", "finetuning_args", "callbacks")
        host_tuner.run_dpo = run_dpo
        host_tuner.get_train_args = partial(parse_args, seam(host_tuner, "get_train_args", "args"))
        host_tuner.Worker = RayWorker
        host_tuner._training_function = partial(run_training, seam(host_tuner, "_training_function", "config"))
        CustomDPOTrainer.dpo_loss = dpo_loss


def dpo_loss(trainer: Any, *logps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return TRL's losses and rewards for `pref_loss`.

    The host keeps the name in `loss_type`, where TRL 0.24 no longer looks: left out, the loss is the sigmoid one.
    """
    losses, chosen, rejected = _trl_dpo_loss(trainer, *logps, loss_type=trainer.loss_type)
    # The host adds `pref_ftx` in place, which the gradient of the hinge loss does not bear.
    return losses.clone(), chosen, rejected


_HostWorker: Any = seam(host_tuner, "Worker")


class RayWorker(_HostWorker):
    """A worker of the host's Ray launcher; unpickling it imports this module, and running it installs our stages."""

    def _training_function(self, config: dict[str, Any]) -> None:
        install()
        super()._training_function(config)
