"""EVEv2, an encoder-free vision-language model in one file (arXiv 2502.06788).

* patch embedding from scratch: Conv 16/16, GELU, Conv 2/2; CLS before a picture, SPL after each row; any aspect ratio
* a Qwen2.5 decoder in which norms, q/k/v/o and FFN each have a copy for vision, or not (`moe_part`): all is EVEv2.0,
  "mlp" EVEv1.5, "layernorm" the LN ablation, none EVEv1.0, `ffn_increment` the re-parameterised FFN of EVEv1.2
* sparse routing: a token passes only through the weights of its modality; equal to the masked form, half its FLOPs
* one causal attention over text and vision, 1-D RoPE over all tokens; pre-norm on h, as the released code does
* packed samples: `position_ids` that restart at 0 make the attention block-diagonal (SDPA mask, FlexAttention or
  varlen flash, whichever `attn_implementation` names)
* the loss touches the vocabulary only where a label is
* Hugging Face conventions: config, `save_pretrained`, `from_pretrained`, `generate` with a KV cache
* parameter and config names are the released ones: published weights load here, ours load there, Qwen2 loads as is

Shapes: B batch, T sequence, N text tokens, M vision tokens, D width, V vocabulary, P patches of all pictures,
K pixels of a patch's side (32), H heads, C head width. A picture of h x w patches is 1 + h (w + 1) tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypedDict, Unpack, runtime_checkable

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel, Qwen2Config
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2MLP,
    Qwen2RMSNorm,
    Qwen2RotaryEmbedding,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

from trainer.increment import IncrementMLP
from trainer.loss import shifted, supervised_loss

PARTS = ("layernorm", "self_attn", "mlp")
Module = Callable[[Tensor], Tensor]
Stream = tuple[Tensor, Tensor]  # the residual stream: text_ND, vision_MD


@strict
class EVEConfig(Qwen2Config):
    """A Qwen2 config and what EVE adds, under the released names.

    `moe_part` lists what has a copy for vision, joined by "-": a subset of layernorm, self_attn, mlp.
    `image_token_id` is Qwen2.5's own <|image_pad|>: upstream's -200 cannot pass through a logits processor.
    `gate_temperature` is the released factor within tanh for EVEv1.2's increments.
    """

    model_type = "eve-qwen2"

    add_moe: bool = True
    moe_part: str = "layernorm-self_attn-mlp"
    ffn_increment: bool = False
    gate_temperature: float = 10.0
    mm_hidden_size: int = 1024
    patch_stride: int = 16
    dense_stride: int = 2
    image_token_id: int = 151655

    def __post_init__(self, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__post_init__(**kwargs)
        unknown = set(filter(None, self.moe_part.split("-"))) - set(PARTS)
        if unknown:
            raise ValueError(f"moe_part names {sorted(unknown)}; there are {', '.join(PARTS)}, joined by '-'")
        if self.ffn_increment and "mlp" in self.per_modality:
            raise ValueError("ffn_increment re-parameterises the one FFN; leave mlp out of moe_part")

    @property
    def per_modality(self) -> tuple[str, ...]:
        """What has a copy of its own for vision."""
        return tuple(part for part in PARTS if self.add_moe and part in self.moe_part.split("-"))

    @property
    def patch_side(self) -> int:
        """Pixels of a patch's side; a picture's sides are multiples of it."""
        return self.patch_stride * self.dense_stride


@dataclass(frozen=True, slots=True)
class Route:
    """Which tokens are text and which vision, and the way between their groups and the sequence.

    The residual stream stays grouped through the whole decoder, so that every linear layer is one plain matmul a
    group; only q, k, v and the attention's output cross over. (Two groups fill a GPU as two matmuls.)
    """

    shape: tuple[int, int]  # B, T
    text_N: Tensor  # where text lies in the flattened sequence
    vision_M: Tensor
    back_BT: Tensor  # where each place of the sequence lies in [text, vision]

    @classmethod
    def of(cls, visual_BT: Tensor) -> Route:
        flat = visual_BT.flatten()
        text_N, vision_M = (~flat).nonzero().squeeze(1), flat.nonzero().squeeze(1)
        return cls(tuple(visual_BT.shape), text_N, vision_M, torch.cat((text_N, vision_M)).argsort())  # type: ignore[arg-type]

    def apply(self, text: Module, vision: Module | None, x: Stream) -> Stream:
        """Each group through its own weights; without a copy for vision both take the same."""
        vision = text if vision is None else vision
        # In training empty groups run too: a rank without pictures must reduce the same gradients as the others.
        if len(x[1]) == 0 and not torch.is_grad_enabled():
            return (y_ND := text(x[0])), y_ND[:0]
        return text(x[0]), vision(x[1])

    def join(self, x: Stream) -> Tensor:
        """text_ND, vision_MD -> x_BTD"""
        x_BTD = x[0] if len(x[1]) == 0 else torch.cat(x)[self.back_BT]
        # The empty group stays in the graph, see `apply`.
        return (x_BTD + x[1].sum() if len(x[1]) == 0 and x[1].requires_grad else x_BTD).unflatten(0, self.shape)

    def split(self, x_BTD: Tensor) -> Stream:
        flat = x_BTD.flatten(0, 1)
        return (flat, flat[:0]) if len(self.vision_M) == 0 else (flat[self.text_N], flat[self.vision_M])


class VisionTokenizer(nn.Module):
    """Pictures to tokens: patches, a CLS before each picture, a SPL after each row (the last included)."""

    def __init__(self, config: EVEConfig) -> None:
        super().__init__()
        width, k, s = config.mm_hidden_size, config.patch_stride, config.dense_stride
        self.side, self.dense = config.patch_side, s
        self.patch_embedding = nn.Sequential(
            nn.Conv2d(3, width, k, k), nn.GELU(), nn.Conv2d(width, config.hidden_size, s, s)
        )
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.split_embedding = nn.Parameter(torch.empty(config.hidden_size))

    def fresh(self, std: float) -> None:
        for token in (self.class_embedding, self.split_embedding):
            init.normal_(token)  # of 1, as released; the convolutions take std

    def embed(self, blocks_P3KK: Tensor) -> Tensor:
        """All patches of all pictures in two matmuls: a convolution whose stride is its kernel is a linear layer."""
        first, gelu, second = self.patch_embedding
        s, k = self.dense, self.side // self.dense
        cells = blocks_P3KK.unflatten(3, (s, k)).unflatten(2, (s, k)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        cells = gelu(F.linear(cells, first.weight.flatten(1), first.bias)).transpose(1, 2).flatten(1)
        return F.linear(cells, second.weight.flatten(1), second.bias)

    def tokens(self, picture_3HW: Tensor) -> int:
        """1 + h (w + 1)"""
        h, w = (size // self.side for size in picture_3HW.shape[1:])
        return 1 + h * (w + 1)

    def forward(self, pictures_3HW: list[Tensor]) -> Tensor:
        """Pictures (3, h K, w K), normalised -> the tokens of all of them in order, (sum of 1 + h (w + 1), D)."""
        weight, side = self.class_embedding, self.side
        blocks, grids = [weight.new_empty(0, 3, side, side)], []
        for each in pictures_3HW:
            if each.ndim != 3 or each.shape[0] != 3 or each.shape[1] % side or each.shape[2] % side:
                raise ValueError(f"a picture is (3, {side} h, {side} w), not {tuple(each.shape)}")
            grids.append((each.shape[1] // side, each.shape[2] // side))
            cut = each.to(weight.device, weight.dtype).unflatten(2, (-1, side)).unflatten(1, (-1, side))
            blocks.append(cut.permute(1, 3, 0, 2, 4).flatten(0, 1))
        patches = self.embed(torch.cat(blocks))
        tokens = [patches[:0], self.class_embedding[None][:0], self.split_embedding[None][:0]]
        for (h, w), of_one in zip(grids, patches.split([h * w for h, w in grids]), strict=True):
            rows = torch.cat((of_one.unflatten(0, (h, w)), self.split_embedding.expand(h, 1, -1)), dim=1)
            tokens += [self.class_embedding[None], rows.flatten(0, 1)]
        return torch.cat(tokens)


class EVEAttention(nn.Module):
    """q/k/v/o of the text and, if so configured, their copies for vision; one causal attention over both."""

    def __init__(self, config: EVEConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.num_key_value_groups = config.num_attention_heads // (config.num_key_value_heads or 1)
        self.scaling = self.head_dim**-0.5
        sizes = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        sizes["v_proj"] = config.num_key_value_heads
        for copy in ("", "moe_") if "self_attn" in config.per_modality else ("",):
            for name, heads in sizes.items():
                setattr(self, copy + name, nn.Linear(config.hidden_size, (heads or 0) * self.head_dim))
            merged = config.num_attention_heads * self.head_dim
            setattr(self, copy + "o_proj", nn.Linear(merged, config.hidden_size, bias=False))

    def forward(
        self, x: Stream, route: Route, rope: Stream, mask: object, cache: Cache | None, **kernel: object
    ) -> Stream:
        def heads(name: str) -> Tensor:
            y_BTE = route.join(route.apply(getattr(self, name), getattr(self, "moe_" + name, None), x))
            return y_BTE.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        v_BHTC = heads("v_proj")
        q_BHTC, k_BHTC = apply_rotary_pos_emb(heads("q_proj"), heads("k_proj"), *rope)
        if cache is not None:
            k_BHTC, v_BHTC = cache.update(k_BHTC, v_BHTC, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.config.attention_dropout if self.training else 0.0
        y_BTHC, _ = attend(self, q_BHTC, k_BHTC, v_BHTC, mask, dropout=dropout, scaling=self.scaling, **kernel)
        return route.apply(self.o_proj, getattr(self, "moe_o_proj", None), route.split(y_BTHC.flatten(2)))


class EVEDecoderLayer(GradientCheckpointingLayer):
    """h = x + attention(norm(x)), y = h + ffn(norm(h)), each by modality."""

    def __init__(self, config: EVEConfig, layer_idx: int) -> None:
        super().__init__()
        own = config.per_modality
        ffn = partial(IncrementMLP, temperature=config.gate_temperature) if config.ffn_increment else Qwen2MLP
        self.self_attn = EVEAttention(config, layer_idx)
        for copy in ("", "moe_"):
            if not copy or "mlp" in own:
                setattr(self, copy + "mlp", ffn(config))
            if not copy or "layernorm" in own:
                for name in ("input_layernorm", "post_attention_layernorm"):
                    setattr(self, copy + name, Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps))

    def forward(self, text_ND: Tensor, vision_MD: Tensor, route: Route, **attention: object) -> Stream:
        def through(name: str, x: Stream) -> Stream:
            return route.apply(getattr(self, name), getattr(self, "moe_" + name, None), x)

        x = (text_ND, vision_MD)
        a = self.self_attn(through("input_layernorm", x), route, **attention)
        h = (x[0] + a[0], x[1] + a[1])
        y = through("mlp", through("post_attention_layernorm", h))
        return h[0] + y[0], h[1] + y[1]


@runtime_checkable
class Fresh(Protocol):
    """A module with parameters of its own, which it fills when no checkpoint does."""

    def fresh(self, std: float) -> None: ...


class Context(TypedDict, total=False):
    """What `generate` and a training loop pass on besides."""

    past_key_values: Cache | None
    use_cache: bool | None
    num_items_in_batch: int | Tensor | None
    return_dict: bool | None  # the answer is an object either way


class EVEPreTrainedModel(PreTrainedModel):
    config_class = EVEConfig
    config: EVEConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ("EVEDecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Fresh):
            module.fresh(self.config.initializer_range)


class EVEModel(EVEPreTrainedModel):
    """Ids and pictures to hidden states."""

    tokenizer: type[nn.Module] = VisionTokenizer

    def __init__(self, config: EVEConfig) -> None:
        super().__init__(config)
        self.vision_tower = self.tokenizer(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(EVEDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen2RotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    def embed(self, input_ids_BT: Tensor, pictures_3HW: list[Tensor] | None) -> tuple[Stream, Route]:
        """The door: as many image tokens as the pictures make, or an error that says the numbers."""
        if input_ids_BT.ndim != 2:
            raise ValueError(f"input_ids are (batch, sequence), not {tuple(input_ids_BT.shape)}")
        visual_BT = input_ids_BT == self.config.image_token_id
        vision_MD = self.embed_tokens.weight[:0]
        if pictures_3HW or torch.is_grad_enabled():  # a batch without pictures, too, has its (zero) gradient
            vision_MD = self.vision_tower(pictures_3HW or [])
        if len(vision_MD) != int(visual_BT.sum()):
            raise ValueError(
                f"{int(visual_BT.sum())} image tokens in input_ids, but the pictures make {len(vision_MD)}"
            )
        text_ND = self.embed_tokens(input_ids_BT[~visual_BT])
        x, route = (text_ND, vision_MD), Route.of(visual_BT)
        if self.config.per_modality:
            return x, route
        return (route.join(x).flatten(0, 1), vision_MD[:0]), Route.of(torch.zeros_like(visual_BT))  # one group

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        pixel_values: list[Tensor] | None = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """Returns the last hidden states (B, T, D), after the final norm."""
        x, route = self.embed(input_ids, pixel_values)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(input_ids.shape[1], device=input_ids.device) + seen)[None]
        refuse_masked_packing(attention_mask, position_ids, past_key_values)
        of_shape_BT0 = x[0].new_empty(*input_ids.shape, 0)
        mask = create_causal_mask(self.config, of_shape_BT0, attention_mask, past_key_values, position_ids)
        rope = self.rotary_emb(x[0], position_ids)
        for layer in self.layers:
            # position_ids tell varlen flash where packed samples begin
            x = layer(*x, route, rope=rope, mask=mask, cache=past_key_values, position_ids=position_ids)
        return BaseModelOutputWithPast(self.norm(route.join(x)), past_key_values)


def refuse_masked_packing(mask_BT: Tensor | None, position_ids: Tensor, cache: Cache | None) -> None:
    """transformers looks for packed samples only where there is no mask, and would join them without a word."""
    if mask_BT is not None and cache is None and ((position_ids.diff() < 0) & mask_BT[:, 1:].bool()).any():
        raise ValueError("packed samples (position_ids that restart) go without attention_mask")


class EVEForCausalLM(EVEPreTrainedModel, GenerationMixin):
    """EVE with its vocabulary: loss, logits, `generate`."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: EVEConfig) -> None:
        super().__init__(config)
        self.model = EVEModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        pixel_values: list[Tensor] | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **context: Unpack[Context],
    ) -> CausalLMOutputWithPast:
        """Ids (B, T) in which a picture is 1 + h (w + 1) image tokens, and the pictures in their order.

        With labels (B, T; -100 is ignored) returns the loss: the mean over labels or, for accumulated steps, the sum
        over `num_items_in_batch`. Logits are then left out: most places have no label and 152,064 words cost much.
        Without labels returns logits (B, T, V), of the last `logits_to_keep` places only if it is not 0.
        """
        cache, use_cache = context.get("past_key_values"), context.get("use_cache")
        out = self.model(input_ids, attention_mask, position_ids, cache, pixel_values, use_cache)
        targets_BT = None if labels is None else shifted(labels, position_ids)
        return self.answer(out, targets_BT, logits_to_keep, context)

    def answer(
        self, out: BaseModelOutputWithPast, targets_BT: Tensor | None, logits_to_keep: int, context: Context
    ) -> CausalLMOutputWithPast:
        """The loss where there are targets, else the logits."""
        hidden_BTD = out.last_hidden_state
        if targets_BT is None:
            logits = self.lm_head(hidden_BTD[:, -logits_to_keep:])  # -0: all of them
            return CausalLMOutputWithPast(logits=logits, past_key_values=out.past_key_values)
        loss = supervised_loss(hidden_BTD, targets_BT, self.lm_head, context.get("num_items_in_batch"))
        return CausalLMOutputWithPast(loss=loss, past_key_values=out.past_key_values)

    def generate(self, *inputs, suppress_tokens=None, **options):  # type: ignore[no-untyped-def]
        """transformers' `generate`; the model never says the image token, which only a picture may bring."""
        suppressed = [*(suppress_tokens or self.generation_config.suppress_tokens or []), self.config.image_token_id]
        return super().generate(*inputs, suppress_tokens=suppressed, **options)

    def _expand_inputs_for_generation(  # type: ignore[no-untyped-def]
        self, expand_size=1, is_encoder_decoder=False, input_ids=None, **model_kwargs
    ):
        """Beams, or several answers to a prompt: a prompt's pictures are repeated with it."""
        if expand_size > 1 and model_kwargs.get("pixel_values"):
            left, repeated = iter(model_kwargs["pixel_values"]), []
            for tokens in (input_ids == self.config.image_token_id).sum(1).tolist():
                of_row = []
                while tokens > 0:
                    of_row.append(next(left))
                    tokens -= self.model.vision_tower.tokens(of_row[-1])
                repeated += of_row * expand_size
            model_kwargs["pixel_values"] = repeated
        return super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **model_kwargs)
