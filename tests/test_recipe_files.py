"""What is wrong with a file that ``-c`` names is one line, whichever command it is for."""

import sys

import pytest

from ppl.cli import main
from ppl.recipe_files import check_recipe, check_recipes

COMMANDS = {
    "fit": ("fit",),
    "predict": ("predict",),
    "plan": ("plan",),
    "cache": ("cache",),
    "data check": ("data", "check"),
    "ablate": ("ablate", "--dry-run"),
}
MISUSE = ("fit", "predict", "data check")
"""Those that end with 2 where the command line is at fault."""


@pytest.fixture
def told(monkeypatch, capsys):
    """Run a command that must fail; returns its line."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ppl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert shown.out == ""
        if ended.value.code == 2:
            return shown.err.removesuffix("\n"), 2
        return str(ended.value.code), 1

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_recipe_that_is_not_there_points_to_those_that_come_with_ppl(command, told, in_tmp_path):
    line, status = told(*COMMANDS[command], "-c", "recipes/experiments/tiny_sft.yaml")
    assert line.startswith(
        f"ppl {command}: got -c recipes/experiments/tiny_sft.yaml, which does not exist in {in_tmp_path}"
    )
    assert line.endswith(
        "`ppl recipes` lists the recipes that come with ppl, and `ppl recipes --copy-to .` writes them here"
    )
    assert "\n" not in line
    assert status == (2 if command in MISUSE else 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_no_recipe_is_told_in_a_line(command, told, in_tmp_path):
    wrong = {
        "holds no mapping": b"- 1\n- 2\n",
        "holds no text": bytes(range(256)),
        "holds no YAML: while parsing a flow sequence": b"model: {a: [1\nb: ]:\n",
    }
    for what, content in wrong.items():
        (in_tmp_path / "recipe.yaml").write_bytes(content)
        line, _ = told(*COMMANDS[command], "-c", "recipe.yaml")
        assert line.startswith(f"ppl {command}: got -c recipe.yaml, which {what}")
        assert "expected a mapping with " in line
        assert "\n" not in line
    assert "got -c ., a folder, expected a recipe's file" in told(*COMMANDS[command], "-c", ".")[0]


def test_every_recipe_of_a_command_line_is_looked_at(in_tmp_path):
    (in_tmp_path / "a.yaml").write_text("trainer: {}\nmodel: ${x}\n")
    check_recipes(["fit", "-c", "a.yaml", "--model.pooler=none.yaml", "--config=a.yaml"])
    for words in (["-c", "a.yaml", "-c", "none.yaml"], ["-c", "a.yaml", "--config=none.yaml"]):
        with pytest.raises(FileNotFoundError, match=r"got -c none.yaml, which does not exist"):
            check_recipes(["fit", *words])


def test_a_mapping_may_stand_in_place_of_a_name():
    check_recipe("{trainer: {max_steps: 1}}")
    check_recipe("{trainer: {max_steps: 1}, data: {num_workers: " + "1" * 5000 + "}}")
    with pytest.raises(FileNotFoundError):
        check_recipe("x" * 5000)
