"""What happens to each command of the documentation: the one place that says what is not run, and why.

Every `ppl` command is parsed by the real parsers (default tests), and run on tiny models of the classes that it names
(the pages' runs, slow but for two). The tables below are the exceptions; a program that is in none of them is an error.
"""

import contextlib
import importlib.util
import io
import re
import tomllib
from pathlib import Path

from ppl.cli import LIGHTNING_SUBCOMMANDS, build_parser
from ppl.planning.recipe import read_recipe
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT

ONLY_PARSED = {
    "ablate": "a grid of runs: planned with --dry-run; cells run in tests/ablation",
    "convert": "reads checkpoints of 15 GB: tests/conversion runs it on tiny ones",
    "demo": "opens a browser: tests/serving drives it",
    "replay": "needs a step that went wrong: tests/callbacks makes one",
    "serve": "does not end: tests/serving starts it and asks it",
}
"""Subcommands of `ppl` whose commands are parsed, and why they are not run."""

ON_SEVERAL_DEVICES = {
    *("compile", "ddp", "fsdp", "fsdp2", "fsdp2_cpu_offload", "fsdp_16_a100", "fsdp_8_a100", "single"),
    "tensor_parallel",
}
"""Overlays that are parsed, and left out of a run: here is one process on a CPU. tests/distributed runs strategies."""
OF_OTHER_PACKAGES = {"qlora", "wandb"}
"""Overlays that are parsed, and left out of a run: what they need is not among the tests' packages."""

ELSEWHERE = {
    "curl": "speaks to a server: tests/serving does",
    "lmms-eval": "lives in an environment of its own: `make lmms-parity` runs it",
    "rm": "there is nothing to remove",
    "scancel": "needs SLURM",
    "tensorboard": "does not end",
}
"""Programs that are not ours: bash has read their line, and no more is looked at."""

CHECKED = ("make", "pip", "ppl", "python", "sbatch", "torchrun")
PROGRAMS = (*CHECKED, *ELSEWHERE)


def check(call, folder):
    """Whether a command could be run: what it names exists, and takes the words that it is given."""
    if call.program in CHECKED:
        globals()[f"_{call.program}"](call.words, folder)


def check_words(words):
    """Parse the words of a `ppl` command with the parser that it will meet; returns what that printed."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if words[0] in LIGHTNING_SUBCOMMANDS:
                run_training_cli([*words, "--print_config"])
            else:
                options = build_parser().parse_args(words)
                if getattr(options, "recipe", None):
                    read_recipe(options.recipe, needs_model=False)
    except (SystemExit, ValueError) as refused:
        fault = refused.code and said.getvalue() if isinstance(refused, SystemExit) else refused
        if fault:
            raise AssertionError(f"ppl {' '.join(words)}: {fault}") from None
    return said.getvalue()


def mentioned(words):
    """Check a command that the text only names: the subcommand and the options exist."""
    parsers = [build_parser()]
    for word in words[: words.index("--")] if "--" in words else words:
        named = [actions.choices[word] for actions in _subcommands(parsers[-1]) if word in actions.choices]
        parsers += named
        if word in LIGHTNING_SUBCOMMANDS:
            return
        if not named and word.startswith("-"):
            assert word.split("=")[0] in parsers[-1]._option_string_actions, f"no {word} in {' '.join(words)}"
    assert len(parsers) > 1, f"{words[0]} is no subcommand"


def _subcommands(parser):
    return [action for action in parser._actions if isinstance(action.choices, dict)]


def _ppl(words, folder):
    del folder
    check_words(words)


def _make(words, folder):
    del folder
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(words) <= set(targets), f"make {words}: the Makefile has {targets}"


def _pip(words, folder):
    del folder
    assert words[0] == "install", words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\bppl\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), extras


def _python(words, folder):
    del folder
    assert words[0] == "-m", f"python {words}: expected a module"
    assert importlib.util.find_spec(words[1]), f"python -m {words[1]}: no such module"
    if words[1] == "pytest":
        assert all((ROOT / word).exists() for word in words[2:] if word.startswith("tests")), words


def _sbatch(words, folder):
    script, *rest = words
    assert (folder / script).is_file(), script
    check_words(["fit", *rest])


def _torchrun(words, folder):
    del folder
    check_words(words[words.index("ppl") + 1 :])


def is_left_out(file):
    """Whether a run of the tests does without this overlay."""
    return Path(file).parent.name == "overlays" and Path(file).stem in ON_SEVERAL_DEVICES | OF_OTHER_PACKAGES
