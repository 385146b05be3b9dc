"""A Qwen2.5-shaped language model of a million parameters, made on the spot: its tokenizer and what it has read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from trainer.templates import END
from trainer.words import IMAGE_PAD, Words

PAD = "<|endoftext|>"
SPECIAL = (PAD, "<|im_start|>", END, IMAGE_PAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """steps: of reading texts before it is saved; a row of `row` texts each."""

    width: int = 96
    layers: int = 3
    vocabulary: int = 1024
    steps: int = 60
    row: int = 8
    seed: int = 0


def make(folder: Path, texts: Sequence[str], shape: Shape) -> None:
    """Write a checkpoint as Qwen2's are: config.json, model.safetensors, tokenizer.json."""
    torch.manual_seed(shape.seed)
    tokenizer_for(texts, shape.vocabulary).save_pretrained(folder)
    words = Words(folder)
    model = Qwen2ForCausalLM(config_of(shape, len(words.tokenizer), words.end_id))
    read(model, words, texts, shape)
    model.save_pretrained(folder)


def tokenizer_for(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE like Qwen's, learned from the texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, eos_token=END)


def config_of(shape: Shape, vocabulary: int, end_id: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.width * 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 32,
        num_key_value_heads=max(1, shape.width // 64),
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        eos_token_id=end_id,
        pad_token_id=0,
    )


def read(model: Qwen2ForCausalLM, words: Words, texts: Sequence[str], shape: Shape) -> None:
    """Let it learn how the texts are worded."""
    dice, ids = random.Random(shape.seed), [words.ids(text) for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(shape.steps):
        rows = [dice.choice(ids) for _ in range(shape.row)]
        longest = max(map(len, rows))
        batch = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
        model(batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
