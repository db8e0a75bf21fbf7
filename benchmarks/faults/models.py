"""The servers of models go away, or answer badly."""

import os
import signal
import time
from contextlib import ExitStack

from sotopia_sdpo.llm.endpoints import REST_S
from sotopia_sdpo.make.servers import free_ports

from .trial import Row, Trial, ends_well, judged, models_at, sampling, start, stats, wait_for


RATES = {"429": 0.05, "500": 0.05, "timeout": 0.01, "drop": 0.05, "broken-json": 0.05, "out-of-range": 0.05}
"""The share of answers that go wrong in each way."""
HANG_S = 3
NOTE = "are used until it is there"
"""What a process says that finds a server down when it begins."""
MOST_RUNS = 10


def replica_killed(trial: Trial) -> Row:
    """One of two servers of the models is killed outright, and started again later, when it is to be used again.

    Meanwhile another process begins, which finds only the other one.
    """
    with ExitStack() as stack:
        ports = free_ports(2)
        first = models_at(stack, trial.folder, ports[0])
        models_at(stack, trial.folder, ports[1])
        db = f"sqlite:///{trial.folder}/sotopia.db"
        command = sampling(trial, db, ports)
        started = time.monotonic()
        processes = [start(trial, command) for _ in range(min(2, trial.processes))]
        stack.callback(lambda: [process.kill() for process in processes])
        wait_for(db, trial.episodes // 5)
        os.kill(first.pid, signal.SIGKILL)
        first.end()
        processes.append(start(trial, command))
        said = trial.folder / f"out-{len(processes) - 1}"
        while processes[-1].poll() is None and NOTE not in said.read_text("utf-8"):
            time.sleep(0.2)
        models_at(stack, trial.folder, ports[0])
        returned = time.monotonic()
        wrong = ends_well(trial, processes)
        requests = stats(ports[0]).get("requests", 0)
        has_had_time = time.monotonic() - returned > 2 * REST_S
        row = judged("a model server killed", 1, trial, db, started, wrong, f"{requests:.0f} calls after its return")
        return row._replace(wrong=row.wrong + (has_had_time and requests == 0))


def bad_answers(trial: Trial) -> Row:
    """Every fourth answer is refused, broken off, late or nonsense; runs go on until every episode is scored.

    An episode whose judge gave nothing but nonsense is unscored, and judged again by the next run.
    """
    with ExitStack() as stack:
        (port,) = free_ports()
        rates = [word for name, rate in RATES.items() for word in (f"--rate-{name}", str(rate))]
        models_at(stack, trial.folder, port, *rates, "--hang", str(HANG_S))
        db = f"sqlite:///{trial.folder}/sotopia.db"
        command = [*sampling(trial, db, [port]), "--timeout", str(HANG_S - 1)]
        started = time.monotonic()
        for _ in range(MOST_RUNS):
            process = start(trial, command)
            stack.callback(process.kill)
            if process.wait() == 0:
                break
        wrong = int(process.returncode != 0)
        faults = {name: count for name, count in stats(port).items() if name.startswith("fault ")}
        note = ", ".join(f"{count:.0f} {name.removeprefix('fault ')}" for name, count in sorted(faults.items()))
        return judged("answers of models go wrong", int(sum(faults.values())), trial, db, started, wrong, note)
