import json
import math
import shutil
from collections import Counter

import pytest
import torch
from torch import nn

from ppl.modules.align import AlignModule
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.lora import LoRA, add_lora, lora_parameters
from ppl.modules.parts import (
    LearningRates,
    Part,
    PartTraining,
    build_optimizer,
    freeze_parts,
    optimizer_and_schedule,
    split_parts,
)
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import BACKBONE_FOLDER, guided_model, plain_model, tiny_aligner, tiny_backbone

ALL = ["language_model", "projector", "text_tower", "aligner_projection", "vision_tower", "newline"]


def test_every_parameter_has_one_part_except_the_logit_scale():
    model = guided_model()
    parts = split_parts(model, LearningRates())
    assert [part.name for part in parts] == ALL
    owners = Counter(id(parameter) for part in parts for parameter in part.parameters)
    left = [name for name, parameter in model.named_parameters() if owners[id(parameter)] != 1]
    assert left == ["aligner.logit_scale"]
    assert sum(owners.values()) == len(list(model.parameters())) - 1


@pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning")
def test_alignment_owns_the_logit_scale_too():
    module = AlignModule(tiny_backbone(), tiny_aligner())
    owners = Counter(id(parameter) for part in module.parts for parameter in part.parameters)
    assert {owners[id(parameter)] for parameter in module.parameters()} == {1}


