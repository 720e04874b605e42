"""Model cards: what a recipe says of a model, and what only its author can say, to be filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

TO_FILL_IN = "*to fill in*"
PARTS = ("backbone", "aligner", "pooler", "positions", "lora")
_LEFT = f"""\
## Data and licence

- Training data: {TO_FILL_IN} (each source, its version, its licence, how many records of it were used).
- Licence: {TO_FILL_IN}. The weights derive from those of {{sources}}: their licences hold for them, too.

## Evaluation

{TO_FILL_IN}: the tables of `ppl score`, with protocol, frames, visual tokens and coverage beside each number.

## Use and limits

- Meant for: {TO_FILL_IN}.
- Known to fail at: {TO_FILL_IN}.
"""


def model_card(
    name: str,
    model: Mapping[str, Any],
    facts: Mapping[str, object],
    opening: str,
    *,
    library: str = "transformers",
    base: str | None = None,
) -> str:
    """Write the card of a model, or of what a recipe will make.

    Args:
        name: What it is called.
        model: ``class_path`` and ``init_args`` of its training stage, parts read in.
        facts: Further rows of its table: frames, visual tokens, steps.
        opening: The paragraphs under its name: what it is, and how to open it.
        library: The hub's word for what opens it.
        base: Source of the weights below it, if they are not in it.
    """
    arguments = model["init_args"]
    front = {"library_name": library, "tags": ["ppl", "video"], "license": "other", "license_name": "to-fill-in"}
    front |= {} if base is None else {"base_model": base}
    rates = arguments.get("learning_rates")
    rows: dict[str, object] = {"training stage": f"`{model['class_path']}`"}
    rows |= {part: _told(arguments[part]) for part in PARTS if arguments.get(part) is not None}
    rows |= {"place of pooling": arguments["pool_site"]} if "pool_site" in arguments else {}
    rows |= {"learning rates": _pairs(rates)} if isinstance(rates, Mapping) else {}
    sources = [_source(arguments[part]) for part in PARTS if arguments.get(part) is not None]
    lines = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
        f"# {name}\n",
        opening,
        "## Model\n",
        "| | |\n|---|---|",
        *(f"| {key} | {value} |" for key, value in (rows | dict(facts)).items()),
        "",
        _LEFT.format(sources=" and ".join(f"`{source}`" for source in sources if source) or TO_FILL_IN),
    ]
    return "\n".join(lines)


def _told(part: Mapping[str, Any]) -> str:
    if "class_path" not in part:
        return _pairs(part)
    given = _pairs(part.get("init_args") or {})
    return f"`{part['class_path'].rpartition('.')[2]}`" + (f": {given}" if given else "")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _source(part: Mapping[str, Any]) -> str | None:
    given = part.get("init_args") or {}
    if given.get("pretrained"):
        return f"{given['architecture']} ({given['pretrained']})"
    return given.get("source")
