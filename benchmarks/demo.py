"""``make demo``: the whole path on made-up videos, nothing downloaded.

Align a tiny CLIP pair, instruction-tune a tiny LLaVA-NeXT with prompt-guided and with average pooling, test both on
held-out videos, answer a question about an H.264 file and draw what the model looked at.
"""

from __future__ import annotations

import subprocess
import sys
import time

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.chain import AVERAGE, ROOT, WEIGHTED, Alignment, Result, align, tune_all

FOLDER = ROOT / "runs" / "demo"
SEED = 0
CHANCE = {
    "colour": 1 / 8,
    "shape": 1 / 8,
    "motion": 1 / 4,
    "when": 1 / 2,
    "order": 1 / 2,
    "exist": 1 / 2,
    "background": 1 / 4,
}
console = Console()


def main() -> None:
    start = time.perf_counter()
    stages = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console)
    with stages:
        task = stages.add_task("aligning a vision tower and a text tower (about a minute)", total=None)
        alignment = align(FOLDER, SEED)
        stages.update(task, description="aligned", total=1, completed=1)
        task = stages.add_task(
            "tuning with weighted and with average pooling, side by side (a few minutes)", total=None
        )
        results = tune_all([WEIGHTED, AVERAGE], alignment, FOLDER, SEED)
        stages.update(task, description="tuned and tested on held-out videos", total=1, completed=1)
    console.print(comparison(results, alignment))
    answer_and_draw()
    console.print(f"\nthe whole path took {time.perf_counter() - start:.0f} s; its files are in runs/demo")
    console.print("ask more: [bold].venv/bin/ppl chat runs/demo/videos/00000.mp4[/bold]")


def comparison(results: list[Result], alignment: Alignment) -> Table:
    """The one table: visual tokens, accuracy per question type and seconds per stage of each method."""
    table = Table(title="weighted against average pooling on held-out videos", show_footer=False)
    table.add_column("")
    table.add_column("chance", justify="right")
    for result in results:
        table.add_column(result.cell.name, justify="right")
    table.add_row("visual tokens", "", *(str(visual_tokens(result)) for result in results), end_section=True)
    for name in CHANCE:
        shares = [f"{100 * result.accuracies()[name]:.0f} %" for result in results]
        table.add_row(f"accuracy: {name}", f"{100 * CHANCE[name]:.0f} %", *shares, end_section=name == "background")
    table.add_row("accuracy: mean of types", "", *(f"{100 * result.accuracies()['mean']:.0f} %" for result in results))
    table.add_section()
    table.add_row("seconds: align (shared)", "", *(f"{alignment.seconds:.0f}" for _ in results))
    for stage in ("train", "test"):
        table.add_row(f"seconds: {stage}", "", *(f"{result.seconds[stage]:.0f}" for result in results))
    point = ", ".join(f"{kind} {100 * share:.0f}" for kind, share in alignment.pointing.items() if kind != "mean")
    table.caption = f"pointing after alignment (% of frames, by what names the object): {point}; retries: "
    table.caption += f"{len(alignment.failed)}"
    return table


def visual_tokens(result: Result) -> int:
    """Visual tokens of one video, counted by the model that was trained."""
    from ppl.batches import MediumInfo
    from ppl.checkpoints import load

    module = load(result.checkpoint)
    size = (module.input_spec.image_size,) * 2
    frames = module.conversation["num_frames"]
    return module.model.num_visual_tokens(MediumInfo(0, "video", frames, size, ""))


def answer_and_draw() -> None:
    """Write H.264 files, ask about the first, and draw the heat map of that question."""
    import numpy as np

    from ppl.datamodules.synthetic.instruction import SyntheticExample
    from ppl.datamodules.synthetic.questions import ask
    from ppl.datamodules.synthetic.world import random_scene
    from ppl.datamodules.synthetic.writer import write_examples

    rng = np.random.default_rng(4_000_037)
    scenes = [random_scene(rng) for _ in range(4)]
    examples = [SyntheticExample(scene, ask(scene, {"colour": 1.0}, rng), i) for i, scene in enumerate(scenes)]
    write_examples(FOLDER / "videos", examples)
    video, question = "runs/demo/videos/00000.mp4", examples[0].question
    console.print(f'\n$ ppl chat {video} "{question.text}"')
    run("chat", video, question.text)
    console.print(f"[dim](the right answer is {question.answer})[/dim]")
    console.print(f'\n$ ppl heatmap {video} "{question.text}" -o runs/demo/heatmap.png')
    run("heatmap", video, question.text, "-o", "runs/demo/heatmap.png")


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ppl", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
