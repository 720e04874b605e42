import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml

from ppl.datamodules.synthetic.benchmark_files import write_benchmark
from ppl.datamodules.synthetic.world import random_scene
from ppl.evaluation.benchmarks.embedded_world import QUESTIONS, EmbeddedWorld, Official, named_option, yes_or_no
from ppl.recipe_folder import recipe_folder
from tests.evaluation.test_rows import ROW

SEED = 7


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_benchmark(folder, num_videos=3, seed=SEED)
    return EmbeddedWorld(str(folder)).items()


def of(items, form, kind):
    return next(item for item in items if dict(item.groups) == {"form": form, "type": kind})


def test_every_video_is_asked_in_three_forms(items):
    assert len({item.id for item in items}) == len(items) == 33
    forms = [item.groups["form"] for item in items if item.cluster == "videos/00001.mp4"]
    assert forms == ["multiple_choice"] * 5 + ["yes_no"] * 2 + ["open_ended"] * 4
    assert all(bool(item.options) == (item.groups["form"] == "multiple_choice") for item in items)


def test_answers_are_true_of_the_scene(items):
    """The first video's scene is drawn again; its colours and shapes are all different, so a name finds one object."""
    scene = random_scene(np.random.default_rng(SEED))
    by_shape = {thing.shape: thing for thing in scene.objects}
    asked = of(items, "multiple_choice", "colour")
    colour = by_shape[asked.question.split()[4]].colour
    assert asked.options["ABCD".index(asked.answer)] == colour
    assert len(set(asked.options)) == 4
    assert of(items, "open_ended", "background").answer == scene.background
    for item in items[5:7]:
        *_, named, shape, _ = item.question.split()
        assert (item.answer == "yes") == (shape in by_shape and by_shape[shape].colour == named)


def test_marks_of_each_form(items):
    protocol = Official()
    choice = replace(ROW, groups={"form": "multiple_choice"}, options=["red", "blue"], answer="B")
    marks = [protocol.mark((replace(choice, text=text),), ()) for text in ("blue", "red", "red or blue", "")]
    assert [(mark.values["accuracy"], mark.parsed) for mark in marks] == [(1, "B"), (0, "A"), (0, None), (0, None)]
    yes_no = replace(ROW, groups={"form": "yes_no"}, answer="no")
    marks = [protocol.mark((replace(yes_no, text=text),), ()) for text in ("No.", "yes", "maybe")]
    assert [(tuple(mark.values.values()), mark.parsed) for mark in marks] == [
        ((1, 0), "no"),
        ((0, 1), "yes"),
        ((0, 0), None),
    ]
    opened = replace(ROW, groups={"form": "open_ended"}, answer="red", text="dark red")
    assert protocol.mark((opened,), ()).values == {"exact_match": 0.0, "token_f1": pytest.approx(2 / 3)}
    assert protocol.mark((replace(opened, text=" "),), ()).parsed is None


def test_options_may_be_listed(items):
    item = of(items, "multiple_choice", "order")
    assert Official().prompt(item, ()) == item.question
    first, second = item.options
    assert Official(list_options=True).prompt(item, ()) == f"{item.question} {first} or {second} ?"
    item = of(items, "open_ended", "colour")
    assert Official(list_options=True).prompt(item, ()) == item.question


@pytest.mark.parametrize(
    ("text", "read"), [("cross", "B"), ("A cross!", "B"), ("crossing", None), ("plus cross", None), ("", None)]
)
def test_an_option_is_named_by_its_word(text, read):
    assert named_option(text, ["plus", "cross"]) == read


@pytest.mark.parametrize(
    ("text", "read"), [("Yes, it is", "yes"), ("no", "no"), ("nowhere", None), ("it is no", None), ("", None)]
)
def test_yes_or_no_begins_an_answer(text, read):
    assert yes_or_no(text) == read


def test_a_folder_without_questions_says_what_writes_them(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected the questions that `python -m ppl.datamodules.synthetic` writes"
    ):
        EmbeddedWorld(str(tmp_path)).items()


def test_the_package_itself_writes_it_where_the_recipe_looks(in_tmp_path, monkeypatch, capsys):
    """By `python -m`: an installed ppl has nothing of a checkout beside the package and its recipes."""
    monkeypatch.setattr(sys, "argv", ["python -m ppl.datamodules.synthetic", "--num-videos", "2"])
    runpy.run_module("ppl.datamodules.synthetic", run_name="__main__")
    recipe = yaml.safe_load((recipe_folder() / "eval/embedded_world.yaml").read_text())
    root = recipe["data"]["init_args"]["benchmark"]["init_args"]["root"]
    assert capsys.readouterr().out == f"{root}/{QUESTIONS}\n"
    assert len(EmbeddedWorld(root).items()) == 2 * 11
