"""The masked dense form that the released code computes: every token through both weights, one of them times 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.eve import EVEForCausalLM, Module, Route, Stream


@dataclass(frozen=True)
class MaskedDense:
    shape: tuple[int, int]
    vision_N1: Tensor

    def apply(self, text: Module, vision: Module | None, x: Stream) -> Stream:
        if vision is None:
            return text(x[0]), x[1]
        return text(x[0]) * (1 - self.vision_N1) + vision(x[0]) * self.vision_N1, x[1]

    def join(self, x: Stream) -> Tensor:
        return x[0].unflatten(0, self.shape)

    def split(self, x_BTD: Tensor) -> Stream:
        flat = x_BTD.flatten(0, 1)
        return flat, flat[:0]


def make_dense(model: EVEForCausalLM) -> EVEForCausalLM:
    """The same model in the masked dense form, in place."""
    routed = model.model.embed

    def embed(ids_BT: Tensor, pictures: list[Tensor] | None) -> tuple[Stream, object]:
        x, route = routed(ids_BT, pictures)
        joined = route.join(x).flatten(0, 1)
        vision_N1 = (ids_BT == model.config.image_token_id).flatten()[:, None].to(joined.dtype)
        return (joined, joined[:0]), MaskedDense(tuple(ids_BT.shape), vision_N1)

    model.model.embed = embed
    return model


def route_of(model: EVEForCausalLM, ids_BT: Tensor) -> tuple[Route, MaskedDense]:
    visual_BT = ids_BT == model.config.image_token_id
    return Route.of(visual_BT), MaskedDense(tuple(ids_BT.shape), visual_BT.flatten()[:, None].to(torch.float32))
