"""Write a log of an agent with tools, in the form of tau-bench's results, and the descriptions of its tools.

    python tools/demo_logs.py --out dpo                  # demo_log.json and demo_tools.json, as shipped

The desk of a bike rental: a customer wants a booking moved, cancelled or given up to a friend. Everybody is invented,
and so is the reward: 1 if the bookings end as the customer asked within the desk's rules, else 0. A bad trial goes
wrong in one turn: the agent moves a booking to a day it has not looked at, calls off what was to be moved, or charges
where the rules say that it must not.
"""

import argparse
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


TASKS, TRIALS, SEED = 24, 4, 7
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
NAMES = (
    *("Ida Marsh", "Olek Brandt", "Mina Costa", "Per Lindal", "Yara Haddad", "Tom Okoro", "Lena Vogt", "Bao Tran"),
    *("Rosa Pinto", "Emil Sand", "Nia Bello", "Joris Maas", "Alma Ruiz", "Kai Tanaka", "Ute Berger", "Sami Aalto"),
    *("Inga Duarte", "Leo Farkas", "Ada Quist", "Moss Reed", "Zoe Lamb", "Ivo Petrov", "Faye Holt", "Nils Aaker"),
)
POLICY = """# Rental agent policy

You work at the desk of a bike rental. You can look up a booking by the customer's name, see how many bikes are free
on a day, move a booking, or call it off. Look at a day before you move a booking to it. Call a booking off only if the
customer asks for that. Moving is free; calling off costs 5 only on the day of the ride. Make one change a booking."""

TOOLS = (
    ("find_booking", "Find the booking of a customer.", {"name": "string"}),
    ("free_bikes", "Count the bikes that are free on a day.", {"day": "string"}),
    ("move_booking", "Move a booking to another day.", {"booking": "string", "day": "string"}),
    ("cancel_booking", "Call a booking off.", {"booking": "string"}),
    ("charge", "Charge a customer.", {"booking": "string", "amount": "integer"}),
)
"""Name, description, and the types of the parameters, all of which are required."""

OPENINGS = {
    "move": (
        "Hi, this is {name}. Can I have my bike on {wish} instead?",
        "Good morning! {name} here. I booked a bike, but {wish} would suit me better.",
    ),
    "cancel": (
        "Hello, {name} speaking. I can't ride this week, please call my booking off.",
        "Hi! I'm {name}, and I need to drop my bike booking. What does it cost?",
    ),
}

Turn = dict[str, Any]


class Task(NamedTuple):
    """What a customer wants, and how the desk's books stand."""

    number: int
    name: str
    booking: str
    booked: str
    """The day of the booking."""
    wish: str
    """The day that the customer would like."""
    free: dict[str, int]
    """Free bikes by day."""
    kind: str


def make_tasks(count: int, seed: int) -> Iterator[Task]:
    """Yield the tasks; on a third of the days that customers wish for no bike is free."""
    draws = random.Random(seed)
    for number in range(count):
        booked, wish = draws.sample(DAYS, 2)
        free = {day: draws.randint(1, 6) for day in DAYS} | ({wish: 0} if number % 3 == 0 else {})
        kind = "cancel" if number % 4 == 3 else "move"
        yield Task(number, NAMES[number % len(NAMES)], f"B{100 + 7 * number}", booked, wish, free, kind)


class Dialogue:
    """The messages of one trial, in the form of OpenAI's chats."""

    def __init__(self, trial: str) -> None:
        """Begin with the agent's instructions; `trial` makes the ids of calls its own."""
        self.turns: list[Turn] = [{"role": "system", "content": POLICY}]
        self._trial, self._calls = trial, 0

    def user(self, text: str) -> None:
        """Add what the customer says."""
        self.turns.append({"role": "user", "content": text})

    def agent(self, text: str) -> None:
        """Add what the agent says."""
        self.turns.append({"role": "assistant", "content": text})

    def call(self, *calls: tuple[str, dict[str, Any], Any], text: str | None = None) -> None:
        """Add a turn of the agent's with calls, (name, arguments, result), and the results."""
        ids = [f"call_{self._trial}_{self._calls + index}" for index in range(len(calls))]
        self._calls += len(calls)
        made = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for call_id, (name, arguments, _) in zip(ids, calls, strict=True)
        ]
        self.turns.append({"role": "assistant", "content": text, "tool_calls": made})
        for call_id, (name, _, result) in zip(ids, calls, strict=True):
            self.turns.append({"role": "tool", "tool_call_id": call_id, "name": name, "content": json.dumps(result)})


