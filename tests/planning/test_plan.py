"""`ppl plan` as a user meets it."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from ppl.cli import main
from ppl.planning.sizes import unified_precision
from tests.planning.measuring import ROOT, TINY, recipe_words

SFT = "recipes/experiments/sft_llava_next.yaml"


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def plan(capsys):
    def run(*words):
        main(["plan", *words, "--json", "-"])
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def mistake(capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["plan", *words])
        return str(stopped.value.code)

    return run


def row(plan, **wanted):
    [found] = [r for r in plan["memory"]["rows"] if wanted.items() <= r.items()]
    return found


def test_a_7b_on_eight_gpus(plan):
    """Pooled by 18; in bf16 2 bytes a weight, 2 its gradient, 4 its moments."""
    made = plan("-c", SFT)
    assert made["model"]["architecture"].startswith("shipped with ppl for llava-hf/llava-v1.6-vicuna-7b-hf")
    assert made["parameters"]["backbone"] == pytest.approx(7.063e9, rel=0.001)
    parts = {part["name"]: part for part in made["parameters"]["parts"]}
    assert parts["vision_tower"]["trainable"] == 0
    assert sum(part["parameters"] for part in parts.values()) == made["parameters"]["total"]
    assert sum(part["trainable"] for part in parts.values()) == made["parameters"]["trainable"]
    assert made["tokens"]["video"] == {
        "frames": 32, "pooled": 1024, "unpooled": 18432, "per_frame": 32.0, "per_frame_unpooled": 576.0
    }  # fmt: skip
    assert made["sequence"]["pooled"] == 1224
    assert made["sequence"]["fits"]
    ratio = made["flops"]["ratio"]
    assert ratio["projector"] == 18
    assert ratio["vision"] == 1
    assert 10 < ratio["first_token"] < 20
    single = row(made, training="as the recipe", strategy="single", checkpointing=True)
    trained = made["parameters"]["trainable"]
    assert single["weights"] == 2 * made["parameters"]["total"]
    assert single["gradients"] == 2 * trained
    assert single["optimizer"] == pytest.approx(4 * trained, rel=1e-6)
    for strategy in ("fsdp1", "fsdp2"):
        fsdp = row(made, training="as the recipe", strategy=strategy, checkpointing=True)
        assert fsdp["optimizer"] == pytest.approx(single["optimizer"] / 8, rel=1e-6)
    lora = row(made, training="LoRA 128", strategy="single", checkpointing=True)
    assert lora["gradients"] < 0.14 * single["gradients"], "in fp32, with the text tower"
    assert lora["total"] < single["total"]
    assert made["notes"] == []


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("bfloat16", "bf16-true"), ("float32", "bf16-true"), ("float32", "bf16-mixed"), ("float32", "32-true")],
)
def test_adapters_of_the_recipe_and_of_the_plan_agree(dtype, precision, plan):
    """A plan's LoRA rows are what the overlay then really costs: in mixed precision, which it sets."""
    words = [*recipe_words("llava_next"), f"--model.backbone.dtype={dtype}"]
    whole = plan(*words, f"--trainer.precision={precision}", "--lora-rank", "16")
    mixed = precision.replace("bf16-true", "bf16-mixed")
    own = plan(*words, f"--trainer.precision={mixed}", "--model.lora={rank: 16, alpha: 32.0, dropout: 0.05}")
    assert not any("LoRA" in note for note in own["notes"])
    for strategy in ("single", "ddp", "fsdp2", "fsdp1"):
        for checkpointing in (False, True):
            place = {"training": "LoRA 16", "strategy": strategy, "checkpointing": checkpointing, "precision": mixed}
            guessed, known = row(whole, **place), row(own, **place)
            assert guessed["total"] == pytest.approx(known["total"], rel=0.01)
            for name in ("weights", "gradients", "optimizer", "low_precision", "activations", "logits", "tower"):
                assert guessed[name] == pytest.approx(known[name], rel=0.02)


VICUNA, TOWER, TEXT, PROJECTOR, ADAPTERS = 6_738_939_904, 303_507_456, 123_781_632, 20_983_808, 319_815_680
"""Weights of sft_llava_next: those of rank 128 are C10 of the facts; the projector's with the newline."""
ALIGNER = 4 * (788_480 + 1)
"""Bytes of what is frozen of it, which open_clip makes in float32."""


