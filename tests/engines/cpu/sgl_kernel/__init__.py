"""Names in place of SGLang's compiled kernels, of which there is no CPU wheel: they can be imported, never called.

SGLang's CPU path looks the names up while it is imported, and calls them only where the CPU has AMX and the real
package registered its operators. Without them every layer of a dense model takes its torch path. A call that gets
here all the same raises, with the name.
"""

import importlib.abc
import importlib.machinery
import sys
import types

import torch

__version__ = "0.4.10"
__path__ = []


class Kernel:
    """One name; what is looked up in it is a name again."""

    def __init__(self, name):
        self.name = name

    def __call__(self, *args, **kwargs):
        raise NotImplementedError(f"{self.name} is a name without a kernel")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Kernel(f"{self.name}.{name}")


def names_of(module):
    """A module's __getattr__: any name but Python's own."""

    def found(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Kernel(f"{module}.{name}")

    return found


class Submodules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Whatever is imported from below sgl_kernel."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith("sgl_kernel."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__, module.__getattr__ = [], names_of(spec.name)
        return module

    def exec_module(self, module):
        """There is nothing in it."""


class Operators:
    """torch.ops.sgl_kernel: only the names of CPU kernels are there, so that CUDA's are not registered."""

    def __getattr__(self, name):
        if name.endswith("_cpu"):
            return Kernel(f"torch.ops.sgl_kernel.{name}")
        raise AttributeError(name)


__getattr__ = names_of("sgl_kernel")
sys.meta_path.append(Submodules())
torch.ops.sgl_kernel = Operators()