def test_tied_embeddings_count_once(tmp_path):
    shutil.copytree(BACKBONE_FOLDER, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    config["text_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = LlavaNextBackbone(str(tmp_path), initialize="random")
    assert backbone.hf.lm_head.weight is backbone.language_model.embed_tokens.weight
    parameters = dict(backbone.parts())["language_model"]
    assert len(parameters) == len({id(parameter) for parameter in parameters})


def test_an_aligner_that_the_pooler_does_not_read_stays_frozen():
    parts = split_parts(VideoLLM(tiny_backbone(), AveragePooler(), tiny_aligner()), LearningRates(1.0, 1.0, 1.0, 1.0))
    assert {part.name for part in parts if part.learning_rate is not None} == {"language_model", "projector", "newline"}


@pytest.mark.parametrize(
    ("rates", "trained"),
    [
        (LearningRates(), {"language_model", "projector", "text_tower", "newline"}),
        (LearningRates(None, PartTraining(1.0), None, None, None, newline=None), {"projector"}),
        (LearningRates(None, None, None, 1.0, 2e-6, newline=1.0), {"aligner_projection", "vision_tower", "newline"}),
        (LearningRates(0.0, None, 0.0, 1.0, PartTraining(0.0), newline=0.0), {"aligner_projection"}),
    ],
)
def test_exactly_the_parts_with_a_rate_train(rates, trained):
    model = guided_model()
    freeze_parts(split_parts(model, rates))
    prefixes = {
        "vision_tower": ("backbone.hf.model.vision_tower.",),
        "projector": ("backbone.hf.model.multi_modal_projector.",),
        "newline": ("backbone.hf.model.image_newline",),
        "language_model": ("backbone.hf.model.language_model.", "backbone.hf.lm_head."),
        "text_tower": ("aligner.text_tower.",),
        "aligner_projection": ("aligner.post_layernorm.", "aligner.visual_projection."),
    }
    starts = tuple(prefix for name in trained for prefix in prefixes[name])
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith(starts), name


def test_a_bt_adapter_trains_beside_a_frozen_tower():
    """It starts untrained, so that a frozen one would spoil the tower's features."""
    model = VideoLLM(tiny_backbone(bt_adapter_depth=1), AveragePooler())
    for rate, trains in ((2e-5, True), (None, False), (0.0, False)):
        freeze_parts(split_parts(model, LearningRates(bt_adapter=rate)))
        assert all(p.requires_grad == trains for p in model.backbone.bt_adapter.parameters())
        assert not any(p.requires_grad for p in model.backbone.hf.model.vision_tower.parameters())
    assert {part.name: part.learning_rate for part in split_parts(model, LearningRates())} == {
        "language_model": 2e-5,
        "projector": 2e-5,
        "vision_tower": None,
        "bt_adapter": 2e-5,
        "newline": 2e-5,
    }


def quantised_model():
    """One matrix as bitsandbytes holds it: of integers."""
    model = plain_model()
    held = nn.Parameter(torch.zeros(128, 128, dtype=torch.int8), requires_grad=False)
    model.backbone.language_model.layers[0].self_attn.q_proj.weight = held
    return model


def test_quantised_weights_do_not_train():
    model = quantised_model()
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    message = r"got quantization with learning_rates.language_model=2e-05, expected adapters or 0, .*overlays/lora.yaml"
    with pytest.raises(ValueError, match=message):
        freeze_parts(split_parts(model, LearningRates()))
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before


def test_quantised_weights_stay_frozen_with_adapters_or_without_a_rate():
    model = quantised_model()
    freeze_parts(split_parts(model, LearningRates(language_model=0.0)))
    assert all(p.requires_grad for p in model.backbone.projector.parameters())
    add_lora(model.backbone, LoRA(rank=2))
    freeze_parts(split_parts(model, LearningRates()))
    trained = [p for p in model.backbone.language_model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in lora_parameters(model.backbone.language_model)}


def test_a_model_without_aligner_lacks_its_parts():
    assert [part.name for part in split_parts(plain_model(), LearningRates())] == [
        "language_model",
        "projector",
        "vision_tower",
        "newline",
    ]


def test_only_matrices_decay():
    layer = nn.Linear(2, 3)
    norm = nn.LayerNorm(3)
    frozen = nn.Parameter(torch.zeros(4, 4), requires_grad=False)
    parts = [
        Part("a", [*layer.parameters(), frozen], 0.1),
        Part("b", list(norm.parameters()), 0.2),
        Part("c", [frozen], None),
    ]
    groups = build_optimizer(parts, weight_decay=0.5).param_groups
    seen = {group["name"]: (group["params"], group["lr"], group["weight_decay"]) for group in groups}
    assert seen == {
        "a/decay": ([layer.weight], 0.1, 0.5),
        "a/no_decay": ([layer.bias], 0.1, 0.0),
        "b/no_decay": ([norm.weight, norm.bias], 0.2, 0.0),
    }


def test_nothing_to_train_is_an_error():
    parts = split_parts(guided_model(), LearningRates(None, None, None, None, None, newline=None))
    freeze_parts(parts)
    with pytest.raises(ValueError, match=r"no learning rate for any of \['language_model', .*'newline'\], exp"):
        build_optimizer(parts, weight_decay=0.0)


def test_a_part_has_a_decay_and_a_warm_up_of_its_own():
    """By hand: of 10 steps the model's warm-up takes 1 and the projector's 4; frozen parts have neither."""
    model = guided_model()
    own = PartTraining(1.0, weight_decay=0.5, warmup_ratio=0.4)
    parts = split_parts(model, LearningRates(2.0, own, None, newline=None))
    freeze_parts(parts)
    config = optimizer_and_schedule(parts, weight_decay=0.1, warmup_ratio=0.1, num_steps=10)
    optimizer, schedule = config["optimizer"], config["lr_scheduler"]["scheduler"]
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {
        "language_model/decay": 0.1,
        "language_model/no_decay": 0.0,
        "projector/decay": 0.5,
        "projector/no_decay": 0.0,
    }
    rates = []
    for _ in range(5):
        rates.append({group["name"].partition("/")[0]: group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        schedule.step()
    assert [rate["projector"] for rate in rates] == [0.0, 0.25, 0.5, 0.75, 1.0]
    falling = [1 + math.cos(math.pi * step / 9) for step in range(4)]
    assert [rate["language_model"] for rate in rates] == pytest.approx([0.0, *falling])
