"""Every ablation's YAML is read, and the words of each of its rows are a recipe that parses."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from ppl.ablation.jobs import cells, preparations
from ppl.ablation.spec import read_ablation
from ppl.modules.poolers.base import Pooler
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT
from tests.recipes.discovery import found

ABLATIONS = found("ablations")
ROWS = [(path, row) for path in ABLATIONS for row in read_ablation(ROOT / path).all_rows()]

PAPER = {
    **dict.fromkeys([("pooling", row) for row in ("weighted", "max", "average", "random")], 1024),
    ("pooling", "separate_st"): 608,
    ("pooling", "multiple_1"): 1088,
    ("pooling", "multiple_2"): 1088,
    ("pooling", "token_merging"): 2048,
    ("components", "context_extension"): 1024,
    ("components", "pooling"): 1024,
    ("components", "no_pooling_8_frames"): 4608,
    ("components", "no_pooling_12x12"): 4608,
    ("components", "average"): 576,
    ("frame_mismatch", "train_32_test_32"): 1024,
    ("frame_mismatch", "train_32_test_64"): 1024,
    ("frame_mismatch", "train_8_test_8"): 4608,
    ("spatial_size", "k1"): 9216,
    ("spatial_size", "k3"): 1024,
    ("temporal_size", "k1"): 2048,
    ("temporal_size", "k16"): 128,
}
"""Visual tokens of a row, as in the papers' tables or by Eq. 2; they must fit into the language model's context."""


def pooler_of(config):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Pooler, "pooler")
    return parser.instantiate(parser.parse_object({"pooler": config["model"]["init_args"]["pooler"]})).pooler


def parse(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_training_cli([*words, "--print_config"])
    output = capsys.readouterr()
    assert stopped.value.code == 0, output.err
    return yaml.safe_load(output.out)


@pytest.mark.parametrize("path", ABLATIONS)
def test_an_ablation_is_read_says_how_to_run_it_and_has_both_controls(path):
    ablation = read_ablation(ROOT / path)
    assert ablation.name == Path(path).stem
    assert (ROOT / path).read_text().startswith(f"# ppl ablate -c {path}")
    assert list(ablation.all_rows())[-2:] == ["average", "random"]
    assert ablation.title
    assert ablation.description


@pytest.mark.parametrize(("path", "row"), ROWS, ids=[f"{Path(path).stem}-{row}" for path, row in ROWS])
def test_a_row_parses(path, row, capsys, tmp_path):
    ablation = read_ablation(ROOT / path)
    [job] = [job for job in cells(ablation, tmp_path, 7, []) if job.row == row]
    config = parse(job.fit, capsys)
    assert config["seed_everything"] == 7
    assert config["trainer"]["default_root_dir"] == str(tmp_path / row / "seed_7")
    if ablation.all_rows()[row].test_arguments:
        config = parse(job.test, capsys)
    expected = PAPER.get((Path(path).stem, row))
    if expected is not None:
        tokens = pooler_of(config).num_tokens((config["data"]["init_args"]["num_frames"], 24, 24), "video")
        assert tokens == expected
        assert tokens < (config["model"]["init_args"]["backbone"]["init_args"].get("context_length") or 4096)


@pytest.mark.parametrize("path", ABLATIONS)
def test_preparations_parse(path, capsys, tmp_path):
    for job in preparations(read_ablation(ROOT / path), tmp_path, 7):
        assert parse(job.fit, capsys)["seed_everything"] == 7
