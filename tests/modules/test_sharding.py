"""What needs no second process; steps on two are in tests/distributed/test_fsdp.py."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from ppl.modules.execution import Execution
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.sharding import check_shardable, clip_norm, keep_precise, set_up, units_of
from ppl.modules.video_llm import VideoLLM
from ppl.strategies.fsdp1 import FSDP1Strategy
from tests.modules.tiny import guided_model, plain_model, tiny_aligner, tiny_backbone


def trainer_of(strategy="auto", fn=TrainerFn.FITTING):
    trainer = Trainer(accelerator="cpu", devices=1, strategy=strategy, logger=False, enable_checkpointing=False)
    trainer.state.fn = fn
    return trainer


def test_units_are_decoder_blocks_the_ends_of_the_language_model_and_towers_that_train():
    model = guided_model()
    hf, text = model.backbone.hf, model.aligner.text_tower
    model.backbone.vision_tower.requires_grad_(False)
    decoder, ends = list(model.backbone.language_model.layers), [hf.get_input_embeddings(), hf.lm_head]
    blocks = list(text.encoder.transformer.resblocks)
    assert units_of(model) == [*decoder, *blocks, *ends]
    text.requires_grad_(False)
    assert units_of(model) == [*decoder, *ends]
    model.backbone.vision_tower.requires_grad_()
    assert units_of(model) == [*decoder, *model.backbone.vision_tower.encoder.layers, *ends]


def test_an_embedding_that_is_also_the_head_is_of_the_root():
    model = plain_model()
    model.backbone.hf.lm_head.weight = model.backbone.hf.get_input_embeddings().weight
    units = units_of(model)
    assert model.backbone.hf.lm_head not in units
    assert model.backbone.hf.get_input_embeddings() not in units


def test_a_text_tower_that_no_pooler_reads_is_of_the_root():
    model = VideoLLM(tiny_backbone(), AveragePooler((2, 3, 2), None, (1, 3, 2)), tiny_aligner())
    assert not set(units_of(model)) & set(model.aligner.text_tower.modules())


def test_media_that_are_encoded_one_by_one_leave_their_tower_to_the_root():
    model = VideoLLM(tiny_backbone(bt_adapter_depth=2), AveragePooler((2, 3, 2), None, (1, 3, 2)))
    assert not set(units_of(model)) & set(model.backbone.vision_tower.modules())


def test_only_what_trains_is_kept_precise_and_nothing_loses_precision():
    layer = torch.nn.Linear(2, 2).bfloat16()
    layer.bias.requires_grad_(False)
    keep_precise(layer)
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.float32, torch.bfloat16)
    keep_precise(layer.double())
    assert layer.weight.dtype == torch.float64


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_a_norm_is_that_of_all_gradients_together(max_norm):
    weights = [
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
        torch.nn.Parameter(torch.ones(1)),
    ]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    assert clip_norm(weights, max_norm) == 13
    scale = min(1.0, max_norm / 13)
    torch.testing.assert_close(weights[0].grad, torch.tensor([3.0, 4.0]) * scale)
    torch.testing.assert_close(weights[1].grad, torch.tensor([12.0]) * scale)
    assert weights[2].grad is None


def test_what_cannot_be_sharded_is_refused():
    model = VideoLLM(tiny_backbone(frames_per_forward=2), AveragePooler((2, 3, 2), None, (1, 3, 2)))
    with pytest.raises(ValueError, match=r"got frames_per_forward=2 .* vision tower that trains, expected null"):
        check_shardable(model)
    model.backbone.vision_tower.requires_grad_(False)
    check_shardable(model)
    model.pooler.scale = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"got scalars that train, \['pooler.scale'\], expected them frozen"):
        check_shardable(model)
    model.pooler.scale = torch.nn.Parameter(torch.tensor([1], dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match=r"got quantization with sharded weights.*leave quantization out"):
        check_shardable(model)


def test_other_weights_on_another_process_are_refused(monkeypatch):
    monkeypatch.setattr("ppl.modules.sharding.gather_objects", lambda items: [*items, items[0] + 1e-6])
    with pytest.raises(ValueError, match=r"other weights on each process.*set seed_everything"):
        check_shardable(plain_model())


def test_a_second_call_changes_nothing():
    model, execution = plain_model(), Execution(activation_checkpointing=("language_model",))
    assert not set_up(model, execution, trainer_of(), None)
    block = model.backbone.language_model.layers[0]
    block.gradient_checkpointing = False
    assert not set_up(model, execution, trainer_of(), None)
    assert not block.gradient_checkpointing


def test_answers_are_not_generated_from_shards():
    with pytest.raises(ValueError, match=r"got predict with sharded weights, expected whole ones.*consolidated"):
        set_up(plain_model(), Execution(), trainer_of(FSDP1Strategy(), TrainerFn.PREDICTING), None)
