"""Stage times of finished cells, one after the other: ``python -m ppl.ablation.stages PARENT job.json ...``."""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

from ppl.ablation.cell import Job, end_with_parent, finished, read_job
from ppl.runtime import configure_process

_DECODED = 16
"""Test items whose reading is timed."""


def measured(job: Job) -> dict[str, float] | None:
    """The cell's stage times, if they were measured for the cell as it is."""
    file = job.path / "stages.json"
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    return content["stage_ms"] if content["fingerprint"] == job.fingerprint else None


def measure(job: Job) -> dict[str, float]:
    """Median milliseconds of one question: decode, tower, pool, prefill, per_token."""
    from lightning.fabric.utilities import move_data_to_device

    from ppl.ablation.description import first_prompt
    from ppl.modules.stage_times import measure_stages
    from ppl.training_cli import run_training_cli

    result = finished(job)
    if result is None:
        msg = f"the cell in {job.path} has no valid result, expected a finished one; run the ablation first"
        raise ValueError(msg)
    folder = job.path / "stages"  # not the cell's own: its answers stay
    words = [f"--ckpt_path={Path(job.root) / result.checkpoint}", f"--trainer.default_root_dir={folder}"]
    cli = run_training_cli([*job.test, *words, "--trainer.limit_test_batches=1"])
    items = cli.datamodule.test_dataloader().dataset
    decode = []
    for index in range(min(_DECODED, len(items))):
        start = time.perf_counter()
        _ = items[index]
        decode.append(1000 * (time.perf_counter() - start))
    device = cli.trainer.strategy.root_device
    batch = move_data_to_device(first_prompt(cli), device)
    return {"decode": statistics.median(decode), **asdict(measure_stages(cli.model.model.to(device), batch))}


def main() -> None:
    """Measure each job and write ``stages.json`` beside its result."""
    end_with_parent(int(sys.argv[1]))
    configure_process()
    for path in sys.argv[2:]:
        job = read_job(path)
        content = {"fingerprint": job.fingerprint, "stage_ms": measure(job)}
        Path(job.path / "stages.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
