"""Lets torchvision's CUDA build import beside a CPU torch; a .pth file loads this, and it waits for that import.

torchvision registers fakes for its operators nms and qnms without asking whether they exist. Its C library holds them
and cannot load without libtorch_cuda.so, so the import ends with 'operator torchvision::nms does not exist'. Declared
here before it looks, with a kernel for nms, the rest of torchvision works.
"""

import importlib.abc
import importlib.machinery
import sys


class OperatorsFirst(importlib.abc.MetaPathFinder):
    """Finds nothing; declares the operators when torchvision is looked for."""

    def __init__(self):
        self.library = None  # dropped, it would take its schemas away again

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and self.library is None:
            import torch

            if torch.version.cuda is None:
                self.library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                self.library.impl("nms", non_maximum_suppression, "CPU")
        return None


def non_maximum_suppression(boxes, scores, threshold):
    """Indices of the boxes kept, best first: each drops those that overlap it (IoU) by more than the threshold."""
    import torch

    def area(box):
        return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])

    kept, order = [], scores.argsort(descending=True)
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best][:2], boxes[rest][:, :2])
        high = torch.minimum(boxes[best][2:], boxes[rest][:, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        order = rest[shared / (area(boxes[best]) + area(boxes[rest]) - shared) <= threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)


sys.meta_path.insert(0, OperatorsFirst())
