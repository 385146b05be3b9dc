"""Tiny checkpoints with random weights in the shape of Qwen2-VL's and LLaVA-NeXT's: every file that the hub has.

    python make_tiny.py qwen2vl|llavanext FOLDER      # with an interpreter that has torch and transformers 5

They speak nonsense, but through the real processors, chat templates, model code and tokenizers, and the same nonsense
for the same picture.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

SEED = 0
WORDS = 512
HIDDEN, LAYERS = 128, 2  # heads of 32: vLLM's CPU attention wants head sizes such as 32, 64 or 128
CORPUS = [
    "A photo of a red square on a white background.",
    "The picture shows a small green circle beside a yellow rectangle.",
    "Describe this image in detail.",
    "Two dogs run over a field while a man with a hat looks on from a bench.",
    "You are a helpful assistant.",
    "system user assistant USER: ASSISTANT:",
    "The video shows a person who walks along a street; frame 1, frame 2, frame 3.",
]
QWEN_SPECIALS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
]
LLAVA_SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
# The two families' prompt formats, worded by us: ChatML with vision markers, and USER/ASSISTANT.
QWEN_TEMPLATE = """{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content -%}
{%- if part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type in ('video', 'video_url') -%}<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAVA_TEMPLATE = """{%- for m in messages -%}
{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}.get(m.role, '') }}
{%- if m.content is string %}{{ m.content }}{% else %}{% for part in m.content -%}
{%- if part.type in ('image', 'image_url') -%}{{ '<image>\n' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor %}{% endif %}{{ '</s>' if m.role == 'assistant' else ' ' }}
{%- endfor -%}{{ 'ASSISTANT:' if add_generation_prompt else '' }}"""


def byte_pairs(specials: list[str]) -> Tokenizer:
    """A byte-level BPE, learned from CORPUS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=WORDS, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS * 50, trainer)
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in specials])
    return tokenizer


def text_shape(vocabulary: int) -> dict[str, object]:
    """What both language models have in common."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HIDDEN // 32,
        "num_key_value_heads": HIDDEN // 64,
        "max_position_embeddings": 4096,
    }


def make_qwen2vl(folder: Path) -> None:
    """Qwen2-VL: pictures of 28 x 28 px and up, as many tokens as patches."""
    end, pad = "<|im_end|>", "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs(QWEN_SPECIALS),
        eos_token=end,
        pad_token=pad,
        additional_special_tokens=[each for each in QWEN_SPECIALS if each not in (end, pad)],
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )
    number = tokenizer.convert_tokens_to_ids
    specials = {"bos_token_id": number(pad), "eos_token_id": number(end), "pad_token_id": number(pad)}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    vision = {"depth": 2, "embed_dim": 64, "num_heads": 2, "hidden_size": HIDDEN, "mlp_ratio": 2, "patch_size": 14}
    # SGLang reads in_chans, transformers in_channels.
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3, "in_chans": 3}
    network = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config={**text_shape(len(tokenizer)), **specials, "rms_norm_eps": 1e-6, "rope_parameters": rope},
            vision_config={**vision, "spatial_patch_size": 14},
            image_token_id=number("<|image_pad|>"),
            video_token_id=number("<|video_pad|>"),
            vision_start_token_id=number("<|vision_start|>"),
            vision_end_token_id=number("<|vision_end|>"),
            tie_word_embeddings=False,
        )
    )
    # A temperature, as the real one has: a client that sends none of its own is found out.
    network.generation_config = GenerationConfig(**specials, do_sample=True, temperature=0.7, top_p=0.9)
    network.save_pretrained(folder)
    pictures = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 64)
    videos = Qwen2VLVideoProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 32)
    Qwen2VLProcessor(
        image_processor=pictures, tokenizer=tokenizer, video_processor=videos, chat_template=QWEN_TEMPLATE
    ).save_pretrained(folder)
    pictures.to_json_file(folder / "preprocessor_config.json")  # transformers 5 leaves both to processor_config.json
    videos.to_json_file(folder / "video_preprocessor_config.json")
    told = folder / "tokenizer_config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"tokenizer_class": "Qwen2TokenizerFast"}))


def make_llavanext(folder: Path) -> None:
    """LLaVA-NeXT: a CLIP tower of 56 x 56 px over a grid of tiles, and a Llama."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs(LLAVA_SPECIALS),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    number = tokenizer.convert_tokens_to_ids
    specials = {"bos_token_id": number("<s>"), "eos_token_id": number("</s>"), "pad_token_id": number("<pad>")}
    grid = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}
    network = LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config=CLIPVisionConfig(**vision, image_size=56, patch_size=14, projection_dim=64),
            text_config=LlamaConfig(**text_shape(len(tokenizer)), **specials),
            image_token_index=number("<image>"),
            image_grid_pinpoints=grid,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            tie_word_embeddings=False,
        )
    )
    network.generation_config = GenerationConfig(**specials)
    network.save_pretrained(folder)
    _name_as_the_hub_does(folder / "model.safetensors")
    pictures = LlavaNextImageProcessor(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=grid
    )
    LlavaNextProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=LLAVA_TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    pictures.to_json_file(folder / "preprocessor_config.json")


def _name_as_the_hub_does(weights: Path) -> None:
    """transformers 5 leaves `vision_model.` out of a CLIP tower's names; published checkpoints, and vLLM, have it."""
    old, new = "vision_tower.", "vision_tower.vision_model."
    named = {key if new in key else key.replace(old, new): tensor for key, tensor in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})


MAKE: dict[str, Callable[[Path], None]] = {"qwen2vl": make_qwen2vl, "llavanext": make_llavanext}

if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    MAKE[name](folder)
