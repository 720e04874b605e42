"""Overlays of strategy and execution parse with every experiment, and keep its batch where they say that they do."""

import pytest
import yaml

from tests.modules.tiny import ROOT
from tests.recipes.discovery import found, parsed, recipe
from tests.recipes.test_parse import holds

EXPERIMENTS = found("experiments")
TUNED = [path for path in EXPERIMENTS if recipe(path)["model"]["class_path"] != "ppl.modules.align.AlignModule"]
STRATEGIES = ["single", "ddp", "fsdp2", "fsdp2_cpu_offload", "tensor_parallel", "fsdp"]
OF_DECODERS = ["activation_checkpointing", "compile", "fsdp_8_a100", "fsdp_16_a100"]
PAIRS = [(name, path) for name in STRATEGIES for path in EXPERIMENTS]
PAIRS += [(name, path) for name in OF_DECODERS for path in TUNED]


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_no_experiment_has_arguments_of_a_strategy_which_an_overlay_would_drop(path):
    assert isinstance(recipe(path)["trainer"].get("strategy", ""), str)


@pytest.mark.parametrize(("name", "path"), PAIRS)
def test_an_overlay_parses_with_every_experiment(name, path, capsys):
    file = f"recipes/overlays/{name}.yaml"
    overlay = yaml.safe_load((ROOT / file).read_text())
    config = parsed(capsys, "-c", path, "-c", file)
    for key, value in overlay.get("trainer", {}).items():
        assert holds(config["trainer"][key], value)
    for key, value in overlay.get("model", {}).get("init_args", {}).items():
        assert holds(config["model"]["init_args"][key], value)


@pytest.mark.parametrize("machines", [1, 2])
def test_the_papers_batch_on_a100s(machines, capsys):
    overlay = f"recipes/overlays/fsdp_{8 * machines}_a100.yaml"
    config = parsed(capsys, "-c", "recipes/experiments/sft_llava_next.yaml", "-c", overlay)
    trainer = config["trainer"]
    devices = trainer["devices"] * trainer["num_nodes"]
    assert devices == 8 * machines
    assert devices * config["data"]["init_args"]["batch_size"] * trainer["accumulate_grad_batches"] == 256
