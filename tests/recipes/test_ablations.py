"""Every ablation's YAML is read, and the words of each of its rows are a recipe that parses."""

from pathlib import Path

import pytest
import yaml

from ppl.ablation.jobs import cells, preparations
from ppl.ablation.spec import read_ablation
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT
from tests.recipes.discovery import found

ABLATIONS = found("ablations")
ROWS = [(path, row) for path in ABLATIONS for row in read_ablation(ROOT / path).all_rows()]


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
        assert parse(job.test, capsys) != config


@pytest.mark.parametrize("path", ABLATIONS)
def test_preparations_parse(path, capsys, tmp_path):
    for job in preparations(read_ablation(ROOT / path), tmp_path, 7, []):
        assert parse(job.fit, capsys)["seed_everything"] == 7