def play(task: Task, trial: int, is_good: bool) -> list[Turn]:
    """Return the messages of one trial; trials of even and of odd number have customers of other wordings."""
    said = Dialogue(f"{task.number}_{trial}")
    said.user(OPENINGS[task.kind][trial % 2].format(name=task.name, wish=task.wish))
    found = {"booking": task.booking, "day": task.booked, "bikes": 1}
    said.call(("find_booking", {"name": task.name}, found))
    if task.kind == "cancel":
        _cancel(said, task, is_good)
    elif is_good:
        _move(said, task)
    else:
        _move_badly(said, task, calls_off=task.number % 2 == 0)
    return said.turns


def _move(said: Dialogue, task: Task) -> None:
    """Look first; move the booking, or offer the day with the most bikes."""
    day = task.wish
    said.call(("free_bikes", {"day": day}, {"day": day, "free": task.free[day]}), text="Let me look at that day.")
    if not task.free[day]:
        day = max((day for day in DAYS if day != task.booked), key=lambda day: task.free[day])
        said.call(("free_bikes", {"day": day}, {"day": day, "free": task.free[day]}))
        said.agent(f"Nothing is free on {task.wish}, but on {day} there is. Shall I move it there?")
        said.user("Yes, do that, please.")
    said.call(("move_booking", {"booking": task.booking, "day": day}, {"moved": task.booking, "day": day}))
    said.agent(f"Your booking {task.booking} is now on {day}. Moving it is free.")
    said.user("Thanks a lot!")


def _move_badly(said: Dialogue, task: Task, calls_off: bool) -> None:
    """Call the booking off instead, or move it to a day that nobody has looked at, and charge for it."""
    if calls_off:
        said.call(("cancel_booking", {"booking": task.booking}, {"cancelled": task.booking}))
        said.agent(f"I have called off your booking. Please book {task.wish} anew on our page.")
        said.user("But I wanted to keep it!")
        return
    full = not task.free[task.wish]
    result = {"error": f"no bike is free on {task.wish}"} if full else {"moved": task.booking, "day": task.wish}
    said.call(("move_booking", {"booking": task.booking, "day": task.wish}, result))
    said.agent(f"Done, your bike is on {task.wish}. That makes 5 for the change.")
    said.user("Five? Fine, if it must be.")


def _cancel(said: Dialogue, task: Task, is_good: bool) -> None:
    """Call the booking off for nothing, or charge for it."""
    if is_good:
        said.call(("cancel_booking", {"booking": task.booking}, {"cancelled": task.booking}))
        said.agent(f"Your booking {task.booking} is called off. It costs nothing, since the ride is not today.")
    else:
        said.agent("Calling off costs 5. Shall I go on?")
        said.user("Hm, all right.")
        charged = ("charge", {"booking": task.booking, "amount": 5}, {"charged": 5})
        said.call(("cancel_booking", {"booking": task.booking}, {"cancelled": task.booking}), charged)
        said.agent("It is called off, and I have charged 5.")
    said.user("Okay. Bye.")


def make_log(tasks: int = TASKS, trials: int = TRIALS, seed: int = SEED) -> list[dict[str, Any]]:
    """Return the results of all trials; of every two with the same wording one is good."""
    runs = []
    for task in make_tasks(tasks, seed):
        wanted = f"move {task.booking} to {task.wish}" if task.kind == "move" else f"call {task.booking} off"
        for trial in range(trials):
            is_good = (trial // 2 + task.number) % 2 == 0
            runs.append(
                {
                    "task_id": task.number,
                    "trial": trial,
                    "reward": float(is_good),
                    "info": {"task": {"user_id": task.name, "instruction": f"You are {task.name}; {wanted}."}},
                    "traj": play(task, trial, is_good),
                }
            )
    return runs


def describe_tools() -> list[dict[str, Any]]:
    """Return the descriptions of the tools as a request of OpenAI's API has them."""
    found = []
    for name, description, types in TOOLS:
        properties = {parameter: {"type": kind} for parameter, kind in types.items()}
        parameters = {"type": "object", "properties": properties, "required": list(types)}
        function = {"name": name, "description": description, "parameters": parameters}
        found.append({"type": "function", "function": function})
    return found


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write a JSON list with one record a line, atomically."""
    body = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    part = path.with_name(f"{path.name}.tmp{os.getpid()}")
    part.write_text(f"[\n{body}\n]\n", encoding="utf-8")
    os.replace(part, path)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description="Write the demo's log of an agent with tools.")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives both files")
    out: Path = parser.parse_args().out
    runs = make_log()
    write_records(out / "demo_log.json", runs)
    write_records(out / "demo_tools.json", describe_tools())
    print(f"wrote {len(runs)} runs of {TASKS} tasks -> demo_log.json, {len(TOOLS)} tools -> demo_tools.json")


if __name__ == "__main__":
    main()
