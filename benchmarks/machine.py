"""The machine and the software that a result belongs to."""

import ctypes
import datetime
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

# Environment variables that change what is measured.
VARIABLES = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_ARENA_MAX",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",
    "XLA_FLAGS",
    "TF_ENABLE_ONEDNN_OPTS",
    "JAX_ENABLE_X64",
    "JAX_PLATFORMS",
    "CUDA_VISIBLE_DEVICES",
    "KN_PLAIN",
)


def describe(device: str) -> dict[str, Any]:
    """This machine, now.

    Args:
        device: what the backend computes on.
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "device": device,
        "system": platform.platform(),
        "python": platform.python_version(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else [],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


# What the CUDA driver calls the attributes of a device.
CUDA_ATTRIBUTES = {
    "multiprocessors": 16,
    "memory_clock_khz": 36,
    "memory_bus_bits": 37,
    "l2_cache_bytes": 38,
    "compute_capability_major": 75,
    "compute_capability_minor": 76,
}


def cuda_device(driver: Any = None) -> dict[str, Any] | None:
    """The first CUDA device as its driver describes it, with no help of any backend.

    Args:
        driver: the driver's library; None loads it.

    Returns:
        None where there is no such device.
    """
    if driver is None:
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError:
            return None
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    facts = {
        "name": name.value.decode(),
        "memory_bytes": memory.value,
        "driver": _driver_version(),
        "cuda_of_driver": f"{version.value // 1000}.{version.value % 1000 // 10}",
    }
    for attribute, number in CUDA_ATTRIBUTES.items():
        value = ctypes.c_int()
        failed = driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        facts[attribute] = None if failed else value.value
    return facts


def _driver_version() -> str | None:
    path = Path("/proc/driver/nvidia/version")
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", path.read_text()) if path.exists() else None
    return found.group() if found else None


class OtherLoad:
    """What other processes take of the CPUs, from now on."""

    def __init__(self) -> None:
        self.start = self._seconds()

    def part(self) -> float | None:
        """As a part of all CPUs, from 0 to 1; None where the system does not tell."""
        start, end = self.start, self._seconds()
        if start is None or end is None or end[2] <= start[2]:
            return None
        busy, own, wall = (after - before for before, after in zip(start, end, strict=True))
        return round(min(max((busy - own) / (wall * (os.cpu_count() or 1)), 0.0), 1.0), 3)

    @staticmethod
    def _seconds() -> tuple[float, float, float] | None:
        """Of all CPUs' work, of this process's, and of the clock."""
        path = Path("/proc/stat")
        if not path.exists():
            return None
        user, nice, system, _, _, interrupts, soft, stolen, *_ = map(
            int, path.read_text().split("\n", 1)[0].split()[1:]
        )
        ticks = user + nice + system + interrupts + soft + stolen
        return ticks / os.sysconf("SC_CLK_TCK"), time.process_time(), time.monotonic()


def version(package: str) -> str:
    """The version of an installed package."""
    return importlib.metadata.version(package)


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
