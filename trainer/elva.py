"""ELVA, an encoder-free video-language model in one file (arXiv 2503.18422), on the parts of EVE.

* native video tokens: 14 x 14 patches of any grid; FRAME before a frame, LINE after each row
* patch embedding of 9.0M: FRAME looks over its frame and LINE over its row by cross-attention; then a map to D
* the Qwen2 decoder of `trainer.eve`, without copies for vision, packing and loss included
* hierarchical temporal merging: above a cosine of .6 in shallow layers, then down to 50 %; off or on by the config
* a teacher's guidance in the loss (tube-wise distance, frame-wise contrast), features given from outside
* Hugging Face conventions; `generate` merges in the prefill and keeps a cache whose layers differ in length

ELVA's code and weights are not public. What the paper leaves open is a field of ELVAConfig, or of `Guide`, with why.

Shapes: B batch, T sequence, N tokens of all samples in a row, D width, C patch width, F frames, h x w patches,
L videos.
A frame is 1 + h (w + 1) tokens; a picture is a video of one frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Unpack

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from trainer import merging
from trainer.eve import Context, EVEConfig, EVEForCausalLM, EVEModel, EVEPreTrainedModel, Route, refuse_masked_packing
from trainer.guidance import Guide, Taught
from trainer.loss import shifted


@strict
class ELVAConfig(EVEConfig):
    """EVE's config without copies for vision, and ELVA's choices; the open ones, each with its reason:

    mm_hidden_size 1024, patch_heads 8: FRAME, LINE, patches and two attentions are then the paper's 9M (9,003,008).
    threshold_layers: merging begins at layer 2, where a state says more than a patch's colours, and ends in the first
        quarter of the 28: likeness of neighbours falls with depth, so a threshold belongs early.
    target_layers: two later steps, to 75 and 50 %, so that no layer loses more than a quarter at once.
    Of each video the target is a share of the patches it entered with; FRAME and LINE stay, they carry the layout.
    teacher_width 0: no guidance; 1152 is SigLIP so400m's. teacher_temperature .07 is CLIP's first value.
    tube_weight, frame_weight 1: the paper names no weights.
    """

    model_type = "elva-qwen2"

    add_moe: bool = False
    patch_stride: int = 14
    dense_stride: int = 1
    patch_heads: int = 8
    merging: bool = True
    merge_threshold: float = 0.6
    merge_target: float = 0.5
    threshold_layers: tuple[int, ...] | list[int] = (2, 4, 6)
    target_layers: tuple[int, ...] | list[int] = (10, 14)
    teacher_width: int = 0
    teacher_temperature: float = 0.07
    tube_weight: float = 1.0
    frame_weight: float = 1.0

    def __post_init__(self, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__post_init__(**kwargs)
        layers = [*self.threshold_layers, *self.target_layers]
        if self.merging and (
            layers != sorted(set(layers)) or not all(0 < at < self.num_hidden_layers for at in layers)
        ):
            raise ValueError(f"merging wants rising layers within 1..{self.num_hidden_layers - 1}, not {layers}")

    @property
    def merge_shares(self) -> dict[int, float]:
        """The share of its patches that a video may keep, by the layer before which it is brought to it."""
        steps = len(self.target_layers)
        return {at: 1 - (1 - self.merge_target) * (k + 1) / steps for k, at in enumerate(self.target_layers)}


class Look(nn.Module):
    """One query looks over its patches: pre-norm cross-attention, added to the query."""

    def __init__(self, config: ELVAConfig) -> None:
        super().__init__()
        width, self.heads = config.mm_hidden_size, config.patch_heads
        self.norm = Qwen2RMSNorm(width, eps=config.rms_norm_eps)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width))

    def forward(self, query_C: Tensor, patches_GPC: Tensor) -> Tensor:
        """G groups of P patches -> (G, 1, C)"""

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query_G1C = query_C.expand(len(patches_GPC), 1, -1)
        seen = self.norm(patches_GPC)
        y = F.scaled_dot_product_attention(
            heads(self.q_proj(query_G1C)), heads(self.k_proj(seen)), heads(self.v_proj(seen))
        )
        return query_G1C + self.o_proj(y.transpose(1, 2).flatten(2))


class VideoTokenizer(nn.Module):
    """Videos to tokens: FRAME, then rows of patches, each ended by LINE."""

    def __init__(self, config: ELVAConfig) -> None:
        super().__init__()
        width, self.side = config.mm_hidden_size, config.patch_side
        self.patch_embedding = nn.Conv2d(3, width, self.side, self.side, bias=False)
        self.frame_embedding, self.line_embedding = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.frame_look, self.line_look = Look(config), Look(config)
        self.projection = nn.Linear(width, config.hidden_size)

    def fresh(self, std: float) -> None:
        for token in (self.frame_embedding, self.line_embedding):
            init.normal_(token, std=std)

    def grid(self, video_F3HW: Tensor) -> tuple[int, int, int]:
        """F, h, w. Raises ValueError if it is no video of whole patches."""
        shape = tuple(video_F3HW.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] % self.side or shape[3] % self.side:
            raise ValueError(f"a video is (frames, 3, {self.side} h, {self.side} w), not {shape}")
        return shape[0], shape[2] // self.side, shape[3] // self.side

    def tokens(self, video_F3HW: Tensor) -> int:
        frames, h, w = self.grid(video_F3HW)
        return frames * (1 + h * (w + 1))

    def embed(self, video_F3HW: Tensor) -> Tensor:
        (frames, h, w), k = self.grid(video_F3HW), self.side
        weight = self.patch_embedding.weight
        cut = video_F3HW.to(weight.device, weight.dtype).unflatten(3, (w, k)).unflatten(2, (h, k))
        patches_FhwC = F.linear(cut.permute(0, 2, 4, 1, 3, 5).flatten(3), weight.flatten(1))
        frame_F1C = self.frame_look(self.frame_embedding, patches_FhwC.flatten(1, 2))
        line_Fh1C = self.line_look(self.line_embedding, patches_FhwC.flatten(0, 1)).unflatten(0, (frames, h))
        rows_FRC = torch.cat((patches_FhwC, line_Fh1C), dim=2).flatten(1, 2)
        return self.projection(torch.cat((frame_F1C, rows_FRC), dim=1).flatten(0, 1))

    def forward(self, videos_F3HW: list[Tensor]) -> Tensor:
        """Videos (F, 3, h side, w side), normalised -> the tokens of all of them, (sum of F (1 + h (w + 1)), D)"""
        nothing = self.frame_embedding.new_zeros(0, 3, self.side, self.side)  # keeps the gradients of an empty batch
        return torch.cat([self.embed(video) for video in (nothing, *videos_F3HW)])

    def places(self, videos_F3HW: list[Tensor]) -> tuple[Tensor, Tensor]:
        """For each visual token its place, a number of its own for each (video, row, column), and its video."""
        places, videos, first = [], [], 0
        for index, video in enumerate(videos_F3HW):
            frames, h, w = self.grid(video)
            rows_hw = F.pad(torch.arange(h * w).view(h, w) + first, (0, 1), value=merging.NOWHERE)
            places.append(F.pad(rows_hw.flatten(), (1, 0), value=merging.NOWHERE).repeat(frames))
            videos.append(torch.full_like(places[-1], index))
            first += h * w
        return torch.cat(places), torch.cat(videos)


@dataclass
class ELVAOutput(BaseModelOutputWithPast):
    """`kept`: after merging, where in the flattened (B T) input each hidden state (1, N, D) was; else None."""

    kept: Tensor | None = None


class ELVAModel(EVEModel):
    config_class = ELVAConfig
    config: ELVAConfig
    tokenizer = VideoTokenizer

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        pixel_values: list[Tensor] | None = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, D); (1, N, D), fewer and in one row, if something may merge."""
        if self.config.merging and past_key_values is not None and past_key_values.get_seq_length():
            if input_ids.shape != (1, 1):
                raise ValueError(f"a merged cache goes on one token of one sample at a time, not {input_ids.shape}")
            # One row and one query: it sees all that each layer has kept, and no one mask would fit layers that differ.
            eager = self.config._attn_implementation == "eager"
            attention_mask = self.norm.weight.new_zeros(1, 1, 1, 1) if eager else None
        if not self.config.merging or not any(len(video) > 1 for video in pixel_values or []):
            return super().forward(input_ids, attention_mask, position_ids, past_key_values, pixel_values, use_cache)
        if (use_cache or past_key_values is not None) and len(input_ids) > 1:
            raise ValueError(
                "samples merge to different lengths: generate one at a time, or set config.merging = False"
            )
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        refuse_masked_packing(attention_mask, position_ids, past_key_values)
        tokens = self.tokens(input_ids, attention_mask, position_ids, pixel_values or [])
        tokens = self.decode(tokens, past_key_values)
        return ELVAOutput(self.norm(tokens.x_ND)[None], past_key_values, kept=tokens.index_N)

    def tokens(
        self, ids_BT: Tensor, mask_BT: Tensor | None, position_ids: Tensor, videos: list[Tensor]
    ) -> merging.Tokens:
        """All samples in one row, without padding."""
        x, route = self.embed(ids_BT, videos)
        position_BT = position_ids.expand_as(ids_BT)
        starts_BT = position_BT == 0
        if mask_BT is not None:  # padded rows: their positions count from the first token
            position_BT = (mask_BT.long().cumsum(1) - 1).clamp(min=0)
            starts_BT = (position_BT == 0) & mask_BT.bool()
        visual_N = (ids_BT == self.config.image_token_id).flatten()
        place_N, video_N = torch.full_like(ids_BT, merging.NOWHERE).flatten(), torch.zeros_like(ids_BT).flatten()
        places = self.vision_tower.places(videos)
        place_N[visual_N], video_N[visual_N] = (each.to(ids_BT.device) for each in places)
        whole = merging.Tokens(
            x_ND=route.join(x).flatten(0, 1),
            sample_N=starts_BT.flatten().cumsum(0),
            position_N=position_BT.flatten(),
            place_N=place_N,
            video_N=video_N,
            weight_N=torch.ones(ids_BT.numel(), device=ids_BT.device),
            index_N=torch.arange(ids_BT.numel(), device=ids_BT.device),
        )
        return whole if mask_BT is None else whole.at(mask_BT.flatten().bool().nonzero().squeeze(1))

    def decode(self, tokens: merging.Tokens, cache: Cache | None) -> merging.Tokens:
        """The layers, with merging before those that the config names."""
        patches = tokens.video_N[tokens.place_N != merging.NOWHERE]
        whole_L, shares, route = torch.bincount(patches), self.config.merge_shares, None
        for index, layer in enumerate(self.layers):
            count = len(tokens.x_ND)
            if index in self.config.threshold_layers:
                tokens = merging.merge_above(tokens, self.config.merge_threshold)
            elif index in shares:
                tokens = merging.merge_down_to(tokens, (whole_L * shares[index]).ceil().long())
            if route is None or len(tokens.x_ND) != count:
                route, attention = self.around(tokens)
            x_ND, _ = layer(tokens.x_ND, tokens.x_ND[:0], route, cache=cache, **attention)
            tokens = replace(tokens, x_ND=x_ND)
        return tokens

    def around(self, tokens: merging.Tokens) -> tuple[Route, dict[str, object]]:
        """What attention needs to know of the tokens that are left: positions, and who sees whom."""
        sample_1N, position_1N = tokens.sample_N[None], tokens.position_N[None]

        def same_sample(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return sample_1N[batch, query] == sample_1N[batch, key]

        several = bool((tokens.sample_N != tokens.sample_N[0]).any())
        mask = create_causal_mask(
            self.config,
            tokens.x_ND.new_empty(1, len(tokens.x_ND), 0),
            attention_mask=None,
            past_key_values=None,
            and_mask_function=same_sample if several else None,
        )
        rope = self.rotary_emb(tokens.x_ND, position_1N)
        route = Route.of(torch.zeros_like(sample_1N, dtype=torch.bool))
        return route, {"rope": rope, "mask": mask, "position_ids": position_1N}


class ELVAContext(Context, total=False):
    """`taught`: a teacher's features of each video of the batch; the loss then holds the guidance too, times
    `taught_share`: of several batches of one step, each has its share of the mean."""

    taught: list[Taught] | None
    taught_share: float


class ELVAForCausalLM(EVEForCausalLM):
    """ELVA with its vocabulary and, if a teacher is configured, its guide."""

    config_class = ELVAConfig
    config: ELVAConfig

    def __init__(self, config: ELVAConfig) -> None:
        EVEPreTrainedModel.__init__(self, config)
        self.model = ELVAModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.teacher_width:
            self.guide = Guide(config.hidden_size, config.teacher_width, config.teacher_temperature)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        pixel_values: list[Tensor] | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **context: Unpack[ELVAContext],
    ) -> CausalLMOutputWithPast:
        """As EVE's, with videos (F, 3, H, W) of F (1 + h (w + 1)) image tokens. Merged logits are (1, N, V)."""
        cache, use_cache = context.get("past_key_values"), context.get("use_cache")
        out = self.model(input_ids, attention_mask, position_ids, cache, pixel_values, use_cache)
        targets, kept = None if labels is None else shifted(labels, position_ids), getattr(out, "kept", None)
        if targets is not None and kept is not None:
            targets = targets.flatten()[kept][None]
        answer = self.answer(out, targets, logits_to_keep, context)
        if answer.loss is not None and (taught := context.get("taught")) is not None:
            visual_MD = self.visual(out.last_hidden_state, input_ids, kept)
            guidance = self.guidance(visual_MD, pixel_values or [], taught)
            answer.loss = answer.loss + context.get("taught_share", 1.0) * guidance
        return answer

    def visual(self, hidden_BTD: Tensor, ids_BT: Tensor, kept: Tensor | None) -> Tensor:
        if kept is not None:
            raise ValueError("a teacher guides stages 1 and 2, which do not merge: set config.merging = False")
        return hidden_BTD[ids_BT == self.config.image_token_id]

    def guidance(self, visual_MD: Tensor, videos: list[Tensor], taught: list[Taught]) -> Tensor:
        """Tube-wise distance, a mean over videos, and frame-wise contrast; on the decoder's last states, so that every
        layer is guided (the paper does not say which are). Raises ValueError if teacher and videos do not pair up."""
        tower = self.model.vision_tower
        if [len(video) for video in videos] != [len(each.frames_FE) for each in taught]:
            raise ValueError(f"the teacher saw {len(taught)} videos of other lengths than these {len(videos)}")
        tubes, frames = [], []
        for each, video, tokens in zip(
            taught, videos, visual_MD.split([tower.tokens(video) for video in videos]), strict=True
        ):
            count, h, w = tower.grid(video)
            of_frame = tokens.unflatten(0, (count, 1 + h * (w + 1)))
            frames.append(of_frame[:, 0])
            tubes.append(self.guide.tubes(of_frame[:, 1:].unflatten(1, (h, w + 1))[:, :, :w], each))
        # A batch without videos takes part with none: the other processes wait for its frames.
        nothing_0E = visual_MD.new_zeros(0, self.config.teacher_width)
        theirs_SE = torch.cat([nothing_0E, *(each.frames_FE for each in taught)])
        contrast = self.guide.frames(torch.cat([visual_MD[:0], *frames]), theirs_SE)
        tube = torch.stack(tubes).mean() if tubes else contrast
        return self.config.tube_weight * tube + self.config.frame_weight * contrast
