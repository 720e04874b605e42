import pytest
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.execution import Execution, blocks_of, execute
from ppl.modules.lora import LoRA, add_lora
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import ROOT, guided_model, image, make_batch, plain_model, tiny_backbone, video

ALL = ("vision_tower", "language_model", "text_tower")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return guided_model().train()


def batch_of(model):
    torch.manual_seed(1)
    return make_batch(model, ([video(4)], "what ?", "red"), ([image(40, 90)], "which ?", "blue"), ([], "so ?", "no"))


def gradients(model):
    model.zero_grad()
    model(batch_of(model)).square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def calls(module):
    """How often a module begins to run; recomputing stops before it ends, where nothing more is needed."""
    counted = []
    handle = module.register_forward_pre_hook(lambda *_: counted.append(1))
    return counted, handle


def test_blocks_are_the_layers_of_each_kind_of_model():
    backbone = tiny_backbone()
    assert blocks_of(backbone.language_model) == list(backbone.language_model.layers)
    assert blocks_of(backbone.vision_tower) == list(backbone.vision_tower.encoder.layers)
    two = VideoLlavaBackbone(str(ROOT / "recipes/parts/backbones/tiny_video_llava"), "random")
    towers = (two.hf.model.image_tower, two.hf.model.video_tower)
    assert blocks_of(two.vision_tower) == [layer for tower in towers for layer in tower.encoder.layers]
    text = guided_model().aligner.text_tower
    assert blocks_of(text) == list(text.encoder.transformer.resblocks), "and none of the layers within them"


def test_recomputing_changes_no_gradient(model):
    expected = gradients(model)
    inner = [model.backbone.language_model.layers[0], model.backbone.vision_tower.encoder.layers[0]]
    counts = [calls(block.mlp) for block in [*inner, model.aligner.text_tower.encoder.transformer.resblocks[0]]]
    gradients(model)
    once = [len(counted) for counted, _ in counts]
    for counted, _ in counts:
        counted.clear()
    names = [name for name, _ in model.named_parameters()]
    execute(model, Execution(activation_checkpointing=ALL))
    assert [name for name, _ in model.named_parameters()] == names
    found = gradients(model)
    assert [len(counted) for counted, _ in counts] == [2 * number for number in once]
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=0)  # the same sums in the same order


def test_adapters_recompute_too(model):
    add_lora(model.backbone, LoRA(4, 8.0, 0.0))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    adapters = [p for name, p in model.named_parameters() if ".lora_" in name]
    for parameter in adapters:
        parameter.requires_grad_()
    expected = gradients(model)
    execute(model, Execution(activation_checkpointing=("language_model",)))
    assert all(torch.equal(gradient, expected[name]) for name, gradient in gradients(model).items())
    assert len(expected) == len(adapters)


def test_blocks_are_compiled_one_by_one(model, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda block: compiled.append(block))
    execute(model, Execution(compile=("language_model", "text_tower")))
    assert compiled == [*model.backbone.language_model.layers, *model.aligner.text_tower.encoder.transformer.resblocks]


def test_what_a_model_lacks_is_refused():
    with pytest.raises(ValueError, match=r"execution\.compile of the text_tower .* without an aligner; take it from"):
        execute(plain_model(), Execution(compile=("text_tower",)))


def test_frozen_towers_have_nothing_to_recompute(model):
    model.backbone.vision_tower.requires_grad_(False)
    with pytest.raises(ValueError, match=r"of the vision_tower, which is frozen .* set model\.learning_rates\.vision"):
        execute(model, Execution(activation_checkpointing=("vision_tower",)))
    model.backbone.language_model.requires_grad_(False)  # gradients pass through it to the projector
    execute(model, Execution(activation_checkpointing=("language_model",)))
    blocks = model.backbone.language_model.layers
    assert all(isinstance(block, GradientCheckpointingLayer) and block.gradient_checkpointing for block in blocks)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks at that of every input
def test_a_compiled_decoder_gives_the_same(model):
    expected = gradients(model)
    execute(model, Execution(compile=("language_model",), activation_checkpointing=("language_model",)))
    found = gradients(model)
    for name, gradient in found.items():
        # fused sums in another order; float32
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)


def test_windows_without_an_aligner_have_two_parts():
    model = VideoLLM(tiny_backbone(), AveragePooler((2, 3, 2), None, (1, 3, 2)))
    execute(model, Execution(activation_checkpointing=("vision_tower", "language_model")))
    assert all(block.gradient_checkpointing for block in model.backbone.vision_tower.encoder.layers)
