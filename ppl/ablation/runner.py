"""Run an ablation's jobs on the devices there are, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ppl.ablation.cell import Job, begun, finish, finished


def devices(given: str | None) -> list[str]:
    """Where cells run, one at a time on each: GPU numbers or ``cpu``, as many times as cells may run side by side."""
    if given:
        names = given.split(",")
        wrong = [name for name in names if name != "cpu" and not name.isdigit()]
        if wrong:
            msg = f"got the devices {wrong}, expected GPU numbers or cpu, separated by commas: 0,1 or cpu,cpu"
            raise ValueError(msg)
        return names
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = [name for name in visible if name] or [str(i) for i in range(torch.cuda.device_count())]
    return found if torch.cuda.is_available() else ["cpu"] * min(4, os.cpu_count() or 1)


class Runner:
    """Runs jobs on slots, each in a process of its own.

    Args:
        slots: A device name for each process that may run at once.
        console: Shows what goes on.
    """

    def __init__(self, slots: list[str], console: Console) -> None:
        self.slots = slots
        self.console = console
        self._free: SimpleQueue[str] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    def prepare(self, wanted: Sequence[tuple[list[Job], list[Job]]]) -> list[tuple[list[Job], str]]:
        """Run what is missing of each seed's preparations, in order, the seeds side by side.

        Args:
            wanted: Preparations and the cells that build on them, by seed.

        Returns:
            Cells that nothing can be built under, and why.
        """
        failures: list[tuple[list[Job], str]] = []

        def run_chain(chain: list[Job], jobs: list[Job]) -> None:
            for job in chain:
                if finished(job) is None:
                    self._run_cell(job)
                if finished(job) is None:
                    failures.append((jobs, f"preparation {job.row} failed; its log: {job.path / 'log.txt'}"))
                    return

        missing = [(chain, jobs) for chain, jobs in wanted if not all(map(finished, chain))]
        self._all("preparations", [partial(run_chain, chain, jobs) for chain, jobs in missing])
        return failures

    def run(self, jobs: Sequence[Job], after_each: Callable[[], object]) -> None:
        """Run the cells that are not finished."""
        missing = [job for job in jobs if finished(job) is None]
        if len(missing) < len(jobs):
            self.console.print(f"{len(jobs) - len(missing)} of {len(jobs)} cells are finished already", style="dim")
        self._all("cells", [partial(self._run_cell, job) for job in missing], after_each)

    def measure(self, jobs: Sequence[Job]) -> None:
        """Measure stage times, one cell after the other with nothing beside them."""
        if not jobs:
            return
        with self.console.status("measuring stage times, one cell at a time"):
            log = Path(jobs[0].root) / "stages.log"
            files = [str(job.write()) for job in jobs]
            if self._run_module("ppl.ablation.stages", files, log, self.slots[0], threads=os.cpu_count() or 1):
                self.console.print(f"[red]stage times could not be measured[/red]; the log: {log}")

    def _all(
        self, what: str, calls: Sequence[Callable[[], None]], after_each: Callable[[], object] = lambda: None
    ) -> None:
        if not calls:
            return
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        with Progress(*columns, console=self.console) as progress, ThreadPoolExecutor(len(self.slots)) as pool:
            task = progress.add_task(what, total=len(calls))
            futures = [pool.submit(call) for call in calls]
            try:
                for future in as_completed(futures):
                    future.result()
                    after_each()
                    progress.advance(task)
            except BaseException:  # Ctrl-C too: it goes on, once no further cell is begun
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _run_cell(self, job: Job) -> None:
        (job.path / "result.json").unlink(missing_ok=True)
        file = job.write()
        slot = self._free.get()
        try:
            threads = max(1, (os.cpu_count() or 1) // len(self.slots))
            code = self._run_module("ppl.ablation.cell", [str(file)], job.path / "log.txt", slot, threads)
        finally:
            self._free.put(slot)
        if code and not (job.path / "result.json").exists():  # killed: it could not say why itself
            error = f"the process ended with status {code}; was it short of memory?"
            finish(job, replace(begun(job), error=error))

    def _run_module(self, module: str, words: list[str], log: Path, slot: str, threads: int) -> int:
        visible = {"CUDA_VISIBLE_DEVICES": "" if slot == "cpu" else slot, "OMP_NUM_THREADS": str(threads)}
        with log.open("w") as output:
            command = [sys.executable, "-m", module, str(os.getpid()), *words]
            return subprocess.run(
                command, env=os.environ | visible, stdout=output, stderr=output, check=False
            ).returncode
