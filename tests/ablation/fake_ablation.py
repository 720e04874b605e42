"""An ablation's folder full of made-up numbers, named so: no model was run."""

import json
import random
from pathlib import Path

from PIL import Image

from ppl.ablation.results import Answer, CellResult, Provenance, Row

CATEGORIES = {"background": 1.0, "colour": 0.9, "exist": 0.85, "motion": 0.35, "order": 0.7, "shape": 0.9, "when": 0.8}

ROWS = (
    Row("weighted", "FAKE prompt-guided (weighted)", "53.6 (v2 Table 5, Video-MME)"),
    Row("weighted_window", "FAKE renormalised in each window"),
    Row("max", "FAKE hard selection", "52.1 (v2 Table 5, Video-MME)"),
    Row("separate_st", "FAKE separate space and time"),
    Row("multi_kernel", "FAKE two kernels"),
    Row("token_merging", "FAKE token merging"),
    Row("none", "FAKE no pooling"),
    Row("average", "FAKE average (control)", control=True),
    Row("random", "FAKE random (control)", control=True),
)
SKILL = {"weighted": 1.0, "weighted_window": 0.96, "max": 0.85, "separate_st": 0.93, "multi_kernel": 1.01,
         "token_merging": 0.5, "none": 0.72, "average": 0.48, "random": 0.43}  # fmt: skip
TOKENS = {"separate_st": 8, "multi_kernel": 24, "none": 288}

PROVENANCE = Provenance(
    title="FAKE ablation of poolers",
    command="ppl ablate -c recipes/ablations/fake.yaml",
    commit="0123456789abcdef",
    seeds=(0, 1, 2),
    description="Made-up numbers, to look at the report.\n\nNothing was trained.",
    versions={"python": "3.11", "torch": "0.0-fake"},
)


def fake_answers(skill: float, videos: int, seed: int) -> list[Answer]:
    """Seven questions a video, one a category; questions about an easy video are all easier."""
    videos_random, chance = random.Random(0), random.Random(seed)
    answers = []
    for video in range(videos):
        ease = videos_random.gauss(0, 0.15)
        for category, best in CATEGORIES.items():
            right = chance.random() < best * skill + ease
            answers.append(Answer(f"{video}-{category}", f"{video:05}.mp4", category, right))
    return answers


def shares(answers: list[Answer]) -> dict[str, float]:
    by_category = {c: [a.correct for a in answers if a.category == c] for c in sorted({a.category for a in answers})}
    accuracy = {c: sum(right) / len(right) for c, right in by_category.items()}
    return {**accuracy, "mean": sum(accuracy.values()) / len(accuracy)}


def write_cell(folder: Path, row: str, seed: int, answers: list[Answer], **measured) -> CellResult:
    """Leave a cell's files behind, as a test run does."""
    cell = folder / row / f"seed_{seed}"
    cell.mkdir(parents=True)
    (cell / "answers.jsonl").write_text("".join(json.dumps(answer._asdict()) + "\n" for answer in answers))
    (cell / "recipe.yaml").write_text(f"seed_everything: {seed}\nmodel:\n  pooler: {row}  # FAKE\n")
    (cell / "log.txt").write_text("FAKE log\n")
    command = f"ppl fit --model.pooler={row} --seed_everything={seed}"
    return CellResult(row, seed, f"{row}/seed_{seed}", accuracy=shares(answers), command=command, **measured)


def write_heat_map(folder: Path, frames: int = 8) -> None:
    """A picture as wide and as smooth as a real strip."""
    tile = Image.linear_gradient("L").resize((192, 192)).convert("RGB")
    sheet = Image.new("RGB", (frames * 192, 22 + 192), "white")
    for frame in range(frames):
        sheet.paste(tile.rotate(90 * frame), (frame * 192, 22))
    sheet.save(folder / "heatmap.png")


def fail_cell(folder: Path, row: str, seed: int, error: str, log: str) -> CellResult:
    cell = folder / row / f"seed_{seed}"
    cell.mkdir(parents=True)
    (cell / "log.txt").write_text(log)
    return CellResult(row, seed, f"{row}/seed_{seed}", error=error)


def write_ablation(folder: Path, rows=ROWS, seeds=(0, 1, 2), videos=40) -> list[CellResult]:
    """Cells of all rows and seeds; guided rows have heat maps for the first seed."""
    results = []
    for index, row in enumerate(rows):
        tokens = TOKENS.get(row.name, 16)
        for seed in seeds:
            answers = fake_answers(SKILL[row.name], videos, 100 * index + seed)
            stages = {"decode": 12.0, "tower": 8.5, "pool": 0.0421 * tokens, "prefill": 0.9 * tokens, "per_token": 3.25}
            result = write_cell(
                folder,
                row.name,
                seed,
                answers,
                tokens=tokens,
                steps=500,
                stage_ms=stages,
                peak_memory_mib=1000.5 + tokens,
                seconds={"fit": 60.0 + tokens + seed, "test": 11.0},
            )
            if seed == seeds[0] and row.name not in ("token_merging", "none", "average", "random"):
                write_heat_map(folder / result.folder)
            results.append(result)
    return results
