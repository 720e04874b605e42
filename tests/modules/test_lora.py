"""LoRA against the base it starts from, against peft's own merge, and against where it must never be."""

import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.plugins.precision import HalfPrecision
from peft.tuners.lora import LoraLayer

from ppl import checkpoints
from ppl.modules.lora import LoRA, add_lora, check_precision, lora_parameters, merge_lora
from ppl.modules.parts import LearningRates, build_optimizer, freeze_parts, split_parts
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT, guided_model, tiny_aligner, tiny_backbone
from tests.parity.native import BACKBONES, ROWS, TEMPLATES, make_batch
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS

LINEAR = {f"self_attn.{x}_proj" for x in "qkvo"} | {f"mlp.{x}_proj" for x in ("gate", "up", "down")}
SMALL = LoRA(rank=4, alpha=8.0, dropout=0.0)
VARIANTS = {
    "lora": SMALL,
    "rslora": LoRA(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=True),
    "dora": LoRA(rank=4, alpha=8.0, dropout=0.0, dora=True),
}
EACH_VARIANT = pytest.mark.parametrize("lora", VARIANTS.values(), ids=VARIANTS)


def build(name, **options):
    folder = ROOT / "recipes/parts/backbones" / name
    return BACKBONES[name](str(folder), initialize="random", **options)


def adapted(module):
    return {name for name, part in module.named_modules() if isinstance(part, LoraLayer)}


def guided(name):
    """A model of each class, and a batch of videos, images and text for it."""
    model = VideoLLM(build(name), WeightedPooler((2, 2, 2), None, (1, 2, 2)), tiny_aligner())
    return model, make_batch(model, ROWS["mixed"], TEMPLATES.get(name, "vicuna_v1"))


def trained_a_little(model):
    """Give the adapters weights such as training leaves: B is no longer zero."""
    with torch.no_grad():
        for parameter in lora_parameters(model.backbone.language_model):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def logits(model, batch):
    with torch.no_grad():
        return model.eval()(batch)


@EACH_VARIANT
@pytest.mark.parametrize("name", BACKBONES)
def test_exactly_the_decoder_s_linear_layers_are_adapted(name, lora):
    backbone = build(name)
    names = [layer for layer, _ in backbone.hf.named_modules()]
    decoder, head = backbone.language_model, backbone.hf.lm_head
    model = VideoLLM(backbone, WeightedPooler((2, 2, 2), None, (1, 2, 2)), tiny_aligner())
    add_lora(backbone, lora)
    assert backbone.language_model is decoder
    assert backbone.hf.lm_head is head
    blocks = len(decoder.layers)
    found = adapted(model)
    assert found == {f"backbone.hf.model.language_model.layers.{n}.{x}" for n in range(blocks) for x in LINEAR}
    assert len(found) == 7 * blocks
    weights = {id(p) for layer in found for n, p in model.get_submodule(layer).named_parameters() if "lora_" in n}
    assert weights == {id(p) for p in lora_parameters(model)}, "adapters elsewhere"
    kept = {re.sub(r"\.(base_layer|lora_\w+)(\..*)?$", "", layer) for layer, _ in backbone.hf.named_modules()}
    assert kept == set(names), "a module moved or vanished"


@pytest.mark.parametrize("name", BACKBONES)
def test_untrained_adapters_change_no_logit(name):
    """Not even in the last bit: zero is added to the base's result."""
    model, batch = guided(name)
    before = logits(model, batch)
    add_lora(model.backbone, SMALL)
    assert torch.equal(logits(model, batch), before)


@pytest.mark.parametrize("name", BACKBONES)
def test_merged_equals_unmerged(name):
    """The adapters beside the weights are the oracle; float32 sums in another order differ by 1e-7 of a logit of 1."""
    model, batch = guided(name)
    base, names = logits(model, batch), [n for n, _ in model.named_modules()]
    lora = VARIANTS["dora" if name == "tiny_internvl" else "rslora" if name == "tiny_video_llava" else "lora"]
    add_lora(model.backbone, lora)
    unmerged = logits(trained_a_little(model), batch)
    assert not torch.allclose(unmerged, base, atol=1e-3)
    merge_lora(model.backbone)
    assert [n for n, _ in model.named_modules()] == names
    assert lora_parameters(model) == []
    torch.testing.assert_close(logits(model, batch), unmerged, atol=1e-5, rtol=1e-5)


