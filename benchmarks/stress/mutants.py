"""Would the tests notice? Each mutant is the method with one small thing wrong, and must fail the tests beside it.

    python -m benchmarks.stress.mutants                           # all of the modules that TESTS names
    python -m benchmarks.stress.mutants --module history --sample 40 --seed 1

Operators: another comparison, arithmetic or Boolean operator, a number one higher, a condition turned round, a
statement left out. Each mutant runs in a process forked from one that has imported PyTorch already, on a copy of the
source. What survives is printed as a line of source before and after; `HARMLESS` explains those that cannot matter.
"""

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = Path("simgan_cli") / "engine"
TESTS = {
    "algorithm": ["test_losses.py", "test_algorithm.py"],
    "history": ["test_history.py"],
    "metrics": ["test_metrics.py"],
    "drift": ["test_drift.py"],
    "noise": ["test_noise.py"],
    "psi": ["test_losses.py"],
    "balance": ["test_balance.py"],
}
# Compiling networks and whole trainings take seconds to minutes, and say nothing that their neighbours do not.
QUICK = "not compiled and not a_scale_of_psi and not a_number_stays"
HEAVY = (
    "torch",
    "numpy",
    "pydantic",
    "torchvision.transforms.v2.functional",
    "scipy.ndimage",
    "safetensors.torch",
    "PIL.Image",
)
WRONG_SOURCE = 99
CPU_SECONDS, PATIENCE = 60, 1200  # of the processor and of the clock; a mutant that does not end is noticed, too
# (module, line of source as mutated): why no test can tell.
HARMLESS: dict[tuple[str, str], str] = {
    (
        "psi",
        "_frozen(network, without_memory)(torch.zeros(2, *shape, device=without_memory))",
    ): "images without values: how many does not matter",
    (
        "algorithm",
        "return torch.optim.Adam(network.parameters(), lr=rate, betas=(self.config.beta1, 0.999), fused=False)",
    ): "the same update, only slower",
    ("drift", "MIN_SIDE_PIXELS = 9"): "test_realism.py looks after it",
    (
        "drift",
        "mean = strength.mean(dim=(1, 2), keepdim=True) - 1e-12",
    ): "either keeps 0 from being divided by 0",
    (
        "drift",
        "floor = strength.amax(dim=(1, 2), keepdim=True) * 0.001 - 1e-12",
    ): "either keeps 0 from being divided by 0",
    (
        "drift",
        "flat = window.amax(dim=(1, 2)) < window.amin(dim=(1, 2)) + 1e-09",
    ): "a flat surface has the same value everywhere",
    **{
        ("drift", f"return torch.where({curvature}, 0.5 * (before - after) / curvature, {otherwise})"): (
            "around a peak it is below 0, but on a flat surface, which has no shift anyway"
        )
        for curvature, otherwise in (("curvature <= 0", 0), ("curvature < 1", 0), ("curvature < 0", 1))
    },
    (
        "history",
        "@dataclass(frozen=False)",
    ): "frozen is for readers and the type checker: nothing assigns to an excerpt",
    (
        "metrics",
        "return {name: [total, self.counts[name]] for name, total in zip(self.sums, values, strict=False)}",
    ): "the values are stacked from these very sums, so that there are as many",
    (
        "noise",
        "return int(np.random.SeedSequence(numbers).generate_state(2)[0])",
    ): "the first of two is the first of one",
    (
        "psi",
        "_BUILT_IN: dict[str, FeatureTransform] = "
        "dict(zip(PSI_NAMES, (identity, derivatives, channel_mean, blur, normalized), strict=False))",
    ): "both have five entries",
}
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module's source with one thing changed."""

    module: str
    line: int
    before: str
    after: str
    source: str


def mutants_of(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module of the engine; its docstrings and annotations stay."""
    path = ROOT / "src" / ENGINE / f"{module}.py"
    tree = ast.parse(path.read_text())
    lines = ast.unparse(tree).splitlines()
    for place, node in enumerate(ast.walk(tree)):
        for way in range(2):
            changed = copy.deepcopy(tree)
            target = next(found for number, found in enumerate(ast.walk(changed)) if number == place)
            if not _change(target, way):
                continue
            source = ast.unparse(ast.fix_missing_locations(changed))
            found = source.splitlines()
            differing = [number for number, pair in enumerate(zip(lines, found, strict=False)) if pair[0] != pair[1]]
            if differing:
                first = differing[0]
                line = getattr(node, "lineno", 0)
                yield Mutant(module, line, lines[first].strip(), found[first].strip(), source)


def _change(node: ast.AST, way: int) -> bool:
    """Change a node in place in one of two ways; say whether there is such a way."""
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
            node.body = [s if s is not kept[-1] else ast.Pass() for s in node.body]  # the last that does something
        case _:
            return False
    return True


def _is_call(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)


def is_noticed(mutant: Mutant) -> bool:
    """Run the tests beside a mutant in a forked process; say whether any fails."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            code = _test(mutant)
        finally:
            os._exit(code)
    until = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code == WRONG_SOURCE:
                raise SystemExit(f"{mutant.module}: the tests would not have read the mutant: nothing can be learned")
            return code != 0
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _test(mutant: Mutant) -> int:
    import pytest

    silence = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(silence, number)
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copied, ignore=shutil.ignore_patterns("__pycache__"))
        (copied / ENGINE / f"{mutant.module}.py").write_text(mutant.source)
        sys.path.insert(0, str(copied))
        os.environ["PYTHONPATH"] = str(copied)
        files = [str(ROOT / "tests" / "engine" / name) for name in TESTS[mutant.module]]
        from simgan_cli import engine

        if engine.__file__ != str(copied / ENGINE / "__init__.py"):
            return WRONG_SOURCE
        return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-k", QUICK, *files]))


def main() -> int:
    """Run the mutants, print those that survive, exit with 1 where one is not explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", choices=sorted(TESTS), action="append")
    parser.add_argument("--sample", type=int, help="mutants of each module, at random; by default all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with suppress(ImportError):
        for module in HEAVY:
            import_module(module)
    import torch

    torch.set_num_threads(1)  # a process with threads of its own cannot be forked safely
    os.chdir(ROOT)
    print("| module | mutants | noticed | harmless | survived |\n|---|---|---|---|---|", flush=True)
    survivors = []
    for module in arguments.module or TESTS:
        found = list(mutants_of(module))
        if arguments.sample and arguments.sample < len(found):
            found = random.Random(arguments.seed).sample(found, arguments.sample)
        source = (ROOT / "src" / ENGINE / f"{module}.py").read_text()
        if is_noticed(Mutant(module, 0, "", "", source)):
            raise SystemExit(f"{module}: its tests fail with the source as it is: nothing can be learned")
        alive = [mutant for mutant in found if not is_noticed(mutant)]
        unexplained = [mutant for mutant in alive if (mutant.module, mutant.after) not in HARMLESS]
        survivors += unexplained
        dead, harmless = len(found) - len(alive), len(alive) - len(unexplained)
        print(f"| {module} | {len(found)} | {dead} | {harmless} | {len(unexplained)} |", flush=True)
        for mutant in unexplained:
            sys.stderr.write(f"- {mutant.module}.py:{mutant.line}: `{mutant.before}` as `{mutant.after}`\n")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
