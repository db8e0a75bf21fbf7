"""Print the lines of a training as it goes on, from the first of all ranks."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm
from transformers import TrainerCallback

from .lines import duration, end_line, evaluation_lines, folded, step_line


EVERY_S = 60.0
"""Between two lines of what takes long, where there is no terminal for a bar."""

Item = TypeVar("Item")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def has_terminal() -> bool:
    """Return whether a bar can be shown."""
    return sys.stderr.isatty()


def progress(items: Iterable[Item], name: str, total: int) -> Iterator[Item]:
    """Yield items, and show how far they are: a bar that goes in the end, or a line a minute, and one in the end."""
    begin = said = time.monotonic()
    for done, item in enumerate(tqdm(items, name, total, leave=False, disable=not has_terminal())):
        if done and time.monotonic() - said > EVERY_S and not has_terminal():
            said = time.monotonic()
            say(f"{name}  {done}/{total}  {duration((said - begin) / done * (total - done))} left")
        yield item
    say(f"{name}  {total}/{total}  in {duration(time.monotonic() - begin)}")


class Screen(TrainerCallback):
    """Prints a line for each logged step and evaluation, in the place of transformers' bar and dicts."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self._first_step = 0
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say where a training goes on: what an earlier one has done, with whatever options, is not done again."""
        if state.is_world_process_zero and state.global_step:
            whence = f"goes on from {args.resume_from_checkpoint}, of step {state.global_step}"
            say(folded(f"{whence}; overwrite_output_dir: true begins anew"))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock with the first step: what comes before it is no measure of those to come."""
        if self._begin is None:
            self._begin, self._first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print what was logged."""
        if not state.is_world_process_zero or not logs:
            return
        if "train_runtime" in logs:
            say(end_line(logs, state.global_step))
        elif "loss" in logs:
            say(step_line(logs, state.global_step, state.max_steps, self._left_s(state)))
        else:
            for line in evaluation_lines(logs, state.global_step, state.max_steps):
                say(line)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Show a bar on a terminal."""
        if state.is_world_process_zero and has_terminal() and hasattr(eval_dataloader, "__len__"):
            self._bar = self._bar or tqdm(total=len(eval_dataloader), desc="held out", leave=False)
            self._bar.update()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Take the bar away."""
        self.on_evaluate(args, state, control)

    def _left_s(self, state: Any) -> float | None:
        done = state.global_step - self._first_step
        if self._begin is None or done <= 0:
            return None
        return float((time.monotonic() - self._begin) / done * (state.max_steps - state.global_step))
