"""One contender of training.py in a process of its own: makes the pairs and the models, then does what it is told.

Reads commands from stdin, one a line, and answers each with a line of JSON. Every contender gets the same token ids,
masks and weights, made from seeds, whichever versions of the libraries its environment has.

    python benchmarks/training_worker.py CONTENDER '{"history": 900, ...}'
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from training_models import (
    DEVICE,
    POLICY_SEED,
    REFERENCE_SEED,
    Row,
    make_model,
    make_rows,
    make_tokenizer,
    operations,
)


BETA = 0.1
LEARNING_RATE = 1e-5


class Contender:
    """A way to train: subclasses say what a step's loss is, and how a whole run goes."""

    def __init__(self, sizes: SimpleNamespace, folder: Path) -> None:
        self.sizes, self.folder = sizes, folder
        self.model = make_model(sizes, POLICY_SEED)
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=0.0)

    def make_reference(self) -> Any:
        """The reference's weights; None if it is the model without its adapter."""
        return None if self.sizes.lora else make_model(self.sizes, REFERENCE_SEED).eval()

    def loss(self) -> Tensor:
        """Compute the loss of one batch."""
        raise NotImplementedError

    def step(self) -> dict[str, float]:
        """Time one step: loss, gradients, an update that changes nothing."""
        # As trainers do in every step; a model that is not training goes without checkpointing.
        self.model.train()
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        norms = [weight.grad.float().norm() for weight in self.trained]
        norm = torch.stack(norms).norm().item()
        self.optimizer.zero_grad()
        return {"seconds": seconds, "cpu_s": cpu_s, "loss": value, "gradient": norm}


class Limit(Contender):
    """A plain causal language model over as many distinct tokens, logits only where as many tokens are scored."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        sizes = self.sizes
        scored = 2 * sum(label != -100 for label in make_rows(sizes, 1)[0]["chosen_labels"])
        draw = torch.Generator().manual_seed(0)
        shape = (sizes.pairs, sizes.history + 2 * sizes.segment)
        self.ids = torch.randint(2, sizes.vocabulary, shape, generator=draw).to(DEVICE)
        self.kept = scored

    def loss(self) -> Tensor:
        """Predict the last tokens of every row."""
        logits = self.model(self.ids, logits_to_keep=self.kept, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), self.ids[:, -self.kept :].flatten())


class Host(Contender):
    """The host's own DPO trainer, whose labels are those of the segment; the reference runs in every step."""

    is_ours = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.trainer = self.make_trainer(make_rows(self.sizes, self.sizes.pairs))
        self.batch = self.prepare_batch()

    def make_trainer(self, rows: list[Row]) -> Any:
        """A trainer around both models, with the settings of a run."""
        from datasets import Dataset
        from llamafactory.data.template import TEMPLATES
        from llamafactory.hparams.training_args import TrainingArguments

        from llamafactory_sdpo.host.arguments import FinetuningArguments
        from llamafactory_sdpo.host.names import CustomDPOTrainer
        from llamafactory_sdpo.host.stages import prepare_reference
        from llamafactory_sdpo.step.masks import SegmentDataCollator
        from llamafactory_sdpo.step.references import References
        from llamafactory_sdpo.step.trainer import SegmentTrainer

        arguments = TrainingArguments(
            output_dir=str(self.folder), per_device_train_batch_size=self.sizes.pairs, num_train_epochs=2,
            learning_rate=LEARNING_RATE, report_to="none",
            remove_unused_columns=False, save_strategy="no", disable_tqdm=True, use_cpu=DEVICE == "cpu",
        )  # fmt: skip
        tokenizer = make_tokenizer()
        collator = SegmentDataCollator(template=TEMPLATES["llama3"], model=self.model, tokenizer=tokenizer)
        stage = "sdpo" if self.is_ours else "dpo"
        tuning = FinetuningArguments(stage=stage, finetuning_type="full", pref_beta=BETA)
        common = {
            "model": self.model, "args": arguments, "finetuning_args": tuning, "tokenizer": tokenizer,
            "processor": None, "train_dataset": Dataset.from_list(rows),
        }  # fmt: skip
        if self.is_ours:
            table = self.folder / "references"
            references = References(lambda: None, self.make_reference, prepare_reference, table)
            return SegmentTrainer(ref_model=None, references=references, data_collator=collator, **common)

        def host_collator(features: list[Row]) -> dict[str, Tensor]:
            batch = collator(features)
            return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}

        return CustomDPOTrainer(ref_model=self.make_reference(), data_collator=host_collator, **common)

    def prepare_batch(self) -> dict[str, Tensor]:
        """The one batch of all steps."""
        rows = list(self.trainer.train_dataset)
        return {name: value.to(DEVICE) for name, value in self.trainer.data_collator(rows).items()}

    def loss(self) -> Tensor:
        """What the trainer computes in a step, its log included."""
        return self.trainer.get_batch_loss_metrics(self.model, dict(self.batch))[0]

    def run(self) -> dict[str, float]:
        """Time two epochs, without making the models and the pairs."""
        trainer = self.make_trainer(make_rows(self.sizes, self.sizes.run_pairs))
        started, cpu_started = time.perf_counter(), time.process_time()
        trainer.train()
        return {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu_started}


class Ours(Host):
    """The trainer of our stages; the reference runs before the first step."""

    is_ours = True

    def prepare_batch(self) -> dict[str, Tensor]:
        """Ask the reference, as training would when it begins."""
        self.trainer._references.on_train_begin()
        return super().prepare_batch()


