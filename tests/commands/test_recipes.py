"""What a list of recipes says; the copy of an installed package is tested in tests/release."""

from pathlib import Path

import pytest

from ppl.cli import main
from ppl.commands.recipes import _description
from tests.test_architecture import ROOT, committed_files, relative


def test_every_recipe_has_a_line(capsys):
    main(["recipes"])
    listed, _, hint = capsys.readouterr().out.partition("\n\n")
    recipes = [relative(path) for path in committed_files() if relative(path).startswith("recipes/")]
    told = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert [f"recipes/{name}" for name in told] == [name for name in recipes if name.endswith(".yaml")]
    assert (
        told["overlays/debug.yaml"] == "Two steps of training and of validation on the CPU, to see that a recipe runs."
    )
    assert told["parts/poolers/weighted.yaml"] == "WeightedPooler"
    assert "ppl recipes --copy-to ." in hint


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "# ppl fit -c a.yaml\n# One thing (Fig. 3): of\n# two lines. Another.\nmodel: 1\n# No.\n",
            "One thing (Fig. 3): of two lines.",
        ),
        ("# ppl ablate -c a.yaml \\\n#   -- --data.root=b\n# Which? No.\n", "Which?"),
        ("# All of it\nclass_path: a.b.C\n", "All of it"),
        ("class_path: a.b.C\ninit_args:\n  d:\n    class_path: e.F\n", "C"),
        ("# " + "word " * 30, "word " * 21 + "…"),
    ],
)
def test_a_description_is_the_first_sentence_or_the_class(recipe, expected):
    assert _description(recipe) == expected


def test_the_checkout_s_recipes_are_copied_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["recipes", "--copy-to", "a/b"])
    assert capsys.readouterr().out.startswith(
        f"wrote {Path('a/b/recipes')}; from {tmp_path / 'a/b'}: ppl fit -c recipes/"
    )
    copied = Path("a/b/recipes/overlays/debug.yaml")
    assert copied.read_bytes() == (ROOT / "recipes/overlays/debug.yaml").read_bytes()
    assert not list(Path("a").rglob("__pycache__"))
    copied.write_text("mine")
    with pytest.raises(
        SystemExit, match=r"ppl recipes: got a/b/recipes, which is there already, expected a new folder"
    ):
        main(["recipes", "--copy-to", "a/b"])
    assert copied.read_text() == "mine"


def test_a_broken_link_is_not_written_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipes").symlink_to("nowhere")
    with pytest.raises(SystemExit, match="which is there already"):
        main(["recipes", "--copy-to", "."])
