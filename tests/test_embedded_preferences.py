"""The embedded world's preference tuning: a model that goes on about things learns to give short, true answers."""

import pytest

from benchmarks.chain import Cell, align, last_metrics, ppl, tune

STEPS = 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_answers_become_short_and_stay_right(tmp_path):
    cell = Cell("sft", "recipes/parts/poolers/weighted.yaml", STEPS)
    start = tune(cell, align(tmp_path, seed=0, threads=1), tmp_path, seed=0).checkpoint

    def stage(command, name, begin, *words):
        folder = tmp_path / f"{command}_{name}"
        recipe = ("-c", f"recipes/experiments/{name}.yaml", f"--init_from={begin}")
        ppl(command, *recipe, f"--trainer.default_root_dir={folder}", *words, threads=1, log=folder / "log.txt")
        return folder

    talkative = stage("fit", "tiny_long_answers", start) / "checkpoints/last.ckpt"
    before = last_metrics(stage("validate", "tiny_dpo", talkative), "val")
    after = last_metrics(stage("fit", "tiny_dpo", talkative), "val")
    assert before["val/answers/words"] > 8
    assert after["val/answers/words"] < 1.5
    assert after["val/answers/right"] > before["val/answers/right"] - 0.03  # 512 questions: s.e. of 0.02
    assert after["val/rewards/accuracies"] > 0.8
    assert after["val/rewards/margins"] > 1
