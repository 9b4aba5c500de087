"""Parameters say what they take: few are left that may be anything, and a type checker finds no error."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

BARE = 65
"""How many parameters there are of which nothing is said but `Any`; there is no reason for another one."""


def _is_any(node: ast.expr | None) -> bool:
    return node is not None and ast.unparse(node) in ("Any", "typing.Any")


def _bare_parameters(tree: ast.Module) -> list[str]:
    """Parameters of functions that are annotated as `Any`, or not at all."""
    found = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            given = function.args
            named = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
            taken = [one for one in named if one and one.arg not in ("self", "cls", "_")]
            bare = [one for one in taken if one.annotation is None or _is_any(one.annotation)]
            found += [f"{one.arg} in line {one.lineno}" for one in bare]
    return found


def _renamed(tree: ast.Module) -> list[str]:
    """Names at the top of a module that are `Any` under another name."""
    given = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return [f"line {node.lineno}" for node in given if _is_any(node.value)]


def test_few_parameters_may_be_anything():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "mim_jax").rglob("*.py"))}
    bare = [f"{path.relative_to(ROOT)}: {name}" for path, tree in trees.items() for name in _bare_parameters(tree)]
    assert len(bare) <= BARE, "\n".join(bare)
    assert [f"{path}, {where}" for path, tree in trees.items() for where in _renamed(tree)] == []


def test_type_checker_finds_no_error():
    command = [sys.executable, "-m", "ty", "check", "mim_jax", "--python", sys.prefix, "--output-format", "concise"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