def test_a_7b_that_fsdp_keeps_in_float32(plan):
    """ZeRO's 16 bytes a weight that trains, cut in 8, whatever the recipe's dtype; bf16 of what is frozen."""
    made = plan("-c", SFT, "--trainer.precision=bf16-mixed")
    trained = VICUNA + TEXT + PROJECTOR
    for strategy, weights in (
        ("fsdp1", 4 * trained // 8 + 2 * TOWER + ALIGNER),
        ("fsdp2", (4 * trained + 2 * TOWER + ALIGNER) // 8),
    ):
        fsdp = row(made, training="as the recipe", strategy=strategy, checkpointing=True)
        assert fsdp["weights"] == pytest.approx(weights, abs=8)
        assert fsdp["gradients"] == 4 * trained // 8
        assert fsdp["optimizer"] == pytest.approx(8 * trained / 8, rel=1e-6)
        assert 19 < fsdp["total"] / 2**30 < 21
    single = row(made, training="as the recipe", strategy="single", checkpointing=True)
    assert single["gradients"] == 2 * (VICUNA + PROJECTOR) + 4 * TEXT, "no other strategy converts weights"
    assert made["notes"] == []
    # FSDP1 makes float32 of the frozen language model as well, but for its last norm
    trained, norm = ADAPTERS + TEXT + PROJECTOR, 4096
    for strategy, weights in (
        ("fsdp1", 4 * (VICUNA - norm + trained) // 8 + 2 * (TOWER + norm) + ALIGNER),
        ("fsdp2", (4 * trained + 2 * (VICUNA + TOWER) + ALIGNER) // 8),
    ):
        fsdp = row(made, training="LoRA 128", strategy=strategy, checkpointing=True)
        assert fsdp["weights"] == pytest.approx(weights, abs=8)
        assert fsdp["gradients"] == 4 * trained // 8


def test_quantised_weights_are_not_cut(plan):
    made = plan(*recipe_words("llava_next"), "--model.backbone.quantization=4bit", "--model.lora.rank=4")
    assert {r["strategy"] for r in made["memory"]["rows"]} == {"single", "ddp"}
    assert "quantization: 4bit is not planned" in made["notes"][0]


def test_adapters_are_planned_in_fp32(plan):
    """Of a 7B, rank 128: 319,815,680 parameters of 4 bytes; their copies of 2; weights of the backbone in bf16."""
    for words in ([], ["--model.lora.rank=128"]):
        made = plan("-c", SFT, *words)
        single = row(made, training="LoRA 128", strategy="single", checkpointing=True)
        assert single["precision"] == "bf16-mixed"
        assert single["gradients"] == 4 * (ADAPTERS + TEXT) + 2 * PROJECTOR
        assert single["optimizer"] == pytest.approx(2 * single["gradients"], rel=1e-4)
        assert 2 * ADAPTERS < single["low_precision"] < 2 * (ADAPTERS + TEXT)
    [note] = made["notes"]
    assert "LoRA does not train in bf16-true: planned in bf16-mixed" in note


@pytest.mark.parametrize("precision", [64, 32, 16, "bf16", "16", None])
def test_short_names_of_precisions(precision, plan):
    known = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "None": "32-true"}
    long = known[str(precision)]
    assert unified_precision(precision) == long
    short = "null" if precision is None else precision
    words = recipe_words("llava_next")
    made = plan(*words, f"--trainer.precision={short}")
    assert made["model"]["precision"] == long
    assert made == plan(*words, f"--trainer.precision={long}")


def test_short_names_are_lightnings():
    from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT_STR_ALIAS_CONVERSION

    assert {n: unified_precision(n) for n in _PRECISION_INPUT_STR_ALIAS_CONVERSION} == (
        _PRECISION_INPUT_STR_ALIAS_CONVERSION
    )


def test_words_keep_their_order(plan):
    """As in `ppl fit`, the last word wins: overlays behind overrides too."""
    overlay = ["-c", "recipes/overlays/long_video.yaml"]
    made = plan("-c", SFT, "--data.num_frames=16", "--gpus", "4", *overlay)
    assert (made["model"]["num_frames"], made["tokens"]["video"]["pooled"]) == (64, 1024)
    assert row(made, training="as the recipe", strategy="ddp", checkpointing=True)["gpus"] == 4
    assert plan("-c", SFT, *overlay, "--gpus=4", "--data.num_frames=16")["model"]["num_frames"] == 16


@pytest.mark.parametrize("words", [[], ["--gpus", "1024"], ["-c", "recipes/overlays/lora.yaml"]])
def test_tables_fit_a_terminal(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["plan", "-c", SFT, *words])
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if "…" in line or len(line) > 80]
    rows = [line for line in lines if "FSDP" in line and "│" in line]
    assert [len(line.split("│")) for line in rows] == [13] * len(rows), "eleven cells, none of them wrapped"
    numbers = [cell.strip() for line in rows for cell in line.split("│")[3:-2]]
    assert all(re.fullmatch(r"\d+\.\d", number) for number in numbers)


@pytest.mark.parametrize(
    ("file", "told"), [("", "a folder; expected a file"), ("missing/plan.json", "expected a file in a folder that")]
)
def test_the_file_is_checked_before_planning(file, told, tmp_path, mistake):
    """The recipe is not one of fine-tuning either, but it has not been read."""
    message = mistake("-c", "recipes/experiments/tiny_align.yaml", "--json", str(tmp_path / file))
    assert told in message


def test_another_class_names_where_it_came_from(mistake):
    message = mistake("-c", TINY, "--source", "recipes/parts/backbones/tiny_internvl")
    assert "the config of recipes/parts/backbones/tiny_internvl/config.json is of model_type 'internvl'" in message


def test_too_long_a_sequence_is_said(plan):
    made = plan("-c", SFT, "--model.pooler=recipes/parts/poolers/none.yaml", "--model.aligner=null")
    assert not made["sequence"]["fits"]
    assert "18632 positions, the language model was configured for 4096" in made["notes"][0]


def test_a_recipe_without_frames_says_what_was_taken(plan, tmp_path):
    recipe = yaml.safe_load((ROOT / SFT).read_text().replace("../parts", str(ROOT / "recipes/parts")))
    del recipe["data"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    made = plan("-c", str(tmp_path / "recipe.yaml"))
    assert [note.split(":")[1].strip()[:9] for note in made["notes"]] == ["32 was ta", "1 was tak"]
    assert made["model"]["num_frames"] == 32


def test_tables_and_file_have_the_same_numbers(tmp_path, capsys):
    main(["plan", *recipe_words("llava_next"), "--json", str(tmp_path / "plan.json")])
    printed = capsys.readouterr()
    made = json.loads((tmp_path / "plan.json").read_text())
    assert f"{made['parameters']['total']:,}" in printed.out
    assert f"= {made['sequence']['pooled']} of {made['sequence']['limit']} positions" in printed.out
    assert "tiny_llava_next/config.json" in printed.out
    assert printed.out.count("8 FSDP1") == printed.out.count("8 FSDP2") == 4
    assert "planned in" in printed.err


def test_another_source(plan):
    made = plan(
        *recipe_words("llava_next", "none"), "--source", "llava-hf/llava-v1.6-vicuna-7b-hf", "--model.aligner=null"
    )
    assert made["parameters"]["backbone"] > 7e9


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-c", TINY, "--gpus", "0"], "got --gpus 0, expected a positive number"),
        (["-c", TINY, "--gpu-memory=-1"], "got --gpu-memory -1, expected a positive number"),
        (["-c", "recipes/experiments/tiny_align.yaml"], "got a recipe of ppl.modules.align.AlignModule"),
        (["-c", TINY, "--model.pooler.kernel=[1,1,1]"], "model.pooler.kernel"),
        (["-c", TINY, "--source", "nobody/nothing"], "got source='nobody/nothing'"),
        (["-c", "recipes/experiments/nothing.yaml"], "nothing.yaml"),
        (["-c", TINY, "--model.pooler.kernel_size=[2,9,9]"], "kernel"),
    ],
)
def test_mistakes_are_told(words, told, mistake, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = mistake(*words)
    assert message.startswith("ppl plan: ")
    assert told in message


def test_help_teaches():
    result = subprocess.run(
        [sys.executable, "-c", "import sys; from ppl.cli import main\ntry: main(['plan', '--help'])\n"
         "finally: print('torch' in sys.modules, file=sys.stderr)"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr.strip()) == (0, "False")
    for word in (
        "--gpus",
        "--gpu-memory",
        "--prompt-tokens",
        "--lora-rank",
        "--source",
        "--json",
        "overlays/lora.yaml",
    ):
        assert word in result.stdout
