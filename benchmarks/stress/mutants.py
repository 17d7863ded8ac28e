"""Mutation tests: each mutant has one small error in the method, and must fail the tests of its module.

    python -m benchmarks.stress.mutants                           # all of the modules that TESTS names
    python -m benchmarks.stress.mutants --module history_buffer --sample 40 --seed 1

Operators: another comparison, arithmetic or Boolean operator, a number one higher, a negated condition, a statement
left out. Each mutant runs on a copy of the source, in a process forked from one that has already imported PyTorch.
Survivors are printed as a line of source before and after; `HARMLESS` explains those that cannot matter.
"""

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stress._fork import fork, silence, wait, warm_up

ROOT = Path(__file__).parents[2]
ENGINE = Path("simgan_cli") / "engine"
TESTS = {  # of each module, below tests/engine
    "method/algorithm": ["method/test_losses", "method/test_algorithm"],
    "method/history_buffer": ["method/test_history_buffer"],
    "method/noise": ["method/test_noise"],
    "method/psi": ["method/test_losses"],
    "metrics/label_drift": ["metrics/test_label_drift"],
    "training/auto_lambda": ["training/test_auto_lambda"],
    "training/running_means": ["training/test_running_means"],
}
MODULES = {Path(module).name: module for module in TESTS}
FLAGS = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", "not slow", "--no-ceiling"]
HEAVY = (
    "numpy", "pydantic", "pytest", "torchvision.transforms.v2.functional", "scipy.ndimage", "safetensors.torch",
    "PIL.Image",
)  # fmt: skip
WRONG_SOURCE = 99
CPU_SECONDS, WALL_SECONDS = 60, 1200  # a mutant that does not end counts as noticed
ZERO = "either keeps 0 from being divided by 0"
FLAT = "around a peak it is below 0, but on a flat surface, which has no shift anyway"
HARMLESS = {  # by module and mutated line: why no test can notice it
    "algorithm": {
        "return torch.optim.Adam(network.parameters(), lr=rate, betas=(self.config.beta1, 0.999), fused=False)":
            "the same update, only slower",
    },
    "label_drift": {
        "MIN_SIDE_PIXELS = 9": "test_realism.py looks after it",
        "mean = strength.mean(dim=(1, 2), keepdim=True) - 1e-12": ZERO,
        "floor = strength.amax(dim=(1, 2), keepdim=True) * 0.001 - 1e-12": ZERO,
        "flat = window.amax(dim=(1, 2)) < window.amin(dim=(1, 2)) + 1e-09": "a flat surface is the same everywhere",
        "return torch.where(curvature <= 0, 0.5 * (before - after) / curvature, 0)": FLAT,
        "return torch.where(curvature < 1, 0.5 * (before - after) / curvature, 0)": FLAT,
        "return torch.where(curvature < 0, 0.5 * (before - after) / curvature, 1)": FLAT,
    },
    "noise": {
        "return int(np.random.SeedSequence(numbers).generate_state(2)[0])": "the first of two is the first of one",
    },
    "psi": {
        "BUILT_IN: dict[str, FeatureTransform] = "
        "dict(zip(PSI_NAMES, (identity, derivatives, channel_mean, blur, normalized), strict=False))":
            "both have five entries",
    },
    "running_means": {
        "return {name: [total, self.counts[name]] for name, total in zip(self.sums, values, strict=False)}":
            "the values are stacked from these very sums, so that there are as many",
    },
}  # fmt: skip
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module's source with one change."""

    module: str
    line: int
    before: str
    after: str
    source: str


def source_of(module: str, source: Path = ROOT / "src") -> Path:
    """Return the file of a module of the engine."""
    return source / ENGINE / f"{MODULES[module]}.py"


