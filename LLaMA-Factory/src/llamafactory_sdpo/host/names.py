"""The modules, classes and functions of the host that we use, imported here alone, after a check of its version."""

# ruff: noqa: E402, F401

from .seams import check_host_version


check_host_version()

from llamafactory.data import loader as host_loader
from llamafactory.data.collator import PairwiseDataCollatorWithPadding
from llamafactory.data.data_utils import merge_dataset
from llamafactory.data.parser import DatasetAttr, get_dataset_list
from llamafactory.data.processor import UnsupervisedDatasetProcessor
from llamafactory.data.template import TEMPLATES, Llama2Template, ReasoningTemplate, get_template_and_fix_tokenizer
from llamafactory.extras.constants import IGNORE_INDEX
from llamafactory.extras.misc import find_available_port, get_device_count, is_env_enabled, use_kt, use_ray
from llamafactory.hparams import FinetuningArguments as HostFinetuningArguments
from llamafactory.hparams import parser as host_parser
from llamafactory.model import load_config, load_tokenizer
from llamafactory.train import trainer_utils as host_trainer_utils
from llamafactory.train import tuner as host_tuner
from llamafactory.train.dpo import trainer as host_dpo_trainer
from llamafactory.train.dpo import workflow as host_dpo_workflow
from llamafactory.train.dpo.trainer import CustomDPOTrainer
from llamafactory.train.kto import workflow as host_kto_workflow
from llamafactory.train.ppo import workflow as host_ppo_workflow
from llamafactory.train.pt import workflow as host_pt_workflow
from llamafactory.train.rm import workflow as host_rm_workflow
from llamafactory.train.sft import workflow as host_sft_workflow
