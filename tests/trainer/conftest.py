"""One thread for tiny tensors: more would only wait for each other, and add in another order than the processes."""

from __future__ import annotations

import importlib.util
import os

os.environ["OMP_NUM_THREADS"] = "1"  # also of the processes that tests start
if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)
