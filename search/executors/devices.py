"""Cores and GPUs, dealt out to workers by the environment that each of them starts with."""

import os
import shutil
import subprocess

# What a backend reads when it is imported: how many threads it may start.
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",  # JAX's thread pools
)
# For workers that share a GPU: to take of its memory what they need, and no more.
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
# What a process is not to see of the GPUs while it only hands out work.
_HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}

_before: dict[str, str | None] = {}


def threads(cores, workers):
    """Variables that divide the cores; those that are set already stay.

    >>> from search.executors.devices import threads
    >>> sorted(set(threads(cores=8, workers=3).values()) - {None})
    ['2']
    """
    share = str(max(1, cores // workers))
    return {name: share for name in THREADS if name not in os.environ}


def gpus():
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none is touched."""
    visible = _before.get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
    if visible is not None:
        return [one.strip() for one in visible.split(",") if one.strip() and one.strip() != "-1"]
    return _asked("index")


def described():
    """The GPUs in words; None where there are none.

    >>> import os
    >>> from search.executors.devices import described
    >>> os.environ["CUDA_VISIBLE_DEVICES"] = ""
    >>> described() is None
    True
    """
    found = gpus()
    if not found:
        return None
    names = ", ".join(dict.fromkeys(_asked("name"))) or "not known"
    return f"GPU {', '.join(found)} ({names})"


def _asked(what):
    """What the driver of the GPUs says of each."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    asked = [command, f"--query-gpu={what}", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def share_of(worker, workers, found):
    """Variables for one of several workers: its GPU, or the one that it shares with others.

    Args:
        worker: its number, from 0.
        workers: how many there are.
        found: what `gpus` found.

    >>> from search.executors.devices import share_of
    >>> [share_of(n, 3, ["0", "1"])["CUDA_VISIBLE_DEVICES"] for n in range(3)]
    ['0', '1', '0']
    """
    if not found:
        return {}
    variables = {"CUDA_VISIBLE_DEVICES": found[worker % len(found)]}
    if "JAX_PLATFORMS" in _before:
        variables["JAX_PLATFORMS"] = _before["JAX_PLATFORMS"] or ""
    if workers > len(found):
        variables |= {name: value for name, value in _SHARED.items() if name not in os.environ}
    return variables


def hide_gpus():
    """Let this process see no GPU; it must not have imported a backend yet."""
    for name, value in _HIDDEN.items():
        _before.setdefault(name, os.environ.get(name))
        os.environ[name] = value
