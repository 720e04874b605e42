"""Write this folder's config, tokenizer and preprocessor files: a LLaVA-NeXT in the hub's own layout, without weights.

Run ``python recipes/parts/backbones/tiny_llava_next/build.py`` after a change of the sizes or of the vocabulary.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, PreTrainedTokenizerFast

from ppl.datamodules.synthetic.questions import vocabulary

FOLDER = Path(__file__).parent
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
TEMPLATE_WORDS = ["USER", "ASSISTANT", ":"]
IMAGE_SIZE, PATCH_SIZE = 48, 8


def tokenizer() -> PreTrainedTokenizerFast:
    words = SPECIAL + TEMPLATE_WORDS + vocabulary()
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def config(vocab_size: int) -> LlavaNextConfig:
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, projection_dim=64,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=vocab_size, hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<s>"), eos_token_id=SPECIAL.index("</s>"), tie_word_embeddings=False,
    )  # fmt: skip
    pinpoints = [[IMAGE_SIZE, 2 * IMAGE_SIZE], [2 * IMAGE_SIZE, IMAGE_SIZE], [2 * IMAGE_SIZE, 2 * IMAGE_SIZE]]
    return LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=SPECIAL.index("<image>"), tie_word_embeddings=False,
        image_grid_pinpoints=pinpoints, vision_feature_layer=-1, vision_feature_select_strategy="default",
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
    )  # fmt: skip


def main() -> None:
    words = tokenizer()
    words.save_pretrained(FOLDER)
    model = config(len(words))
    model.architectures = ["LlavaNextForConditionalGeneration"]
    model.save_pretrained(FOLDER)
    preprocessor = {
        "image_processor_type": "LlavaNextImageProcessor",
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "size": {"shortest_edge": IMAGE_SIZE},
        "image_grid_pinpoints": model.image_grid_pinpoints,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
    }
    (FOLDER / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


if __name__ == "__main__":
    main()
