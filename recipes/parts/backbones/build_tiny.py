"""Write the folders tiny_*: one model of each transformers class in the hub's own layout, without weights.

Run ``python recipes/parts/backbones/build_tiny.py`` after a change of the sizes or of the vocabulary;
tiny_llava_next has a script of its own.
"""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaOnevisionConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
    VideoLlavaConfig,
)

from ppl.datamodules.synthetic.questions import vocabulary

FOLDER = Path(__file__).parent
VICUNA = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>"]
CHATML = ["<pad>", "<|im_start|>", "<|im_end|>", "<unk>", "<image>", "<video>"]
INTERNVL = [*CHATML[:4], "<IMG_CONTEXT>", "<img>", "</img>"]
IMAGE = 4
"""Id of <image>, or <IMG_CONTEXT>."""
TEMPLATE_WORDS = ["USER", "ASSISTANT", ":", "system", "user", "assistant", "You", "are", "a", "helpful", "."]
FRAME_LABELS = [f"Frame{number}" for number in range(1, 65)]
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
TOWER = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}


def tokenizer(special: list[str]) -> PreTrainedTokenizerFast:
    known = dict.fromkeys([*special, *TEMPLATE_WORDS, *vocabulary(), *FRAME_LABELS])
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>" if "<s>" in special else None,
        eos_token=special[2],
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=[word for word in special if word not in ("<pad>", "<s>", special[2], "<unk>")],
        model_max_length=SIZES["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )


def llama(words: int) -> LlamaConfig:
    return LlamaConfig(vocab_size=words, bos_token_id=1, eos_token_id=2, **SIZES)


def qwen(words: int) -> Qwen2Config:
    return Qwen2Config(vocab_size=words, bos_token_id=None, eos_token_id=2, **SIZES)


def canvases(size: int, most: int) -> list[list[int]]:
    return [[size * rows, size * columns] for rows in range(1, most + 1) for columns in range(1, most + 1)]


def llava_next_video(words: int) -> PreTrainedConfig:
    return LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(image_size=48, patch_size=8, projection_dim=64, **TOWER),
        text_config=llama(words),
        image_token_index=IMAGE,
        video_token_index=IMAGE + 1,
        image_grid_pinpoints=[[48, 96], [96, 48], [96, 96]],
        image_seq_length=36,
        video_seq_length=72,
    )


def llava_onevision(words: int) -> PreTrainedConfig:
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(image_size=56, patch_size=8, vision_use_head=False, **TOWER),
        text_config=qwen(words),
        image_token_index=IMAGE,
        video_token_index=IMAGE + 1,
        image_grid_pinpoints=canvases(56, 3),
        vision_aspect_ratio="anyres_max_4",
    )


def internvl(words: int) -> PreTrainedConfig:
    return InternVLConfig(
        vision_config=InternVLVisionConfig(image_size=48, patch_size=6, attention_bias=True, **TOWER),
        text_config=qwen(words),
        image_token_id=IMAGE,
        image_seq_length=16,
        tie_word_embeddings=False,
    )


def video_llava(words: int) -> PreTrainedConfig:
    return VideoLlavaConfig(
        vision_config=CLIPVisionConfig(image_size=48, patch_size=8, projection_dim=64, **TOWER),
        text_config=llama(words),
        image_token_index=IMAGE,
        video_token_index=IMAGE + 1,
        image_seq_length=36,
        video_seq_length=8 * 37,
    )


MODELS = {
    "tiny_llava_next_video": (llava_next_video, VICUNA, "LlavaNextVideoForConditionalGeneration"),
    "tiny_llava_onevision": (llava_onevision, CHATML, "LlavaOnevisionForConditionalGeneration"),
    "tiny_internvl": (internvl, INTERNVL, "InternVLForConditionalGeneration"),
    "tiny_video_llava": (video_llava, VICUNA, "VideoLlavaForConditionalGeneration"),
}


def main() -> None:
    for name, (config, special, architecture) in MODELS.items():
        words = tokenizer(special)
        words.save_pretrained(FOLDER / name)
        model = config(len(words))
        model.architectures = [architecture]
        model.save_pretrained(FOLDER / name)


if __name__ == "__main__":
    main()
