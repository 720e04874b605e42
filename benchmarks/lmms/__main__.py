"""Measure parity with lmms-eval and try the adapter; writes benchmarks/results/lmms.json and docs/lmms_eval.md's table."""

import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none", "PYTHONWARNINGS": "ignore"}


def parity(folder: Path, only: list[str]) -> list[dict]:
    """Replay every case through lmms-eval."""
    from lmms_eval.tasks import TaskManager

    from benchmarks.lmms import image_cases, video_cases
    from benchmarks.lmms.replay import FakeJudge, compare, run_lmms

    manager, found = TaskManager(model_name="ppl"), []
    for case in [*video_cases.cases(), *image_cases.cases()]:
        if only and case.task not in only:
            continue
        judge = FakeJudge(case.replies or ("",))
        with chdir(folder):
            results, samples, prompts = run_lmms(case, judge, folder, manager)
        found.append(compare(case, results, samples, prompts, judge.asked))
        print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {**OFFLINE, "HF_HOME": str(Path(name) / "hf")}
        parity(Path(name), sys.argv[1:])
