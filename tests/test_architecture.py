"""The tree of the README holds: arrows go one way, heavy libraries stay in their homes, and no code is too long."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARROWS = {
    "captioner": set(),
    "shards": {"captioner"},
    "pipelines": {"shards", "captioner"},
    "serving": {"pipelines", "shards", "captioner"},
    "trainer": {"shards", "captioner"},
}
HOMES = {
    "ray": "pipelines",
    "fastapi": "serving",
    "uvicorn": "serving",
    "starlette": "serving",
    "prometheus_client": "serving",
    "torch": "trainer",
    "transformers": "trainer",
    "onnxruntime": "captioner/experts",
    "rapidocr": "captioner/experts",
    "obstore": "shards",
    "pyarrow": "shards",
    "tarfile": "shards",
}
NOWHERE = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
RAY_FILES = {
    *("pipelines/actors.py", "pipelines/engine_hosts.py", "pipelines/recaption.py", "pipelines/metrics.py"),
    "pipelines/recap_train.py",
}
# What reads clips, which may be hostile: decoder processes alone run it.
OPENING = {f"captioner.media.{name}" for name in ("watch", "clip", "clip_frames", "clip_job", "decord_frames")}
VAGUE = {"utils.py", "helpers.py", "common.py", "base.py", "misc.py"}

FILES = [path for room in ARROWS for path in sorted((ROOT / room).rglob("*.py"))]
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports name their whole path"
            yield node.module


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_arrows_go_one_way_and_libraries_stay_at_home(path: Path) -> None:
    room, where = path.relative_to(ROOT).parts[0], str(path.relative_to(ROOT))
    for module in imported(ast.parse(path.read_text())):
        head = module.partition(".")[0]
        assert head not in NOWHERE, f"{where} imports {module}: nothing is pickled"
        assert head not in ARROWS or head == room or head in ARROWS[room], (
            f"{where} imports {module}: against the arrows"
        )
        assert head not in HOMES or where.startswith(HOMES[head]), f"{where} imports {module}, at home in {HOMES[head]}"
        assert module not in OPENING or where.startswith("captioner/media/"), (
            f"{where} opens clips, and no decoder process"
        )
        assert head != "ray" or where in RAY_FILES, f"{where} imports ray: only {sorted(RAY_FILES)} may"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "a file over 400 lines wants to be two"
    assert path.name not in VAGUE, "name a file by the thing in it"
    assert ast.get_docstring(ast.parse(text)), "a module opens with one sentence"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_functions_are_short_take_few_parameters_and_never_catch_everything(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for function in functions(tree):
        parameters = len(function.args.args) + len(function.args.kwonlyargs)
        assert length(function) <= 60, f"{function.name} is {length(function)} lines"
        assert parameters <= 7, f"{function.name} takes {parameters} parameters"
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
        caught = ast.unparse(handler.type) if handler.type else ""
        reraises = any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
        assert caught not in ("", "Exception") and (caught != "BaseException" or reraises), f"catches {caught!r}"


def test_nine_of_ten_functions_fit_thirty_lines() -> None:
    lengths = [length(each) for each in itertools.chain(*(functions(ast.parse(path.read_text())) for path in FILES))]
    assert sum(each <= 30 for each in lengths) >= 0.9 * len(lengths)


def test_importing_the_nouns_costs_no_heavy_library() -> None:
    heavy = {"ray", "torch", "onnxruntime", "rapidocr", "PIL", "pyarrow", "webdataset", "numpy"}
    assert not heavy & loaded_by("captioner.captioning", "captioner.engines", "captioner.filters", "shards.sources")


def test_no_process_of_a_run_imports_torch_although_it_is_there() -> None:
    modules = ("pipelines.recaption", "pipelines.fleet", "pipelines.progress", "pipelines.report", "shards.verify")
    assert not {"torch", "transformers"} & loaded_by(*modules)


def loaded_by(*modules: str) -> set[str]:
    """What is imported in a process of its own that imports these."""
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())
