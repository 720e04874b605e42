"""Lightning's bf16-true converts modules by ``to``; transformers' own loading in bfloat16 is the oracle."""

import pytest
import torch
from lightning import Trainer
from transformers import LlavaNextForConditionalGeneration

from ppl.modules.poolers.average import AveragePooler
from ppl.modules.sft import SFTModule
from tests.modules.tiny import tiny_backbone

pytestmark = pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning")


def rotary(backbone):
    return {name: buffer for name, buffer in backbone.named_buffers() if "inv_freq" in name}


def test_frequencies_stay_as_they_were_and_weights_are_converted():
    backbone = tiny_backbone()
    before = {name: buffer.clone() for name, buffer in rotary(backbone).items()}
    backbone.to(torch.bfloat16)
    after = rotary(backbone)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {p.dtype for p in backbone.parameters()} == {torch.bfloat16}


def test_a_long_text_gets_the_logits_of_a_model_that_was_loaded_so(tmp_path):
    """The same weights in the same precision: no difference at all, and one where frequencies are rounded."""
    backbone = tiny_backbone()
    backbone.hf.save_pretrained(tmp_path)
    loaded = LlavaNextForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    ids = torch.arange(400)[None] % 60 + 4
    expected = loaded(input_ids=ids).logits
    backbone.to(torch.bfloat16).eval()
    ours = backbone(backbone.embed(ids), torch.ones_like(ids))
    assert torch.equal(ours, expected)
    backbone.language_model.rotary_emb.bfloat16()
    assert not torch.equal(backbone(backbone.embed(ids), torch.ones_like(ids)), expected)


def test_the_trainer_s_own_conversion_leaves_them(tmp_path):
    module = SFTModule(tiny_backbone(), AveragePooler())
    trainer = Trainer(accelerator="cpu", precision="bf16-true", logger=False, default_root_dir=tmp_path)
    trainer.precision_plugin.convert_module(module)
    assert {buffer.dtype for buffer in rotary(module.model.backbone).values()} == {torch.float32}
    assert {p.dtype for p in module.model.backbone.parameters()} == {torch.bfloat16}