@EACH_VARIANT
def test_merged_into_bfloat16(lora):
    """Both round to 8 bits at every layer: logits of about 1 differ by some 1e-2, as bfloat16 and float32 do."""
    model = VideoLLM(
        build("tiny_llava_next", dtype="bfloat16"), WeightedPooler((2, 2, 2), None, (1, 2, 2)), tiny_aligner()
    )
    batch = make_batch(model, ROWS["mixed"], "vicuna_v1")
    add_lora(model.backbone, lora)
    unmerged = logits(trained_a_little(model), batch)
    merge_lora(model.backbone)
    merged = logits(model, batch)
    assert merged.dtype == torch.bfloat16
    assert (merged - unmerged).abs().max() < 0.05 * unmerged.std() + 0.05
    assert (merged - unmerged).abs().mean() < 0.02 * unmerged.std()


@EACH_VARIANT
def test_a_layer_by_hand(lora):
    """W x + s B (A x) with s of alpha / rank or alpha / sqrt(rank); DoRA: rows of W + s B A of the trained lengths."""
    backbone = tiny_backbone()
    add_lora(backbone, replace(lora, alpha=6.0, dropout=0.5))
    layer = backbone.language_model.layers[1].mlp.up_proj.eval()
    down, up = layer.lora_A.default.weight, torch.nn.init.normal_(layer.lora_B.default.weight)
    x = torch.randn(3, down.shape[1])
    weight = layer.base_layer.weight + (3.0 if lora.rank_stabilized else 1.5) * up @ down
    if lora.dora:
        lengths = layer.lora_magnitude_vector.default.weight
        torch.testing.assert_close(lengths, layer.base_layer.weight.norm(dim=1))  # untrained: those of W
        torch.nn.init.uniform_(lengths, 0.5, 2)
        weight = weight * (lengths / weight.norm(dim=1))[:, None]
    torch.testing.assert_close(layer(x), x @ weight.T, atol=2e-5, rtol=1e-5)  # float32, sums over 128 and 4


def test_dropout_is_of_training_only():
    backbone = tiny_backbone()
    add_lora(backbone, LoRA(rank=4, dropout=0.5))
    layer = backbone.language_model.layers[0].mlp.up_proj
    torch.nn.init.normal_(layer.lora_B.default.weight)
    x = torch.randn(3, 128)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_adapters_of_bfloat16_weights_are_float32():
    backbone = build("tiny_llava_next", dtype="bfloat16")
    add_lora(backbone, SMALL)
    adapters = lora_parameters(backbone.language_model)
    assert {p.dtype for p in adapters} == {torch.float32}
    assert {p.dtype for p in {*backbone.parameters()} - {*adapters}} == {torch.bfloat16}


def test_the_number_of_adapter_weights_is_rank_times_the_sides():
    backbone = tiny_backbone()
    sides = [sum(m.weight.shape) for n, m in backbone.language_model.named_modules() if n.endswith("_proj")]
    add_lora(backbone, LoRA(rank=3))
    assert sum(p.numel() for p in lora_parameters(backbone.language_model)) == 3 * sum(sides)


def test_a_rank_of_nothing():
    with pytest.raises(ValueError, match=r"got lora.rank=0, expected at least 1; set model.lora=null"):
        add_lora(tiny_backbone(), LoRA(rank=0))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", "bfloat16"), ("16-true", "float16")])
def test_a_precision_that_rounds_adapters_is_refused(precision, dtype):
    """Lightning's own conversion of the module, which it does without a word."""
    backbone = build("tiny_llava_next", dtype="bfloat16")
    add_lora(backbone, SMALL)
    check_precision(backbone, "bf16-mixed")
    HalfPrecision(precision).convert_module(backbone)
    message = rf"got model.lora with trainer.precision={precision}, which made the adapters torch.{dtype}, .*bf16-mixed"
    with pytest.raises(ValueError, match=message):
        check_precision(backbone, precision)


def test_no_adapters_take_any_precision():
    check_precision(HalfPrecision("bf16-true").convert_module(build("tiny_llava_next")), "bf16-true")


def test_without_adapters_there_is_no_such_part():
    assert lora_parameters(tiny_backbone().language_model) == []
    assert "lora" not in {part.name for part in split_parts(guided_model(), LearningRates())}


