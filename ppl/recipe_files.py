"""Files that ``-c`` names: what keeps one from being a recipe is said before anything is parsed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import yaml


def check_recipes(words: Sequence[str]) -> None:
    """Look at every file that a command line names by ``-c``, as `check_recipe`."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("-c", "--config", action="append", default=[])
    for name in options.parse_known_args(words)[0].config:
        check_recipe(name)


def check_recipe(name: str, keys: str = "trainer, model, data and the like") -> None:
    """Make sure that a file is there and holds a YAML mapping; a mapping itself may stand in place of its name.

    Args:
        name: Of the file.
        keys: What it holds, for messages.

    Raises:
        FileNotFoundError: There is none; the message says where recipes are to be had.
        ValueError: It is a folder, no text, no YAML, or something else than a mapping.
    """
    if not os.path.lexists(name) and _is_mapping(name):
        return
    if not os.path.exists(name):  # noqa: PTH110  Path stumbles over long ones
        msg = (
            f"got -c {name}, which does not exist in {Path.cwd()}, expected a recipe's file: correct the path; "
            "`ppl recipes` lists the recipes that come with ppl, and `ppl recipes --copy-to .` writes them here"
        )
        raise FileNotFoundError(msg)
    if not Path(name).is_file():
        msg = f"got -c {name}, a folder, expected a recipe's file: name one in it, such as {name}/NAME.yaml"
        raise ValueError(msg)
    try:
        is_recipe, what = _is_mapping(Path(name).read_text(encoding="utf-8")), "no mapping"
    except UnicodeDecodeError:
        is_recipe, what = False, "no text"
    except yaml.YAMLError as error:
        is_recipe, what = False, f"no YAML: {' '.join(str(error).split())}"
    if not is_recipe:
        msg = f"got -c {name}, which holds {what}, expected a mapping with {keys}: name another, or mend it"
        raise ValueError(msg)


def _is_mapping(text: str) -> bool:
    """Whether it is one by its syntax; what it holds is for the parser."""
    return isinstance(yaml.compose(text, yaml.SafeLoader), yaml.MappingNode)
