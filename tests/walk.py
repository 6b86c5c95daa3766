"""Walk the way of a newcomer, in a fresh clone and a fresh environment, and time it.

    python tests/walk.py [tensorflow] [jax] [torch] [--first torch==2.13.0]

It needs a Python with pip, git, bash and the network. For each backend it clones the repository,
runs the install command of docs/first_steps.md, then the code of docs/install.md, of
docs/first_steps.md and of the README as it is written, then the README's searches with two trials.
After each stage it prints the seconds since the start. The first thing that fails ends it, with
the end of what it said. The environment goes with its folder.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from distributions import BACKENDS, OWN, ROOT
from readme import PAGES, README, blocks, commands, write_files

WALKED = (PAGES["install.md"], PAGES["first_steps.md"], README)
# What comes last on a command line counts.
TWO_TRIALS = "--trials 2 --seeds 3 --candidates 1 --ablation 0"
OF_RESNET20 = "--epochs 1 --no-jit"
RUN_PAGE = """
import json, sys, time
pages, ended, names = json.load(open(sys.argv[1])), open(sys.argv[2], "w"), {}
for name, code in pages:
    print(f"--- {name}", flush=True)
    exec(compile(code, name, "exec"), names)
    print(time.time(), name, sep="\\t", file=ended, flush=True)
"""


def main() -> None:
    """Walk with each backend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backends", nargs="*", metavar="BACKEND", help="default: all three")
    parser.add_argument("--url", default=str(ROOT), help="what is cloned; default: this checkout")
    parser.add_argument(
        "--first",
        nargs="*",
        default=[],
        metavar="PACKAGE",
        help="what pip installs before, such as a build of torch for the CPU",
    )
    options = parser.parse_args()
    for backend in options.backends or BACKENDS:
        if backend not in BACKENDS:
            parser.error(f"Unknown backend {backend!r}. Needed: {', '.join(BACKENDS)}.")
        with tempfile.TemporaryDirectory(prefix="kerasnorm-walk-") as name:
            print(backend)
            Walk(pathlib.Path(name), backend).all(options.url, options.first)


class Walk:
    """One walk: its folders, its environment and its clock.

    Attributes:
        backend: of Keras.
        clone: the folder of the clone, in which everything runs.
    """

    def __init__(self, folder: pathlib.Path, backend: str) -> None:
        self.backend = backend
        self.clone = folder / "kerasnorm"
        self._folder = folder
        self._log = folder / "log.txt"
        self._began = time.time()
        self._variables = {name: value for name, value in os.environ.items() if name not in OWN}
        self._variables["PATH"] = f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # A user's own keras.json would decide what a newcomer gets.
        self._variables["KERAS_HOME"] = str(folder / "keras-home")

    def all(self, url: str, first: list[str]) -> None:
        """Every stage, in its order."""
        self._run("git", "clone", "--quiet", url, self.clone, folder=self._folder)
        self._run(sys.executable, "-m", "venv", self._folder / "venv", folder=self._folder)
        self._stage("a clone and a virtual environment")
        if first:
            self._run("pip", "install", *first)
            self._stage(f"pip install {' '.join(first)}")
        install, *settings = self.installation()
        self._run("bash", "-ec", install)
        for line in settings:
            name, _, value = line.removeprefix("export ").partition("=")
            self._variables[name] = value
        self._stage(install)
        for page in WALKED:
            self._code(page)
        write_files(self.clone)
        for line in commands():
            if line.startswith(("python my_", "kerasnorm-search")) and "--resume" not in line:
                self._command(line)

    def installation(self) -> list[str]:
        """The lines of first_steps.md that install this backend."""
        (block,) = (
            block
            for block in blocks("sh", PAGES["first_steps.md"])
            if f"pip install '.[{self.backend}," in block
        )
        return block.splitlines()[1:]

    def _code(self, page: pathlib.Path) -> None:
        """The Python blocks of a page, one after the other in one process."""
        code = [
            (f"{page.name}, block {number}", block)
            for number, block in enumerate(blocks("python", page), 1)
            # A file that a command reads.
            if not re.match(r"# \w+\.py\n", block)
        ]
        given, ended = self._folder / "blocks.json", self._folder / "ended.txt"
        given.write_text(json.dumps(code))
        self._run("python", "-c", RUN_PAGE, given, ended)
        for line in ended.read_text().splitlines():
            moment, _, name = line.partition("\t")
            self._stage(name, float(moment))

    def _command(self, line: str) -> None:
        """A command of the README; a search with two trials."""
        further = ""
        if line.startswith("kerasnorm-search"):
            further = TWO_TRIALS
            if "resnet20" in line:
                further = f"{further} {OF_RESNET20}"
        self._run("bash", "-ec", f"{line} {further}")
        self._stage(f"{line} {further}".strip())

    def _run(self, *command: object, folder: pathlib.Path | None = None) -> None:
        """Run a command, and show the end of what it said if it fails."""
        with self._log.open("w") as log:
            done = subprocess.run(
                [str(part) for part in command],
                cwd=folder or self.clone,
                env=self._variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            lines = self._log.read_text(errors="replace").splitlines()
            print(*lines[-40:], sep="\n")
            shown = " ".join(map(str, command)) if RUN_PAGE not in command else "this page"
            raise SystemExit(f"failed on {self.backend}: {shown}")

    def _stage(self, name: str, moment: float | None = None) -> None:
        """Say what has ended, and when."""
        seconds = (moment or time.time()) - self._began
        print(f"{seconds:6.0f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
