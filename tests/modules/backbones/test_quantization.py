"""bitsandbytes itself is not installed for tests; what transformers is told is compared with how it reads it."""

import pytest
import torch
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from ppl.extras import MissingExtraError
from ppl.modules.backbones import quantization
from ppl.modules.backbones.quantization import WHOLE, quantization_config
from tests.modules.backbones.test_loading import EACH, PARTS


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: name)


@pytest.mark.parametrize("absent", [["bitsandbytes"], ["accelerate"], ["bitsandbytes", "accelerate"]])
def test_what_is_not_installed_is_named(monkeypatch, absent):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None if name in absent else name)
    lacking = " and ".join(absent)
    message = (
        f"^got quantization='4bit' without {lacking}, expected the extra quantization: "
        r"pip install 'ppl\[quantization\]', or set quantization: null$"
    )
    with pytest.raises(MissingExtraError, match=message):
        quantization_config("4bit", "pretrained", torch.bfloat16)


@EACH
def test_random_weights_are_not_quantised(installed, name, backbone_class):
    with pytest.raises(ValueError, match="quantization='8bit' with initialize='random', expected pretrained"):
        backbone_class(str(PARTS / name), initialize="random", quantization="8bit")


def test_bits_and_precision(installed):
    eight = quantization_config("8bit", "pretrained", torch.float16)
    assert (eight.load_in_8bit, eight.load_in_4bit) == (True, False)
    four = quantization_config("4bit", "pretrained", torch.float16)
    assert (four.load_in_8bit, four.load_in_4bit) == (False, True)
    assert (four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == ("nf4", torch.float16)
    assert eight.llm_int8_skip_modules == four.llm_int8_skip_modules == list(WHOLE)


@EACH
def test_only_the_language_model_s_layers_are_quantised(name, backbone_class):
    hf = backbone_class(str(PARTS / name), initialize="random").hf
    linear = [name for name, module in hf.named_modules() if isinstance(module, nn.Linear)]
    quantised = {name for name in linear if should_convert_module(name, list(WHOLE))}
    assert quantised == {name for name in linear if name.startswith("model.language_model.layers.")}
    assert len(quantised) == 7 * hf.config.text_config.num_hidden_layers


@EACH
def test_transformers_is_told(installed, name, backbone_class, tmp_path, monkeypatch):
    first = backbone_class(str(PARTS / name), initialize="random")
    first.hf.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    told = {}

    def from_pretrained(folder, **options):
        told.update(options)
        return first.hf, {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}

    monkeypatch.setattr(type(first.hf), "from_pretrained", from_pretrained)
    backbone_class(str(tmp_path), quantization="8bit", dtype="bfloat16")
    assert told["quantization_config"].load_in_8bit
    assert told["dtype"] == torch.bfloat16
    backbone_class(str(tmp_path))
    assert told["quantization_config"] is None
