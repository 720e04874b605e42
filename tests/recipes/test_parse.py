"""Every YAML of recipes/ is found, parses, and says how to run it; a misspelt key is told by its full path."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from ppl.evaluation.protocol import Protocol
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT
from tests.recipes.discovery import PART_ARGUMENTS, RECIPES, found
from tests.recipes.discovery import parsed as parse_with

TINY_SFT = "recipes/experiments/tiny_sft.yaml"
# Classes resolve their defaults from the hub only when they are made: nothing is downloaded here.
EXPERIMENTS, OVERLAYS, PARTS = found("experiments"), found("overlays"), found("parts")


@pytest.fixture
def parsed(capsys):
    """Parse with the real CLI and return what it would run."""
    return lambda *words: parse_with(capsys, *words)


@pytest.fixture
def refused(capsys):
    """Run what must not parse and return the message."""

    def parse(*words):
        with pytest.raises(SystemExit) as stopped:
            run_training_cli(["fit", *words])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return parse


@pytest.fixture
def copied(tmp_path):
    """Copy the recipes, make one change, and return the copy's folder."""

    def change(file, old, new):
        shutil.copytree(RECIPES, tmp_path / "recipes")
        path = tmp_path / "recipes" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        return tmp_path / "recipes"

    return change


def test_every_recipe_is_of_a_known_kind():
    assert EXPERIMENTS
    assert OVERLAYS
    kinds = {path.split("/")[2] for path in PARTS}
    assert kinds == set(PART_ARGUMENTS), "a folder of parts without files, or one this test cannot place"
    known = [*EXPERIMENTS, *OVERLAYS, *PARTS, *found("ablations"), *found("eval")]
    assert sorted(known) == found("."), "a YAML outside experiments, overlays, parts, ablations and eval"


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_an_experiment_parses(path, parsed):
    config = parsed("-c", path)
    recipe = yaml.safe_load((ROOT / path).read_text())
    assert {"model", "data"} <= set(recipe)
    assert config["model"]["class_path"] == recipe["model"]["class_path"]
    assert isinstance(config["model"]["init_args"]["backbone"], dict), "its parts are read in"
    assert config["data"]["init_args"]["batch_size"] > 0
    assert config["trainer"]["default_root_dir"] == f"runs/{path.split('/')[-1].removesuffix('.yaml')}"


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_an_experiment_says_how_to_run_it(path):
    first = (ROOT / path).read_text().splitlines()[0]
    assert first.startswith(f"# ppl fit -c {path}")


def leaves(content, *keys):
    """Every value of nested mappings, with its keys."""
    for key, value in content.items():
        yield from leaves(value, *keys, key) if isinstance(value, dict) else [((*keys, key), value)]


@pytest.mark.parametrize("path", OVERLAYS)
def test_an_overlay_parses_on_top(path, parsed):
    config, overlay = parsed("-c", TINY_SFT, "-c", path), yaml.safe_load((ROOT / path).read_text())
    assert set(overlay) <= {"trainer", "model", "data"}
    for keys, value in leaves(overlay):
        if keys[:2] != ("trainer", "strategy"):  # of which no experiment has arguments
            assert "class_path" not in keys, "arguments would be dropped silently"
        place = config
        for key in keys:
            place = place[key.rstrip("+")]
        added = keys[-1].endswith("+")  # to a list, whose entries get their defaults
        assert holds(place[-len(value) :], value) if added else place == value, keys
    assert config["trainer"]["gradient_clip_val"] == 1.0, "what the overlay does not name stays"
    assert config["model"]["init_args"]["learning_rates"]["projector"] == 1e-3
    assert config["model"]["init_args"]["pooler"]["init_args"]["image_kernel_size"] == [1, 3, 3]


@pytest.mark.parametrize("path", OVERLAYS)
def test_an_overlay_says_how_to_use_it(path):
    first = (ROOT / path).read_text().splitlines()[0]
    assert first == f"# ppl fit -c recipes/experiments/<name>.yaml -c {path}"


@pytest.mark.parametrize("path", found("eval"))
def test_a_benchmark_says_how_to_ask_it_and_parses(path, capsys):
    """With the very words of its file, but another checkpoint's name."""
    lines = (ROOT / path).read_text().splitlines()
    command = next(line for line in lines if line.startswith(f"# ppl predict -c {path} --model=ppl.checkpoints.load"))
    assert f"# ppl score runs/eval/{Path(path).stem}" in lines
    words = command.removeprefix("# ppl ").split()
    with pytest.raises(SystemExit) as stopped:
        run_training_cli([*words, "--print_config"])
    assert stopped.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["data"]["class_path"] == "ppl.datamodules.benchmark.BenchmarkDataModule"
    module, _, name = config["data"]["init_args"]["protocol"]["class_path"].rpartition(".")
    assert issubclass(getattr(import_module(module), name), Protocol)


