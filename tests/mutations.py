"""Break the code in many small ways, one at a time, and see which of them the tests notice.

    KERAS_BACKEND=torch python tests/mutations.py --count 30 [--seed 0] [pytest's arguments]

A mutation is one operator, comparison, number or flag that is another one. Files of other backends
are left out. Without arguments of pytest, the tests are those of `make quick`. Each survivor is
printed with what it changed: either no test looks there, or the change means the same.
"""

import argparse
import ast
import contextlib
import dataclasses
import importlib.machinery
import importlib.util
import os
import pathlib
import random
import signal
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("kerasnorm/core", "kerasnorm/layers")
BACKENDS = {"tensorflow", "jax", "torch", "plain"}
QUICK = ["tests", "--ignore=tests/once", "-m", "smoke and not slow"]

OTHER = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def sources():
    """The files to break: of backends, those of the one that runs."""
    backend = os.environ["KERAS_BACKEND"]
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            of = BACKENDS & set(path.stem.split("_"))
            if not of or backend in of:
                yield path


class Places(ast.NodeVisitor):
    """The nodes of a file that can be mutated, with what each can become."""

    def __init__(self):
        self.found = []

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node):
        for default in [*node.defaults, *filter(None, node.kw_defaults)]:
            self.visit(default)

    def visit_FunctionDef(self, node):
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)

    def visit_Raise(self, node):
        """Which message an error has is no matter of numbers."""

    def generic_visit(self, node):
        if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OTHER:
            self.found.append((node, "op", OTHER[type(node.op)]()))
        if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
            self.found.append((node, "ops", [OTHER[type(node.ops[0])](), *node.ops[1:]]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            self.found.append((node, "op", ast.UAdd()))
        if isinstance(node, (ast.If, ast.IfExp)):
            self.found.append((node, "test", ast.UnaryOp(ast.Not(), node.test)))
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            self.found.append((node, "value", not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            self.found.append((node, "value", node.value + 1))
        super().generic_visit(node)


@dataclasses.dataclass(frozen=True)
class Mutation:
    """The change number `index` of a file."""

    path: pathlib.Path
    index: int

    def broken(self):
        """The file's broken syntax tree, and in words what was changed."""
        tree = ast.parse(self.path.read_text(), str(self.path))
        node, field, value = places_in(tree)[self.index]
        whole = isinstance(node, (ast.If, ast.IfExp))
        before = ast.unparse(node.test if whole else node)
        setattr(node, field, value)
        ast.fix_missing_locations(tree)
        after = ast.unparse(node.test if whole else node)
        place = f"{self.path.relative_to(ROOT)}:{node.lineno}"
        return tree, f"{place}  {before}  ->  {after}"


def places_in(tree):
    """The places of a file that can be mutated."""
    places = Places()
    places.visit(tree)
    return places.found


def mutations():
    """Every mutation there is."""
    return [
        Mutation(path, index)
        for path in sources()
        for index in range(len(places_in(ast.parse(path.read_text()))))
    ]


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a syntax tree in place of a file."""

    def __init__(self, name, path, tree):
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname):
        return compile(self.tree, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the module that is broken, in front of all other finders."""

    def __init__(self, path, tree):
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.path, self.tree = str(path), tree

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        loader = Loader(name, self.path, self.tree)
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def survives(path, tree, arguments, seconds):
    """Whether all tests pass with a file broken, in a process of its own."""
    import pytest

    child = os.fork()
    if not child:
        signal.alarm(seconds)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            if path is not None:
                sys.meta_path.insert(0, Finder(path, tree))
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *arguments])
            os._exit(int(code))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code > pytest.ExitCode.INTERRUPTED:
        raise SystemExit(f"pytest ended with {pytest.ExitCode(code)!r}.")
    return code == pytest.ExitCode.OK


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=30, help="how many, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--seconds", type=int, default=600, help="after which a run counts as red")
    options, arguments = parser.parse_known_args()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.chdir(ROOT)
    # What every run needs and nobody breaks is imported once.
    import keras

    keras.utils.set_random_seed(0)
    every = mutations()
    drawn = random.Random(options.seed).sample(every, min(options.count, len(every)))
    arguments = arguments or QUICK
    if not survives(None, None, arguments, options.seconds):
        raise SystemExit("The tests are red before anything is broken.")
    survivors = 0
    start = time.monotonic()
    for number, mutation in enumerate(drawn, 1):
        tree, words = mutation.broken()
        alive = survives(mutation.path, tree, arguments, options.seconds)
        survivors += alive
        print(f"{number:3d} {'SURVIVED' if alive else 'noticed '} {words}", flush=True)
    print(
        f"{len(drawn)} of {len(every)} mutations tried: {len(drawn) - survivors} noticed, "
        f"{survivors} survived, in {time.monotonic() - start:.0f} s."
    )


if __name__ == "__main__":
    main()
