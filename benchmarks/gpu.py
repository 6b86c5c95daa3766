"""Checks and measures JAX and torch on this machine's GPU within a time, and writes one file.

On each backend it times training steps of the layers and of a network, in float32 and bfloat16,
beside Keras's layers, the engine's own layers and a plain copy. Then it runs the tests marked
`gpu`. What matters most comes first, and the file says what there was no time for. It needs Keras,
NumPy, pytest, and JAX or torch. It does not need TensorFlow.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, process, results, tables, targets
from benchmarks.timing import Deadline

HELP = "check and measure JAX and torch on a GPU"
BACKENDS = ("torch", "jax")
SECONDS = 480
# From the end of all work to the end of the command: to stop processes, and to write.
RESERVE = 12
# Shares of the time, in the order of the work; what one does not use is for the next ones.
SHARES = {
    ("measure", "torch"): 24,
    ("test", "torch"): 14,
    ("measure", "jax"): 40,
    ("test", "jax"): 22,
}
TEST_FILES = ("tests/test_references.py", "tests/test_numerics.py")
# A line of `pytest --verbose`, by one process or by several.
WORDS = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
OUTCOME = re.compile(
    rf"^(?:(?P<test>tests/\S.*?) (?P<word>{WORDS})\b"
    rf"|\[gw\d+\] \[ *\d+%\] (?P<first>{WORDS}) (?P<then>tests/.*?) *$)"
)
# Processes that share the tests and the card, where pytest-xdist is installed.
TESTERS = 6
ROOT = Path(__file__).parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--backend", choices=(*BACKENDS, "all"), default="all", help="default: both, if installed"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"to be done in; default {SECONDS}"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="what to write; default benchmarks/results/gpu.json, of a dry run nothing",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="on the CPU, with tiny shapes and few layers"
    )
    # For the process of one backend: the end of its time, in seconds since the epoch.
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)


def environment(options: argparse.Namespace) -> dict[str, str]:
    """The processes of the backends are given theirs."""
    del options
    return {}


def run(options: argparse.Namespace) -> int:
    """Measure, test, print, write.

    Returns:
        0, or 1 if a test or a layer failed or a target was missed, or 2 if nothing was measured.
    """
    if options.until is not None:
        from benchmarks import measure_gpu  # Here Keras and the backend are imported.

        return measure_gpu.run(options)
    end = Deadline.within(options.seconds - (0 if options.dry_run else RESERVE))
    started = datetime.datetime.now(datetime.UTC)
    device = None if options.dry_run else machine.cuda_device()
    if device is None and not options.dry_run and not Path("/dev/kfd").exists():
        print("error: no GPU found. Needed: a GPU with its driver, or --dry-run.", file=sys.stderr)
        return 2
    backends = BACKENDS if options.backend == "all" else (options.backend,)
    parts = {name: _part(name) for name in backends}
    work = {key: share for key, share in SHARES.items() if parts.get(key[1], {}).get("installed")}
    while work:
        (task, backend), share = next(iter(work.items()))
        until = end.share(share / sum(work.values()))
        del work[task, backend]
        print(f"{backend}: {task}, {max(until.left(), 0):.0f} s at most", flush=True)
        if task == "measure":
            part = _measure(backend, options, until)
            versions = parts[backend]["versions"] | part.get("versions", {})
            parts[backend] |= part | {"versions": versions}
            if part.get("device_kind") == "cpu" and not options.dry_run:
                work.pop(("test", backend), None)  # They would say nothing of the GPU.
        else:
            parts[backend]["tests"] = _test(backend, options, until)
    runs = [run for part in parts.values() for run in part.pop("runs", [])]
    found = verdicts(runs)
    about = {
        "command": "gpu",
        "dry_run": options.dry_run,
        "date": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.datetime.now(datetime.UTC) - started).total_seconds(), 1),
        "seconds_allowed": options.seconds,
        "device": device,
        "machine": machine.describe(device["name"] if device else "cpu"),
        "backends": parts,
        "verdicts": found,
    }
    print("\n".join(lines(about, runs)))
    path = options.json
    if path is None and not options.dry_run:
        path = ROOT / "benchmarks" / "results" / "gpu.json"
    if path is not None and runs:
        results.write(path, runs, about)
        print(f"Written to {path}.")
    return status(about, runs)


def _part(backend: str) -> dict[str, Any]:
    """What is known of a backend before it runs."""
    if importlib.util.find_spec(backend) is None:
        return {"installed": False}
    names = ("keras", backend, "numpy", "pytest")
    there = [name for name in names if importlib.util.find_spec(name) is not None]
    return {
        "installed": True,
        "versions": {name: importlib.metadata.version(name) for name in there},
    }


def _environment(
    backend: str, options: argparse.Namespace, variables: dict[str, str]
) -> dict[str, str]:
    """Of a process on one backend, on the first GPU alone."""
    wanted = {**process.MALLOC, **os.environ, **variables}
    wanted |= {"KERAS_BACKEND": backend, "PYTHONUNBUFFERED": "1"}
    # Plugins of pytest could need anything.
    wanted["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if options.dry_run:
        wanted |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    else:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        wanted["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    return wanted


def _run(
    command: list[str],
    backend: str,
    options: argparse.Namespace,
    until: Deadline,
    **variables: str,
) -> str:
    """What a process printed; it is stopped soon after its time."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(backend, options, variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that its children end with it
    )
    try:
        return child.communicate(timeout=max(until.left(), 0) + RESERVE / 2)[0]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return child.communicate()[0] + "\nstopped: out of time\n"


