"""Temporal token merging inside a decoder (ELVA): patches that stay alike from frame to frame become one token.

A patch is compared with the one before it at the same place of the picture; a run of links becomes its weighted mean.
Legend: N tokens of all samples in a row, D width, P patches among them, R runs, L videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NOWHERE = -1  # text, FRAME and LINE tokens: they have no place in a picture and never merge


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The living tokens, in order, and all that has to be dropped with one of them."""

    x_ND: Tensor
    sample_N: Tensor
    position_N: Tensor
    place_N: Tensor  # a number for each (video, row, column), or NOWHERE
    video_N: Tensor  # which video a patch is of; of no meaning elsewhere
    weight_N: Tensor  # how many tokens have gone into this one
    index_N: Tensor  # where it was before any merging: the nonzeros of the paper's index matrix

    def at(self, keep_N: Tensor) -> Tokens:
        return Tokens(**{name: getattr(self, name)[keep_N] for name in self.__slots__})


@torch.no_grad()
def pairs(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Patches by place, then time (P), and the cosine of each with the one before it (P - 1); -inf across places."""
    patches = (tokens.place_N != NOWHERE).nonzero().squeeze(1)
    order_P = patches[tokens.place_N[patches].argsort(stable=True)]
    x_PD, place_P = tokens.x_ND[order_P].float(), tokens.place_N[order_P]
    cosine = F.cosine_similarity(x_PD[1:], x_PD[:-1], dim=1)
    return order_P, cosine.masked_fill(place_P[1:] != place_P[:-1], -torch.inf)


def above(cosine: Tensor, threshold: float) -> Tensor:
    """Links every pair more alike than the threshold."""
    return cosine > threshold


def most_alike(cosine: Tensor, video: Tensor, excess_L: Tensor) -> Tensor:
    """Links, of each video, the `excess_L` pairs most alike; `video` is each pair's."""
    by_cosine = cosine.argsort(descending=True, stable=True)
    ranked = by_cosine[video[by_cosine].argsort(stable=True)]
    sizes_L = torch.bincount(video, minlength=len(excess_L))
    first_L = sizes_L.cumsum(0) - sizes_L
    rank = torch.arange(len(video), device=video.device) - first_L[video[ranked]]
    links = torch.zeros_like(video, dtype=torch.bool)
    links[ranked] = rank < excess_L[video[ranked]]
    return links & cosine.isfinite()


def merged(tokens: Tokens, order_P: Tensor, links: Tensor) -> Tokens:
    """Each run of links becomes one token, the mean of all that went into it, where the run's last one was.

    The last, because a mean put where the first one was would show tokens in between what comes after them.
    """
    if not links.any():
        return tokens
    edge = torch.ones(1, dtype=torch.bool, device=links.device)
    run_P, last_P = torch.cat((edge, ~links)).cumsum(0) - 1, torch.cat((~links, edge))
    weight_P = tokens.weight_N[order_P]
    weight_R = weight_P.new_zeros(int(last_P.sum())).index_add(0, run_P, weight_P)
    x_PD = tokens.x_ND[order_P].float() * weight_P[:, None]
    x_RD = x_PD.new_zeros(len(weight_R), x_PD.shape[1]).index_add(0, run_P, x_PD) / weight_R[:, None]
    stays = order_P[last_P]
    whole = Tokens(
        x_ND=tokens.x_ND.index_copy(0, stays, x_RD.to(tokens.x_ND.dtype)),
        weight_N=tokens.weight_N.index_copy(0, stays, weight_R),
        **{name: getattr(tokens, name) for name in ("sample_N", "position_N", "place_N", "video_N", "index_N")},
    )
    keep_N = torch.ones_like(tokens.place_N, dtype=torch.bool).index_fill(0, order_P, False)
    return whole.at(keep_N.index_fill(0, stays, True).nonzero().squeeze(1))


def merge_above(tokens: Tokens, threshold: float) -> Tokens:
    """The shallow layers' rule: all pairs above the threshold."""
    order_P, cosine = pairs(tokens)
    return merged(tokens, order_P, above(cosine, threshold))


def merge_down_to(tokens: Tokens, limit_L: Tensor) -> Tokens:
    """The deeper layers' rule: the most alike pairs, until a video has its `limit_L` patches or no pair is left."""
    order_P, cosine = pairs(tokens)
    video_P = tokens.video_N[order_P]
    excess_L = (torch.bincount(video_P, minlength=len(limit_L)) - limit_L).clamp(min=0)
    return merged(tokens, order_P, most_alike(cosine, video_P[1:], excess_L))
