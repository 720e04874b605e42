"""``ppl ablate``: run what is missing of a grid, one process a cell, and report after each."""

from __future__ import annotations

import argparse
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
from ppl.ablation.jobs import cells, preparations
from ppl.ablation.outcome import collect, report
from ppl.ablation.spec import Ablation, read_ablation
from ppl.ablation.stages import measured


def run_ablate(options: argparse.Namespace) -> None:
    """Run the ablation of ``options.config``; what is finished is not run again.

    Exits with 1 if a cell failed; the others are run and reported all the same.
    """
    ablation = read_ablation(options.config)
    root = Path(options.output or f"runs/ablations/{ablation.name}")
    seeds = options.seeds or ablation.seeds
    extra = [word for word in options.arguments if word != "--"]
    jobs = [job for seed in seeds for job in cells(ablation, root, seed, extra)]
    console = Console()
    if options.dry_run:
        describe(ablation, root, seeds, extra, console)
        return
    root.mkdir(parents=True, exist_ok=True)
    (root / "ablation.yaml").write_text(Path(options.config).read_text())
    if not options.report_only:
        slots = devices(options.devices)
        runner = Runner(slots, console)
        wanted = [seed for seed in seeds if any(job.seed == seed and finished(job) is None for job in jobs)]
        runner.prepare([preparations(ablation, root, seed, extra) for seed in wanted])
        runner.run(jobs, lambda: report(ablation, root, jobs, sys.argv))
        runner.measure([job for job in jobs if job.seed == seeds[0] and finished(job) and measured(job) is None])
    report(ablation, root, jobs, sys.argv)
    failed = [result for result in collect(jobs) if result.error]
    for result in failed:
        console.print(f"[red]failed[/red] {result.row}, seed {result.seed}: {result.error.splitlines()[-1]}")
        console.print(f"        its log: {root / result.folder / 'log.txt'}", style="dim")
    console.print(f"report: {root / 'report.html'}")
    if failed:
        sys.exit(1)


def describe(ablation: Ablation, root: Path, seeds: Sequence[int], extra: list[str], console: Console) -> None:
    """Print every command and whether it still has to run."""
    for seed in seeds:
        for job in [*preparations(ablation, root, seed, extra), *cells(ablation, root, seed, extra)]:
            state = "finished" if finished(job) else "to run"
            console.print(
                f"{job.row}, seed {seed}: {state}\n  ppl {' '.join(job.fit)}", highlight=False, soft_wrap=True
            )
            if job.test:
                console.print(f"  ppl {' '.join(job.test)}", highlight=False, soft_wrap=True)


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

    return [str(i) for i in range(torch.cuda.device_count())] or ["cpu"] * min(4, os.cpu_count() or 1)


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

    def prepare(self, chains: Sequence[list[Job]]) -> None:
        """Run what is missing of each seed's preparations, in order, the seeds side by side.

        Raises:
            ValueError: One failed: nothing can be built on it.
        """

        def run_chain(chain: list[Job]) -> None:
            for job in chain:
                if finished(job) is None:
                    self._run_cell(job)
                if finished(job) is None:
                    msg = f"preparation {job.row} of seed {job.seed} failed; its log: {job.path / 'log.txt'}"
                    raise ValueError(msg)

        self._all("preparations", [partial(run_chain, chain) for chain in chains if not all(map(finished, chain))])

    def run(self, jobs: Sequence[Job], after_each: Callable[[], None]) -> None:
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
        self, what: str, calls: Sequence[Callable[[], None]], after_each: Callable[[], None] = lambda: None
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
            except BaseException:
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
            command = [sys.executable, "-m", module, *words]
            return subprocess.run(
                command, env=os.environ | visible, stdout=output, stderr=output, check=False
            ).returncode
