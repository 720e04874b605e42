"""The wheel in an environment of its own, away from the checkout, with what its metadata ask for and nothing else.

By default its dependencies are links to the tests' own, so that nothing is fetched; slowly, uv installs them from its
cache, at the versions of constraints.txt, as a user would.
"""

import filecmp
import json
import os
import re
import shutil
import tomllib

import numpy as np
import pytest

import ppl
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from tests.recipes.discovery import SMALL_QUESTIONS
from tests.release.distributions import ROOT, closure, environment, install, link, metadata
from tests.test_architecture import PACKAGE, committed_files, relative

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - {"dev"}
DEBUG = ["-c", "recipes/overlays/debug.yaml"]


@pytest.fixture(scope="module", params=["linked", pytest.param("resolved", marks=pytest.mark.slow)])
def installed(request, built, tmp_path_factory):
    made = environment(tmp_path_factory.mktemp("environment") / request.param)
    if request.param == "linked":
        link(closure(metadata(built.wheel).get_all("Requires-Dist")).values(), made)
        install(built.wheel, made, "--no-deps")
    else:
        install(built.wheel, made, "--constraint", ROOT / "constraints.txt")
    yield made
    shutil.rmtree(made.packages)  # gigabytes, where they are no links


@pytest.fixture(scope="module")
def away(installed, tmp_path_factory):
    """A folder outside the checkout, with the recipes in it."""
    folder = tmp_path_factory.mktemp("away")
    done = installed.run("ppl", "recipes", "--copy-to", ".", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ppl fit -c recipes/experiments/tiny_align.yaml" in done.stdout
    return folder


@pytest.fixture(scope="module")
def told(installed, away):
    """What modules and uses of extras say, each in its turn."""
    done = installed.run("python", ROOT / "tests" / "release" / "without_extras.py", cwd=away)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", [["ppl"], ["python", "-m", "ppl"]])
def test_the_program_runs(installed, tmp_path, words):
    done = installed.run(*words, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"ppl {ppl.__version__}\n"), done.stderr
    done = installed.run(*words, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\n    recipes " in done.stdout


def test_the_copied_recipes_are_the_checkout_s(away):
    names = [relative(path) for path in committed_files() if relative(path).startswith("recipes/")]
    copied = [path.relative_to(away).as_posix() for path in (away / "recipes").rglob("*") if path.is_file()]
    assert sorted(copied) == sorted(names)
    assert filecmp.cmpfiles(ROOT, away, names, shallow=False)[0] == names
    assert [name for name in names if os.access(away / name, os.X_OK) != os.access(ROOT / name, os.X_OK)] == []


def test_two_steps_of_training(installed, away):
    """From the copied recipes; the run's record has no commit, even if the folder is in somebody's checkout."""
    (away / ".git").mkdir()
    words = ["-c", "recipes/experiments/tiny_sft.yaml", *DEBUG, "--model.alignment=null", *SMALL_QUESTIONS]
    done = installed.run("ppl", "fit", *words, cwd=away)
    assert done.returncode == 0, done.stderr
    assert (away / "runs/tiny_sft/checkpoints/last.ckpt").is_file()
    (line,) = (away / "runs/tiny_sft/run.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == {"commit": None, "changed": None}


@pytest.mark.slow
def test_the_chain_of_the_readme(installed, away):
    """Aligned, tuned, asked, exported, by the words that the README has for a checkout."""
    for recipe in ("tiny_align", "tiny_sft"):
        done = installed.run("ppl", "fit", "-c", f"recipes/experiments/{recipe}.yaml", *DEBUG, cwd=away)
        assert done.returncode == 0, done.stderr
    write_video(away / "clip.mp4", render(random_scene(np.random.default_rng(0))))
    model = ["--checkpoint", "runs/tiny_sft/checkpoints/last.ckpt"]
    done = installed.run("ppl", "chat", "clip.mp4", "what colour is the square ?", *model, cwd=away)
    assert done.returncode == 0, done.stderr
    done = installed.run("ppl", "export", model[1], "-o", "exported", cwd=away)
    assert done.returncode == 0, done.stderr
    assert (away / "exported" / "config.json").is_file()


def test_every_module_is_imported_or_names_its_extra(installed, told):
    expected = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in PACKAGE}
    assert told["file"] == str(installed.packages / "ppl" / "__init__.py")
    assert set(told["modules"]) == expected
    clear = {
        name: (kind, said)
        for name, (kind, said) in told["failed"].items()
        if kind == "MissingExtraError" and set(re.findall(r"pip install 'ppl\[(\w+)]'", said)) & EXTRAS
    }
    assert clear == {name: tuple(each) for name, each in told["failed"].items()}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_what_needs_an_extra_names_it(told, extra):
    said = told["used"][extra]
    pattern = re.compile(rf"got .+, expected .+ '?ppl\[{extra}\]")
    assert {name: bool(pattern.search(error[1])) for name, error in said.items()} == dict.fromkeys(said, True), said