@pytest.mark.parametrize("path", PARTS)
def test_a_part_parses_in_its_place(path, parsed):
    argument = PART_ARGUMENTS[path.split("/")[2]]
    config = parsed("-c", TINY_SFT, f"--{argument}={path}")
    part = yaml.safe_load((ROOT / path).read_text())
    place = config["data"] if argument == "data" else config["model"]["init_args"][argument.removeprefix("model.")]
    assert place["class_path"] == part["class_path"]
    assert holds(place.get("init_args", {}), part.get("init_args", {}))


def holds(config, part):
    """Whether all that a part says is in the config, which may add defaults."""
    if isinstance(part, dict):
        return all(key in config and holds(config[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(config) == len(part) and all(map(holds, config, part))
    return config == part


def test_the_command_line_wins_over_interpolation(parsed):
    """The plain `omegaconf` parser mode resolves `${...}` before the command line is read."""
    config = parsed("-c", TINY_SFT, "--trainer.default_root_dir=elsewhere")
    assert config["trainer"]["callbacks"][0]["init_args"]["dirpath"] == "elsewhere/checkpoints"


def test_a_value_inside_a_part_can_be_set(parsed):
    config = parsed("-c", TINY_SFT, "--model.pooler.temperature=0.7", "--model.learning_rates.projector=0.3")
    assert config["model"]["init_args"]["pooler"]["init_args"]["temperature"] == 0.7
    assert config["model"]["init_args"]["pooler"]["init_args"]["kernel_size"] == [2, 3, 3]
    assert config["model"]["init_args"]["learning_rates"]["projector"] == 0.3


MISSPELT = [
    ("experiments/tiny_sft.yaml", "seed_everything", "seed_evrything", "seed_evrything"),
    ("experiments/tiny_sft.yaml", "trainer:", "trainr:", "trainr"),
    ("experiments/tiny_sft.yaml", "max_epochs", "max_epocs", "trainer.max_epocs"),
    ("experiments/tiny_sft.yaml", "warmup_ratio", "warmup_rtio", "model.init_args.warmup_rtio"),
    ("experiments/tiny_sft.yaml", "{language_model", "{language_modl", "model.init_args.learning_rates.language_modl"),
    ("experiments/tiny_sft.yaml", "{dirpath", "{dirpth", "trainer.callbacks[0].init_args.dirpth"),
    ("parts/poolers/weighted.yaml", "  kernel", "  kernl", "model.init_args.pooler.init_args.kernl_size"),
]


@pytest.mark.parametrize(("file", "old", "new", "path"), MISSPELT, ids=[row[3] for row in MISSPELT])
def test_a_misspelt_key_is_told_by_file_and_full_path(file, old, new, path, copied, refused):
    folder = copied(file, old, new)
    message = refused("-c", str(folder / "experiments/tiny_sft.yaml"))
    assert message.startswith(f"ppl fit: {folder / file}: {path} is not accepted")
    assert len(message.splitlines()) == 1


def test_a_misspelt_key_of_a_part_given_by_path(copied, refused):
    """jsonargparse reports a "config file loop" here."""
    folder = copied("parts/poolers/weighted.yaml", "  kernel", "  kernl")
    message = refused("-c", TINY_SFT, f"--model.pooler={folder}/parts/poolers/weighted.yaml")
    assert f"{folder}/parts/poolers/weighted.yaml: model.pooler.init_args.kernl_size is not accepted" in message
    assert "did you mean kernel_size?" in message


def test_a_part_that_is_not_there_points_to_those_that_come_with_ppl(copied, refused):
    lines = refused("-c", TINY_SFT, "--model.pooler=recipes/parts/poolers/nothing.yaml").splitlines()
    hint = "which is no file; `ppl recipes --copy-to .` writes ppl's own here"
    assert lines == [f"ppl fit: command line: model.pooler names recipes/parts/poolers/nothing.yaml, {hint}"]
    folder = copied("experiments/tiny_sft.yaml", "poolers/weighted.yaml", "poolers/nothing.yaml")
    message = refused("-c", str(folder / "experiments/tiny_sft.yaml"))
    assert f"tiny_sft.yaml: model.init_args.pooler names {folder}/parts/poolers/nothing.yaml, {hint}" in message
    assert len(message.splitlines()) == 1


def test_a_misspelt_key_of_an_overlay(copied, refused):
    overlay = copied("overlays/debug.yaml", "max_steps", "max_stps") / "overlays/debug.yaml"
    assert f"{overlay}: trainer.max_stps is not accepted" in refused("-c", TINY_SFT, "-c", str(overlay))


@pytest.mark.parametrize("option", ["model.pooler.heat", "model.heat", "modl.temperature"])
def test_a_misspelt_option(option, refused):
    assert re.search(rf"ppl fit: .*{re.escape(option)}", refused("-c", TINY_SFT, f"--{option}=3"))


def test_a_wrong_value_keeps_the_parser_s_own_words(refused):
    message = refused("-c", TINY_SFT, "--model.warmup_ratio=many")
    assert 'Parser key "warmup_ratio"' in message
    assert "Got value: many" in message
    assert "usage:" not in message
