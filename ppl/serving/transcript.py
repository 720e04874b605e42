"""Write a conversation down: what it was about, how it was held, and what was said."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppl.serving.dialogue import Dialogue, described


def write_transcript(dialogue: Dialogue, path: Path) -> None:
    """Write JSON or Markdown, as the name ends.

    Raises:
        ValueError: It ends otherwise.
    """
    writers = {".json": _json, ".md": _markdown}
    if path.suffix.lower() not in writers:
        msg = f"got {path} to save to, expected a name that ends in .json or .md"
        raise ValueError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(writers[path.suffix.lower()](dialogue), encoding="utf-8")


def _contents(dialogue: Dialogue) -> dict[str, Any]:
    session = dialogue.session
    return {
        "model": dialogue.model,
        "settings": {
            "pooler": dialogue.pooler_name,
            "budget": dialogue.budget,
            "policy": session.policy,
            "num_frames": session.processor.num_frames,
            **asdict(dialogue.generation),
        },
        "media": [described(medium) for medium in session.media],
        "turns": dialogue.rows,
    }


def _json(dialogue: Dialogue) -> str:
    return json.dumps(_contents(dialogue), ensure_ascii=False, indent=2) + "\n"


def _markdown(dialogue: Dialogue) -> str:
    contents = _contents(dialogue)
    settings = ", ".join(f"{name} {value}" for name, value in contents["settings"].items() if value not in (None, ()))
    lines = ["# Conversation", "", f"- model: {contents['model']}", f"- settings: {settings}"]
    for medium in contents["media"]:
        times = ", ".join(f"{seconds:g}" for seconds in medium["frames"])
        lines.append(f"- {medium['kind']}: {medium['path']}" + (f", frames at {times} s" if times else ""))
    for row in contents["turns"]:
        within = "" if row["budget"] is None else f", budget {row['budget']}"
        facts = (
            f"{row['visual_tokens']} visual tokens by {row['pooler']}{within}, {row['prompt_tokens']} in the prompt, "
            f"{row['answer_tokens']} in the answer, the first after {row['milliseconds']['first_token']:.0f} ms"
        )
        lines += ["", f"## {row['question']}", "", row["answer"], "", f"*{facts}*"]
    return "\n".join(lines) + "\n"