def test_adapters_train_beside_projector_and_text_tower_and_the_base_is_frozen():
    model = guided_model()
    add_lora(model.backbone, SMALL)
    parts = split_parts(model, LearningRates())
    freeze_parts(parts)
    rates = {part.name: part.learning_rate for part in parts}
    assert rates == {
        "language_model": None,
        "projector": 2e-5,
        "text_tower": 2e-5,
        "aligner_projection": None,
        "vision_tower": None,
        "lora": 2e-4,
        "newline": 2e-5,
    }
    owners = Counter(id(parameter) for part in parts for parameter in part.parameters)
    assert {owners[id(p)] for name, p in model.named_parameters() if name != "aligner.logit_scale"} == {1}
    starts = ("backbone.hf.model.multi_modal_projector.", "backbone.hf.model.image_newline", "aligner.text_tower.")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name.startswith(starts) or ".lora_" in name), name
    groups = {group["name"]: group["lr"] for group in build_optimizer(parts, 0.0).param_groups}
    assert groups["lora/decay"] == 2e-4
    assert groups["projector/decay"] == 2e-5


RUN = [
    *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/lora.yaml"),
    *("-c", "recipes/overlays/debug.yaml", "--model.alignment=null", "--model.learning_rates.lora=0.01"),
    *(*SMALL_QUESTIONS, *QUIET, "--trainer.logger=false", "--trainer.limit_val_batches=0"),
]


def test_a_run_in_a_precision_that_rounds_adapters_stops_at_its_start(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [*RUN, "--trainer.precision=bf16-true", f"--trainer.default_root_dir={tmp_path}"]
    with pytest.raises(ValueError, match=r"got model.lora with trainer.precision=bf16-true.*bf16-mixed"):
        run_training_cli(words)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_run_resumes_and_its_checkpoint_alone_gives_the_model_back(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    first = run_training_cli([*RUN, f"--trainer.default_root_dir={tmp_path / 'first'}"])
    (checkpoint,) = (tmp_path / "first").rglob("*.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    ups = [tensor for name, tensor in state.items() if ".lora_B." in name]
    assert ups
    assert all(tensor.any() for tensor in ups), "adapters that did not train"

    loaded = checkpoints.load(checkpoint)
    batch = make_batch(loaded.model, ROWS["mixed"], "vicuna_v1")
    assert torch.equal(logits(loaded.model, batch), logits(first.model.model, batch))
    assert adapted(loaded) == adapted(first.model)
    fresh = checkpoints._build(torch.load(checkpoint, weights_only=True), tmp_path / "rebuilt")
    base = [name for name in state if ".language_model." in name and ".lora_" not in name]
    assert base
    assert len(lora_parameters(fresh.model.backbone.language_model)) == 2 * len(ups)

    more = ["--trainer.max_steps=-1", "--trainer.max_epochs=2", f"--ckpt_path={checkpoint}"]
    root = f"--trainer.default_root_dir={tmp_path / 'resumed'}"
    with pytest.warns(UserWarning, match="The dirpath has changed from"):
        resumed = run_training_cli([*RUN, *more, root])
    assert resumed.trainer.global_step == 4
    (later,) = (tmp_path / "resumed").rglob("*.ckpt")
    after = torch.load(later, weights_only=True)["state_dict"]
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], state[name]) for name in base), "the base moved"
    assert any(not torch.equal(after[name], state[name]) for name in state if ".lora_" in name)


class Quantized:
    """Stands for transformers' quantiser: bitsandbytes is not installed for tests."""

    def __init__(self, hf):
        self.hf = hf

    def dequantize(self, model, dtype=None):
        assert model is self.hf
        model.hf_quantizer = None


@EACH_VARIANT
def test_quantised_weights_are_turned_back_before_merging(lora):
    model, batch = guided("tiny_llava_next")
    add_lora(model.backbone, lora)
    unmerged = logits(trained_a_little(model), batch)
    model.backbone.hf.hf_quantizer = Quantized(model.backbone.hf)
    if lora.dora:
        with pytest.raises(ValueError, match=r"got adapters of DoRA on quantised weights.*without --merge"):
            merge_lora(model.backbone)
        return
    merge_lora(model.backbone)
    assert model.backbone.hf.hf_quantizer is None
    torch.testing.assert_close(logits(model, batch), unmerged, atol=1e-5, rtol=1e-5)
