"""Make the host know our stages. The only file that patches it beyond a `with` block.

Its fine-tuning arguments become ours, what it refuses becomes a UserError, its trainings stop at a NaN and after their
last step, its Ray launcher reserves what there is, and its DPO gives way to one of our stages if that is asked for,
also in the workers of Ray. Its own DPO computes the loss that `pref_loss` names.
"""

from functools import partial
from typing import Any

from torch import Tensor
from transformers import Trainer

from ..screen import quiet
from .arguments import FinetuningArguments, parse_args
from .checkpoints import load_on_numbered_cpus
from .names import CustomDPOTrainer, HostFinetuningArguments, get_device_count, host_parser, host_tuner
from .ray_cluster import enter_folder, run_on_ray
from .running import run_epoch, run_training
from .seams import seam
from .stages import run_dpo
from .webui import find_our_commands, names_of_stages, parse_train_args


_HostTrainer: Any = Trainer
_trl_dpo_loss = seam(CustomDPOTrainer, "dpo_loss", "loss_type")


def install() -> None:
    """Make the host know our stages, in this process; a second call changes nothing."""
    quiet.quieten(has_gpu=get_device_count() > 0)
    quiet.stop_bars()
    for name in ("_TRAIN_ARGS", "_TRAIN_MCA_ARGS", "_INFER_ARGS", "_EVAL_ARGS"):
        classes: list[type] = seam(host_parser, name)
        classes[:] = [FinetuningArguments if kind is HostFinetuningArguments else kind for kind in classes]
    if seam(host_tuner, "run_dpo") is not run_dpo:
        seam(host_tuner, "run_dpo", "model_args", "data_args", "training_args", "finetuning_args", "callbacks")
        host_tuner.run_dpo = run_dpo
        host_tuner.get_train_args = partial(parse_args, seam(host_tuner, "get_train_args", "args"))
        host_tuner.Worker = RayWorker
        host_tuner._ray_training_function = partial(
            run_on_ray, seam(host_tuner, "_ray_training_function", "ray_args", "config")
        )
        host_tuner._training_function = partial(run_training, seam(host_tuner, "_training_function", "config"))
        CustomDPOTrainer.dpo_loss = dpo_loss
        load_on_numbered_cpus()
        _HostTrainer._run_epoch = run_epoch


def install_board() -> None:
    """Make the host's board know our stages; a second call changes nothing."""
    # Heavy: it loads gradio.
    from llamafactory.extras import constants
    from llamafactory.webui.runner import Runner

    stages = seam(constants, "TRAINING_STAGES")
    if not names_of_stages().keys() & stages.keys():
        stages.update(names_of_stages())
        host = seam(Runner, "_parse_train_args", "data")
        Runner._parse_train_args = lambda runner, data: parse_train_args(host, runner, data)
        find_our_commands()


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
        enter_folder()
        super()._training_function(config)