def _measure(backend: str, options: argparse.Namespace, until: Deadline) -> dict[str, Any]:
    """What the process of a backend measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.json"
        command = [sys.executable, "-m", "benchmarks", "gpu", "--backend", backend]
        command += ["--until", str(until.until), "--json", str(path)]
        command += ["--dry-run"] if options.dry_run else []
        output = _run(command, backend, options, until)
        if not path.exists():
            return {"error": "nothing was measured", "output": output.splitlines()[-20:]}
        part = json.loads(path.read_text())
    if not part["complete"]:
        part["output"] = output.splitlines()[-20:]
    return part


def _test(backend: str, options: argparse.Namespace, until: Deadline) -> dict[str, Any]:
    """How the tests marked `gpu` ended."""
    if importlib.util.find_spec("pytest") is None:
        return {"error": "pytest is not installed"}
    if until.left() <= 0:
        return {"error": "no time"}
    command = [sys.executable, "-m", "pytest", *TEST_FILES, "-m", "gpu", "--verbose", "--color=no"]
    # Versions are whatever is there, and so are their warnings.
    command += ["-W", "default", "-p", "no:cacheprovider", "--tb=short"]
    variables = {}
    if options.dry_run:
        command += ["-k", "LayerNorm and not ILM and not bfloat16"]
    elif importlib.util.find_spec("xdist") is not None:
        command += ["-p", "xdist", "-n", str(min(TESTERS, os.cpu_count() or 1))]
        # Else JAX would take most of the card for the first of them.
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    output = _run(command, backend, options, until, **variables)
    return outcomes(output)


def outcomes(output: str) -> dict[str, Any]:
    """Counts and failures in what `pytest --verbose` printed, be it to the end or not."""
    counts: dict[str, int] = {}
    failures = []
    for found in filter(None, map(OUTCOME.match, output.splitlines())):
        outcome = (found["word"] or found["first"]).lower()
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome in ("failed", "error"):
            failures.append(found["test"] or found["then"])
    complete = re.search(r"^=+ .*\d+ (passed|failed|error).* =+$", output, re.MULTILINE) is not None
    part = {**counts, "complete": complete, "failures": failures}
    if failures or not complete:
        part["output"] = output.splitlines()[-100:]
    return part


def verdicts(runs: list[results.Run]) -> list[dict[str, Any]]:
    """Every measured layer against its target, its engine's own layers and a plain copy."""
    found = []
    for run in runs:
        groups: dict[tuple, dict[str, Any]] = {}
        for cell in run["cells"]:
            groups.setdefault((cell["phase"], *cell["shape"]), {})[cell["name"]] = cell
        for cells in groups.values():
            found += [
                _verdict(run, cells, cell) for cell in cells.values() if cell["role"] == "layer"
            ]
    return found