class Trl(Contender):
    """TRL's DPOTrainer with its reference precomputed; its dataset is one of words, its batch is ours."""

    def __init__(self, *args: Any) -> None:
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer
        from trl.trainer.dpo_trainer import DataCollatorForPreference

        super().__init__(*args)
        arguments = DPOConfig(
            output_dir=str(self.folder), beta=BETA, report_to="none", use_cpu=DEVICE == "cpu", max_length=None,
            bf16=False, precompute_ref_log_probs=True, gradient_checkpointing=False, disable_tqdm=True,
        )  # fmt: skip
        words = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
        self.trainer = DPOTrainer(self.model, args=arguments, train_dataset=words, processing_class=make_tokenizer())
        features = []
        for row in make_rows(self.sizes, self.sizes.pairs):
            sides = {f"{side}_ids": row[f"{side}_input_ids"][self.sizes.history :] for side in ("chosen", "rejected")}
            features.append({"prompt_ids": row["chosen_input_ids"][: self.sizes.history], **sides})
        batch = DataCollatorForPreference(pad_token_id=0)(features)
        batch = {name: value.to(DEVICE) for name, value in batch.items()}
        reference = self.make_reference()
        with self.model.disable_adapter() if reference is None else nullcontext():
            logps = self._logps(reference or self.model, batch)
        self.batch = {**batch, "ref_chosen_logps": logps[0], "ref_rejected_logps": logps[1]}

    @staticmethod
    @torch.no_grad()
    def _logps(model: Any, batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
        tokens = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        return (tokens * batch["completion_mask"][:, 1:]).sum(-1).view(2, -1)

    def loss(self) -> Tensor:
        """What the trainer computes in a step."""
        return self.trainer.compute_loss(self.model, dict(self.batch))


class Swift(Contender):
    """ms-swift's DPO trainer: its forward and its loss on our batch, without its arguments and templates.

    It keeps logits from the first label on and runs the reference in every step; it refuses to precompute.
    """

    def __init__(self, *args: Any) -> None:
        from accelerate import Accelerator
        from accelerate.utils import convert_outputs_to_fp32
        from swift.rlhf_trainers import DPOTrainer

        super().__init__(*args)
        self.trainer = trainer = DPOTrainer.__new__(DPOTrainer)
        trainer.model, trainer.ref_model, trainer.ref_adapter_name = self.model, self.make_reference(), None
        trainer.accelerator = Accelerator(cpu=DEVICE == "cpu")
        for model in filter(None, (trainer.model, trainer.ref_model)):
            # As training in bf16 wraps a model; swift sums what it is given.
            model.forward = convert_outputs_to_fp32(model.forward)
        trainer.args = SimpleNamespace(ld_alpha=None, use_logits_to_keep=True)
        trainer.template = SimpleNamespace(sequence_parallel_size=1, padding_free=False, packing=False)
        trainer.is_encoder_decoder = trainer.aux_loss_enabled = trainer.reference_free = False
        trainer._peft_has_been_casted_to_bf16 = False
        trainer.label_pad_token_id, trainer.label_smoothing = -100, 0.0
        trainer.beta, trainer.f_divergence_type, trainer.f_divergence_params = BETA, "reverse_kl", {}
        rows = make_rows(self.sizes, self.sizes.pairs)
        sides = [(row, side) for side in ("chosen", "rejected") for row in rows]
        self.batch = {
            "input_ids": torch.tensor([row[f"{side}_input_ids"] for row, side in sides], device=DEVICE),
            "labels": torch.tensor([row[f"{side}_labels"] for row, side in sides], device=DEVICE),
        }
        self.batch["attention_mask"] = torch.ones_like(self.batch["input_ids"])

    def loss(self) -> Tensor:
        """What the trainer computes in a step, but for its log."""
        output = self.trainer.concatenated_forward(self.model, self.batch)
        reference = self.trainer.compute_ref_log_probs(self.batch)
        losses, *_ = self.trainer.dpo_loss(output["chosen_logps"], output["rejected_logps"], *reference)
        return losses.mean()


CONTENDERS: dict[str, type[Contender]] = {"limit": Limit, "host": Host, "ours": Ours, "trl": Trl, "swift": Swift}


def resident_bytes(key: str) -> int:
    """A line of this process's memory; VmRSS is now, VmHWM the most since the last reset."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(key))


def peak_of(work: Callable[[], Any]) -> int:
    """The most memory that was taken while some work was done: of the GPU if there is one."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return resident_bytes("VmHWM")


def main() -> None:
    """Answer commands until stdin ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, sizes = sys.argv[1], SimpleNamespace(**json.loads(sys.argv[2]))
    import transformers  # noqa: F401

    if name in ("host", "ours"):
        import llamafactory_sdpo.host.stages  # noqa: F401
    before = 0 if DEVICE == "cuda" else resident_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        contender = CONTENDERS[name](sizes, Path(folder))
        commands: dict[str, Callable[[], dict[str, float]]] = {
            "step": contender.step,
            "run": getattr(contender, "run", dict),
            "memory": lambda: {"bytes": peak_of(contender.step) - before},
        }
        about = {"device": DEVICE, "operations": operations(contender.model, sizes)}
        if DEVICE == "cuda":
            about["gpu"] = torch.cuda.get_device_name()
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(commands[line.strip()]()), file=answers, flush=True)


if __name__ == "__main__":
    main()
