"""Where the training side's example configs are, and the runs."""

from sotopia_sdpo.places import CHECKOUT, DATA, TRAINING
from sotopia_sdpo.store.urls import data_home


EXAMPLES = TRAINING / "examples"
RUNS = DATA if CHECKOUT else data_home()
DEMO_SERVING = (EXAMPLES / "inference" / "demo_hf.yaml", EXAMPLES / "inference" / "demo_vllm.yaml")
"""The demo's model on the host's engine and on vLLM. Which of them it is changes how fast it answers, not what."""
