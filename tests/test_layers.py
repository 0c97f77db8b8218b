"""The arrows only point one way: a module imports its own layer or a lower one."""

import ast
import subprocess
import sys
from pathlib import Path

LAYERS = [
    "errors",
    "distributed",
    "io",
    "config",
    "grid",
    "planes",
    "volume",
    "transforms",
    "data",
    "nn",
    "models",
    "diffusion",
    "metrics",
    "bundle",
    "trained",
    "tasks",
    "training",
    "report",
    "viewer",  # that vol3d view opens; what is made of verbs, such as forms, is in widgets
    "diagnosis",
    "verbs",
    "cli",
    "api",
    "widgets",
]  # low to high
ROOT = Path(__file__).parent.parent / "vol3d"


def layer(module: str) -> int | None:
    name = module.split(".")[1] if module.startswith("vol3d.") else ""
    return LAYERS.index(name) if name in LAYERS else None


def imports_of(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: relative import"
            found.append((node.lineno, node.module))
    return found


def upward(source: str, here: int | None) -> list[tuple[int, str]]:
    return [
        (line, name)
        for line, name in imports_of(ast.parse(source))
        if here is not None and (there := layer(name)) is not None and there > here
    ]


def test_imports_point_down():
    wrong = [
        f"{path}:{line} imports {name}"
        for path in ROOT.rglob("*.py")
        for line, name in upward(
            path.read_text(), layer(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_an_upward_import_would_be_found():
    assert upward("from vol3d.verbs.train import Train", LAYERS.index("data"))


def test_every_module_is_in_a_layer():
    modules = {p.relative_to(ROOT).parts[0] for p in ROOT.rglob("*.py")}
    names = {name.removesuffix(".py") for name in modules if not name.startswith("_")}
    assert names <= set(LAYERS)


def test_files_are_short():
    long = [str(p) for p in ROOT.rglob("*.py") if p.read_text().count("\n") > 350]
    assert not long


def test_the_tests_of_a_gpu_import_little():
    """What `scripts/gpu_wheels.txt` leaves out is not on their road."""
    left_out = ("SimpleITK", "numba", "nilearn", "pandas", "tensorboard")
    lines = [f"sys.modules[{name!r}] = None" for name in left_out]
    roads = "tests.test_gpu, tests.nn.test_slab_conv, tests.training.test_cost_estimate"
    roads += ", benchmarks.measure"
    code = "\n".join(["import sys", *lines, f"import {roads}"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