def _verdict(run: results.Run, cells: dict[str, Any], cell: dict[str, Any]) -> dict[str, Any]:
    network = run["command"] == "networks"
    target = (targets.of_network if network else targets.of_layer)(run, cells, cell["name"])
    verdict = {
        "backend": run["backend"],
        "dtype": run["dtype"],
        "what": cell["network"] if network else "layer",
        "shape": cell["shape"],
        "name": cell["name"],
        "ms": cell["ms"],
        "limit": target.limit if target else None,
        "met": target.met if target else None,
        "to": {
            other["name"]: round(cell["ms"] / other["ms"], 3)
            for other in cells.values()
            if other["role"] in ("keras", "native")
        },
    }
    copies = [c["ms"] for c in cells.values() if c["name"].startswith("plain moving")]
    if copies:
        passes = targets.TRAFFIC["train"] / targets.TRAFFIC["moving"]
        verdict["share_of_copy"] = round(passes * min(copies) / cell["ms"], 3)
    return verdict


def lines(about: dict[str, Any], runs: list[results.Run]) -> list[str]:
    """What is printed in the end."""
    text = []
    for run in runs:
        text += ["", *(f"{table.text()}\n" for table in tables.of_run(run))]
    if about["device"]:
        facts = (f"{key} {value}" for key, value in about["device"].items())
        text.append(", ".join(facts))
    for backend, part in about["backends"].items():
        text.append(f"{backend}: {_summary(part)}")
        text += [f"  failed: {name}: {error}" for name, error in part.get("failed", {}).items()]
        text += [f"  failed: {name}" for name in part.get("tests", {}).get("failures", [])]
        text += [f"  no time for {name}" for name in part.get("left_out", [])]
        output = part.get("output", []) or part.get("tests", {}).get("output", [])
        text += [f"  {line}" for line in output]
    judged = [verdict for verdict in about["verdicts"] if verdict["met"] is not None]
    missed = [verdict for verdict in judged if not verdict["met"]]
    text.append(f"{len(judged) - len(missed)} of {len(judged)} targets met")
    for verdict in missed:
        what = f"{verdict['backend']} {verdict['dtype']} {tables.times(verdict['shape'])}"
        ratio = verdict["to"][targets.BATCH_BASELINE]
        text.append(f"  missed: {what} {verdict['name']}: {ratio:.2f} > {verdict['limit']}")
    text.append(f"{about['seconds']:.0f} s")
    return text


def _summary(part: dict[str, Any]) -> str:
    if not part["installed"]:
        return "not installed"
    parts = [", ".join(f"{name} {number}" for name, number in part["versions"].items())]
    parts.append(part["error"] if "error" in part else f"on {part['device']}")
    if "tests" in part:
        tests = part["tests"]
        counts = [f"{count} {name}" for name, count in tests.items() if type(count) is int]
        ended = [] if tests.get("complete") else ["not to the end"]
        parts.append(f"tests: {tests.get('error') or ', '.join([*counts, *ended])}")
    return "; ".join(parts)


def status(about: dict[str, Any], runs: list[results.Run]) -> int:
    """The exit status."""
    if not runs:
        return 2
    there = [part for part in about["backends"].values() if part["installed"]]
    wrong = any(
        "error" in part
        or part["failed"]
        or part.get("tests", {}).get("failures")
        or not part.get("tests", {}).get("complete")
        for part in there
    )
    return int(wrong or any(verdict["met"] is False for verdict in about["verdicts"]))
