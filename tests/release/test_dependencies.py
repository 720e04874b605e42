"""pyproject.toml tells the truth about what ppl imports, and its bounds allow what the tests ran on."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.release.distributions import ROOT, closure
from tests.test_architecture import PACKAGE, parsed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {canonicalize_name(each.name): each for each in map(Requirement, PROJECT["dependencies"])}
EXTRAS = {
    extra: {canonicalize_name(each.name): each for each in map(Requirement, texts)}
    for extra, texts in PROJECT["optional-dependencies"].items()
}
OPTIONAL = {name for extra, requirements in EXTRAS.items() if extra != "dev" for name in requirements}


OPTIONAL -= {"ppl"}  # an extra may hold another


@cache
def imported():
    """Every top-level module that ppl imports anywhere, by the distributions that bring it."""
    brought_by = packages_distributions()
    names = set()
    for path in PACKAGE:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).partition(".")[0])
    names -= sys.stdlib_module_names | {"ppl"}
    return {name: {canonicalize_name(each) for each in brought_by.get(name, [name])} for name in names}


def test_everything_imported_is_asked_for():
    """Not left to chance: what transformers asks for today, it may drop tomorrow."""
    known = CORE.keys() | OPTIONAL
    assert {name: by for name, by in imported().items() if not by & known} == {}


def test_everything_asked_for_without_an_extra_is_imported():
    by_others = {
        "omegaconf",  # jsonargparse's parser mode of the recipes
        "tensorboard",  # Lightning's logger
    }
    brought = set().union(*imported().values())
    assert CORE.keys() - brought == by_others


def test_no_extra_comes_without_being_asked_for():
    by_others = {
        "accelerate",  # peft
        "httpx2",  # huggingface_hub
        "pydantic",  # transformers' typer
        "tqdm",  # huggingface_hub
    }
    assert closure(PROJECT["dependencies"]).keys() & OPTIONAL == by_others


def test_every_dependency_has_a_lowest_version_that_the_minimal_lane_tries():
    unbounded = [
        name for name, each in CORE.items() if not any(bound.operator in (">=", "==") for bound in each.specifier)
    ]
    assert unbounded == []


def test_the_versions_that_the_tests_ran_on_are_allowed():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(re.fullmatch(r"([\w.-]+)==([\w.+]+)", line).groups() for line in lines if not line.startswith("#"))
    wanted = [(name, each) for requirements in (CORE, EXTRAS["dev"]) for name, each in requirements.items()]
    assert [name for name, _ in wanted if name not in pins] == []
    assert [str(each) for name, each in wanted if pins[name] not in each.specifier] == []


def test_the_scripts_that_install_are_sound():
    scripts = [path for path in sorted((ROOT / ".ci").iterdir()) if path.is_file()]
    checker = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([checker, *scripts], capture_output=True, text=True, check=False)
    assert (len(scripts) > 3, found.returncode) == (True, 0), found.stdout
