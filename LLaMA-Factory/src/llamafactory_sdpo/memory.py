"""The memory of a training by arithmetic, for one GPU (or process). An estimate: nothing is run.

Weights, gradients and the optimizer follow ZeRO (arXiv 1910.02054, section 3): under mixed precision a trained
parameter takes 2 + 2 bytes for itself and its gradient, and 4 + 8 for AdamW's float32 copy and moments, which is 16.
Without ZeRO the host trains in float32, 4 + 4 + 8, which is 16 as well. Activations follow arXiv 2205.05198, section
4.1: 34 bytes a token, a layer and a hidden unit at 16 bits, without attention scores, or 2 where they are
recomputed. They are rough: an architecture's own widths and the kernels decide.
"""

from typing import NamedTuple


GIB = 2**30
LAYER_BYTES = 34
"""Of a layer's activations, for a token and a hidden unit at 16 bits."""

OPTIMIZER_BYTES = (("8bit", 2.0), ("4bit", 1.0), ("adafactor", 0.0), ("adam", 8.0), ("lion", 4.0), ("sgd", 0.0))
"""A part of an optimizer's name -> bytes of its state for a parameter; Adafactor's rows and columns are few."""


class Model(NamedTuple):
    """What the arithmetic has to know of a model.

    Attributes:
        parameters: of the model, without adapters.
        trained: those of them that are trained.
        added: those of adapters.
        layers, hidden, vocabulary: of the architecture.
    """

    parameters: int
    trained: int
    added: int
    layers: int
    hidden: int
    vocabulary: int


class Setting(NamedTuple):
    """How a model is trained.

    Attributes:
        ranks: over which ZeRO shards.
        zero: its stage, 0 without it.
        offloaded: those of "weights" and "optimizer" that are in the machine's memory.
        width: bytes of a number that is computed with: 2 for bf16 and fp16, 4 for float32.
        frozen_width: bytes of a weight that is not trained, less than 2 if quantised.
        reference_width: of a weight of a reference of its own.
        is_pure: whether everything is kept in bf16 (`pure_bf16`).
        optimizer: its name.
        reference: of whom the reference's weights are: "none", "policy" (with its adapter off), "once" (a model of its
            own, for one pass before the first step), "always".
        tokens: in a forward pass.
        logits: of which of them logits are computed.
        recomputes: whether activations are computed again in the backward pass.
    """

    ranks: int
    zero: int
    offloaded: tuple[str, ...]
    width: int
    frozen_width: float
    reference_width: float
    is_pure: bool
    optimizer: str
    reference: str
    tokens: int
    logits: int
    recomputes: bool


def optimizer_bytes(name: str) -> float | None:
    """Return the bytes of an optimizer's state for a parameter; None if it is not known."""
    return next((size for part, size in OPTIMIZER_BYTES if part in name), None)


def parts(model: Model, setting: Setting) -> dict[str, float]:
    """Return the bytes of each part, of one rank, while a step runs."""
    trained = model.trained + model.added
    is_master = setting.zero > 0 and setting.width == 2 and not setting.is_pure
    own = 2 if is_master or setting.is_pure else 4
    # AdamW keeps its moments in the type of what it updates.
    state = (optimizer_bytes(setting.optimizer) or 0.0) / (2 if setting.is_pure else 1) + (4 if is_master else 0)
    shards = {part: setting.ranks if setting.zero >= stage else 1 for part, stage in
              (("optimizer", 1), ("gradients", 2), ("weights", 3))}  # fmt: skip
    frozen = (model.parameters - model.trained) * setting.frozen_width
    reference = model.parameters * setting.reference_width if setting.reference == "always" else 0
    sizes = {
        "weights": (frozen + trained * own) / shards["weights"],
        "gradients": trained * own / shards["gradients"],
        "optimizer": trained * state / shards["optimizer"],
        "reference": reference / shards["weights"],
        "activations": activations(model, setting),
        "logits": setting.logits * model.vocabulary * logit_bytes(setting.width),
    }
    # A reference is put where the policy's weights are.
    away = (*setting.offloaded, *(["reference"] if "weights" in setting.offloaded else []))
    return sizes | dict.fromkeys(away, 0.0)


def before_the_first_step(model: Model, setting: Setting) -> float:
    """Return the bytes of the pass of a reference of its own: the policy's weights and its own; 0 without such a pass.

    Under ZeRO the optimizer's state is there by then.
    """
    if setting.reference != "once":
        return 0.0
    during = parts(model, setting)
    own = model.parameters * setting.reference_width / (setting.ranks if setting.zero >= 3 else 1)
    own = 0.0 if "weights" in setting.offloaded else own
    return during["weights"] + own + (during["optimizer"] if setting.zero else 0.0)


def activations(model: Model, setting: Setting) -> float:
    """Return the bytes of the activations of a forward pass that the backward pass needs."""
    unit = setting.tokens * model.hidden * setting.width
    layer = unit * LAYER_BYTES / 2
    return model.layers * unit + layer if setting.recomputes else model.layers * layer


def logit_bytes(width: int) -> int:
    """Return the bytes of a logit, of its float32 copy in the loss, and of its gradient."""
    return width + 4 + width
