"""Model cards: of each experiment's recipe, before anything has run, and of an exported model."""

import pytest
import yaml

from docs.hooks.cards import card_of, cards_page
from ppl.exporting.card import TO_FILL_IN, model_card
from tests.modules.tiny import ROOT
from tests.recipes.discovery import found, recipe


@pytest.mark.parametrize("path", found("experiments"))
def test_each_experiment_has_a_card(path):
    """It names the weights below, the parts and the data, and leaves to fill in what a recipe cannot know."""
    card, arguments = card_of(ROOT / path), recipe(path)["model"]["init_args"]
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license_name"] == "to-fill-in"
    assert f"`{arguments['backbone']['init_args']['source']}`" in body
    assert f"| data | `{recipe(path)['data']['class_path'].rpartition('.')[2]}`, {TO_FILL_IN} |" in body
    for part in ("backbone", "aligner", "pooler"):
        if part in arguments:
            assert f"| {part} | `{arguments[part]['class_path'].rpartition('.')[2]}`" in body
    for heading in ("## Data and licence", "## Evaluation", "## Use and limits"):
        assert TO_FILL_IN in body.split(heading)[1]
    assert f"ppl fit -c {path}" in body


def test_all_cards_are_on_one_page():
    page = cards_page(ROOT)
    assert all(f"## {path.rpartition('/')[2].removesuffix('.yaml')}\n" in page for path in found("experiments"))


def test_a_card_tells_rates_rows_and_sources():
    part = {"class_path": "ppl.modules.backbones.llava_next.LlavaNextBackbone", "init_args": {"source": "some/model"}}
    clip = {"class_path": "ppl.modules.aligners.clip.CLIPAligner"}
    clip["init_args"] = {"architecture": "ViT-L-14-336", "pretrained": "openai"}
    arguments = {"backbone": part, "aligner": clip, "learning_rates": {"projector": 1e-3, "newline": None}}
    model = {"class_path": "ppl.modules.sft.SFTModule", "init_args": arguments}
    card = model_card("mine", model, {"visual tokens": 16}, "Opening.", library="peft", base="some/model")
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "some/model"
    assert "| learning rates | projector 0.001 |" in card
    assert "| visual tokens | 16 |" in card
    assert "those of `some/model` and `ViT-L-14-336 (openai)`" in card
