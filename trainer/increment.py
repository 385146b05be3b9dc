"""The re-parameterised FFN of EVEv1.2: one of the paper's ablations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2Config
from transformers import initialization as init
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP


class IncrementMLP(Qwen2MLP):
    """EVEv1.2's FFN: up and down are W + tanh(10 g) dW, g from 0, to be folded into W after training."""

    def __init__(self, config: Qwen2Config, temperature: float) -> None:
        super().__init__(config)
        wide, narrow = config.intermediate_size, config.hidden_size
        self.temperature = temperature
        self.moe_up_proj = nn.Parameter(torch.empty(narrow, wide))  # input first, as released
        self.moe_down_proj = nn.Parameter(torch.empty(wide, narrow))
        self.moe_up_gate = nn.Parameter(torch.zeros(1))
        self.moe_down_gate = nn.Parameter(torch.zeros(1))

    def fresh(self, std: float) -> None:
        for increment, gate in ((self.moe_up_proj, self.moe_up_gate), (self.moe_down_proj, self.moe_down_gate)):
            init.normal_(increment, std=std)
            init.zeros_(gate)  # the model starts as the text model

    def weights(self) -> tuple[Tensor, Tensor]:
        """Up and down with their increments folded in."""
        up, down = (torch.tanh(gate * self.temperature) for gate in (self.moe_up_gate, self.moe_down_gate))
        return self.up_proj.weight + up * self.moe_up_proj.T, self.down_proj.weight + down * self.moe_down_proj.T

    def forward(self, x: Tensor) -> Tensor:
        up, down = self.weights()
        return F.linear(self.act_fn(self.gate_proj(x)) * F.linear(x, up), down)
