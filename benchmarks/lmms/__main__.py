"""Measure parity with lmms-eval and try the adapter; writes benchmarks/results/lmms.json and the table of docs."""

import json
import os
import sys
import tempfile
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path

from benchmarks.lmms.differences import DIFFERENCES
from benchmarks.marked import rewrite

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- lmms parity: written by benchmarks/lmms, do not edit -->\n", "<!-- end -->"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none", "PYTHONWARNINGS": "ignore"}
# Whatever asks a judge all the same asks nobody.
OFFLINE |= {"OPENAI_API_URL": "http://127.0.0.1:9", "LOGURU_LEVEL": "CRITICAL"}


def parity(folder: Path, only: list[str]) -> list[dict]:
    """Replay every case through lmms-eval; of several parts, those that are named."""
    from lmms_eval.tasks import TaskManager

    from benchmarks.lmms import image_cases, video_cases
    from benchmarks.lmms.replay import FakeJudge, compare, run_lmms

    manager, found = TaskManager(model_name="ppl"), []
    for case in [*video_cases.cases(), *image_cases.cases()]:
        if only and case.task not in only:
            continue
        judge = FakeJudge(case.replies or ("",))
        with chdir(folder):
            found.append(compare(case, run_lmms(case, judge, folder, manager), judge.asked))
        print(found[-1], flush=True)
    return found


def adapter(folder: Path) -> dict:
    """Answer by `lmms-eval --model ppl`, in one process and in two, and by `ppl predict`."""
    from benchmarks.lmms import adapter as asked

    root, environment = asked.make_world(folder)
    checkpoint = asked.make_checkpoint(folder / "run")
    natively = asked.ask_natively(folder / "native", root, checkpoint)
    alone = asked.ask_lmms(folder, environment, checkpoint)
    together = asked.ask_lmms(folder, environment, checkpoint, processes=2)
    return {
        "answers": len(natively["answers"]),
        "different_answers": len(set(natively["answers"].values())),
        "scores": alone["scores"],
        "as_ppl_predict": alone == natively,
        "two_processes_as_one": together == alone,
        **asked.count_encodings(folder, environment, checkpoint),
    }


def table(found: list[dict], tried: dict) -> str:
    """What docs/lmms_eval.md shows."""
    lines = [
        "| lmms-eval's task | answers | judge's replies | prompts | score: lmms-eval | ours | |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    for case in found:
        for row in case["scores"]:
            ours = "–" if row["ours"] is None else f"{row['ours']:.4f}"
            prompts = "equal" if case["prompts_equal"] else "differ"
            verdict = "equal" if row["equal"] else "**differs**"
            name = case["task"] if len(case["scores"]) == 1 else f"{case['task']}: {row['metric']}"
            counts = f"{case['answers']} | {case['judged'] or ''}"
            lines.append(f"| {name} | {counts} | {prompts} | {row['lmms']:.4f} | {ours} | {verdict} |")
    for case in found:
        if case["prompt_example"]:
            ours, theirs = (repr(text) for text in case["prompt_example"])
            lines += ["", f"{case['task']}: our prompt `{ours}`, lmms-eval's `{theirs}`."]
        for each in case["answers_apart"][:4]:
            lines += [
                "",
                f"{case['task']}: {each['text']!r} where {each['answer']} is right is {each['ours']} here and "
                f"{each['lmms']} there.",
            ]
    lines += [
        "",
        f"The adapter, on made-up videos: {json.dumps(tried)}",
        "",
        "What remains, and why:",
        "",
        DIFFERENCES.rstrip(),
    ]
    return "\n".join(lines)


def write(found: list[dict], tried: dict) -> None:
    """The results, and the page's table."""
    differences = [" ".join(each.split()) for each in DIFFERENCES.removeprefix("- ").split("\n- ")]
    content = {"lmms_eval": version("lmms-eval"), "parity": found, "differences": differences, "adapter": tried}
    file = ROOT / "benchmarks" / "results" / "lmms.json"
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    rewrite(ROOT / "docs" / "lmms_eval.md", BEGIN, END, f"{table(found, tried)}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {**OFFLINE, "HF_HOME": str(Path(name) / "hf")}
        replayed = parity(Path(name), sys.argv[1:])
        if not sys.argv[1:]:
            world = Path(name) / "world"
            world.mkdir()
            write(replayed, adapter(world))