def mutants_of(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module of the engine; docstrings and annotations are not mutated."""
    tree = ast.parse(source_of(module).read_text())
    lines = ast.unparse(tree).splitlines()
    for place, node in enumerate(ast.walk(tree)):
        for way in range(2):
            changed = copy.deepcopy(tree)
            target = next(other for number, other in enumerate(ast.walk(changed)) if number == place)
            if not _change(target, way):
                continue
            source = ast.unparse(ast.fix_missing_locations(changed))
            mutated = source.splitlines()
            differing = [number for number, pair in enumerate(zip(lines, mutated, strict=False)) if pair[0] != pair[1]]
            if differing:
                first = differing[0]
                line = getattr(node, "lineno", 0)
                yield Mutant(module, line, lines[first].strip(), mutated[first].strip(), source)


def _change(node: ast.AST, way: int) -> bool:
    """Mutate a node in place in one of two ways; return whether that way exists."""
    match node:
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if way == 0 and type(node.op) in SWAPPED:
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                return False
            node.op = SWAPPED[type(node.op)]()  # type: ignore[assignment]
        case ast.Compare() if way == 0 and type(node.ops[0]) in SWAPPED:
            node.ops[0] = SWAPPED[type(node.ops[0])]()  # type: ignore[call-overload]
        case ast.Constant(value=bool(value)) if way == 0:
            node.value = not value
        case ast.Constant(value=int(value) | float(value)) if way == 0:
            node.value = value + 1
        case ast.UnaryOp(op=ast.USub()) if way == 0:
            node.op = ast.UAdd()
        case ast.If() | ast.IfExp() | ast.While() if way == 0:
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.FunctionDef() | ast.If() | ast.For() | ast.With() if way == 1:
            kept = [s for s in node.body if isinstance(s, ast.Assign | ast.AugAssign) or _is_call(s)]
            if not kept:
                return False
            node.body = [s if s is not kept[-1] else ast.Pass() for s in node.body]  # the last statement with an effect
        case _:
            return False
    return True


def _is_call(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)


def is_noticed(mutant: Mutant) -> bool:
    """Return whether any test of a mutant's module fails; they run in a forked process."""
    code = wait(fork(lambda: _test(mutant)), WALL_SECONDS)
    if code == WRONG_SOURCE:
        raise SystemExit(f"{mutant.module}: the tests would import another simgan_cli than the mutant")
    return code != 0


def _test(mutant: Mutant) -> int:
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    silence()
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copied, ignore=shutil.ignore_patterns("__pycache__"))
        source_of(mutant.module, copied).write_text(mutant.source)
        sys.path.insert(0, str(copied))
        os.environ["PYTHONPATH"] = str(copied)
        files = [str(ROOT / "tests" / "engine" / f"{name}.py") for name in TESTS[MODULES[mutant.module]]]
        from simgan_cli import engine

        if engine.__file__ != str(copied / ENGINE / "__init__.py"):
            return WRONG_SOURCE
        return int(pytest.main([*FLAGS, *files]))


def main() -> int:
    """Run the mutants, print the survivors, and exit with 1 if one is not explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", choices=sorted(MODULES), action="append")
    parser.add_argument("--sample", type=int, help="mutants of each module, at random; by default all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warm_up(HEAVY)
    os.chdir(ROOT)
    print("| module | mutants | noticed | harmless | survived |\n|---|---|---|---|---|", flush=True)
    survivors = []
    for module in arguments.module or MODULES:
        mutants = list(mutants_of(module))
        if arguments.sample and arguments.sample < len(mutants):
            mutants = random.Random(arguments.seed).sample(mutants, arguments.sample)
        if is_noticed(Mutant(module, 0, "", "", source_of(module).read_text())):
            raise SystemExit(f"{module}: its tests fail without a mutation; fix them first")
        alive = [mutant for mutant in mutants if not is_noticed(mutant)]
        unexplained = [mutant for mutant in alive if mutant.after not in HARMLESS.get(module, {})]
        survivors += unexplained
        dead, harmless = len(mutants) - len(alive), len(alive) - len(unexplained)
        print(f"| {module} | {len(mutants)} | {dead} | {harmless} | {len(unexplained)} |", flush=True)
        for mutant in unexplained:
            sys.stderr.write(f"- {mutant.module}.py:{mutant.line}: `{mutant.before}` as `{mutant.after}`\n")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
