"""Interleaved rounds of steps in one process."""

import concurrent.futures
import contextlib
import dataclasses
import gc
import math
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TextIO

try:
    import resource
except ImportError:  # Windows
    resource = None

Step = Callable[[], Any]

# However little time there is: a median of less says nothing.
FEWEST_ROUNDS = 3


@dataclasses.dataclass
class Timing:
    """The samples of one step.

    Attributes:
        samples: milliseconds of a step, one number per round.
        repeats: how many steps made a sample.
        faults: minor page faults per step, in the median round.
    """

    repeats: int
    samples: list[float] = dataclasses.field(default_factory=list)
    faults_of_rounds: list[float] = dataclasses.field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What a result file holds: the median, the minimum, half of the samples lie between."""
        low, _, high = (
            statistics.quantiles(self.samples, n=4, method="inclusive")
            if len(self.samples) > 1
            else self.samples * 3
        )
        return {
            "ms": round(statistics.median(self.samples), 4),
            "min": round(min(self.samples), 4),
            "quartiles": [round(low, 4), round(high, 4)],
            "rounds": len(self.samples),
            "repeats": self.repeats,
            "faults": round(statistics.median(self.faults_of_rounds), 1),
        }


class Deadline:
    """A point in time, also to be handed to another process.

    Args:
        until: seconds since the epoch; None is never.
    """

    def __init__(self, until: float | None = None):
        self.until = until

    @classmethod
    def within(cls, seconds: float) -> "Deadline":
        """So many seconds from now."""
        return cls(time.time() + seconds)

    def left(self) -> float:
        """Seconds until then, negative after it."""
        return math.inf if self.until is None else self.until - time.time()

    def share(self, part: float) -> "Deadline":
        """The end of a part of the time that is left."""
        return self if self.until is None else Deadline.within(part * self.left())


class Preparation:
    """Makes steps and runs each once, so that it is compiled; what fails, fails.

    Args:
        progress: told what is compiled.
    """

    def __init__(self, progress: Callable[[str], None] = lambda message: None):
        self.progress = progress
        self._making = threading.Lock()

    def ready(self, makers: Mapping[str, Callable[[], Step]]) -> dict[str, Step]:
        """The steps that the makers give, by name, but for those that are left out."""
        return {name: self._ready(name, make) for name, make in makers.items()}

    def _ready(self, name: str, make: Callable[[], Step]) -> Step:
        self.progress(f"compiling {name}")
        with self._making:  # Layers are made with the global settings of Keras.
            step = make()
        step()
        return step


class HurriedPreparation(Preparation):
    """Leaves out what fails, and what would not be ready in time if it took as long as the slowest.

    Args:
        deadline: when all should be ready.
        threads: how many steps are run for the first time at once: more than one helps where
            compiling takes long and needs one core.
        progress: told what is compiled.
    """

    def __init__(
        self,
        deadline: Deadline,
        threads: int = 1,
        progress: Callable[[str], None] = lambda message: None,
    ):
        super().__init__(progress)
        self.deadline = deadline
        self.threads = threads
        self.longest = 0.0
        self.left_out: list[str] = []
        self.failed: dict[str, str] = {}

    def ready(self, makers: Mapping[str, Callable[[], Step]]) -> dict[str, Step]:
        """As said; the first ones first."""
        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            steps = dict(zip(makers, pool.map(self._in_time, makers, makers.values()), strict=True))
        return {name: step for name, step in steps.items() if step is not None}

    def _in_time(self, name: str, make: Callable[[], Step]) -> Step | None:
        start = time.monotonic()
        if self.deadline.left() <= self.longest:
            self.left_out.append(name)
            return None
        try:
            return self._ready(name, make)
        except Exception as error:  # What a card cannot do must not cost the other figures.
            message = str(error).strip().split("\n", 1)[0][:300]
            self.failed[name] = f"{type(error).__name__}: {message}"
            return None
        finally:
            self.longest = max(self.longest, time.monotonic() - start)


class Stopwatch:
    """Times `repeats` steps and waits for their results.

    Args:
        wait: blocks until what a step returned has been computed.
        every_step: whether to wait after each step. Devices that work off a queue are waited for
            once; on a CPU, steps of JAX would overlap.
    """

    def __init__(self, wait: Callable[[Any], None], every_step: bool):
        self.wait = wait
        self.every_step = every_step

    def run(self, step: Step, repeats: int) -> float:
        """Seconds per step."""
        start = time.perf_counter()
        for _ in range(repeats):
            result = step()
            if self.every_step:
                self.wait(result)
        self.wait(result)
        return (time.perf_counter() - start) / repeats


def page_faults() -> int:
    """Minor page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt if resource else 0


def interleave(
    steps: dict[str, Step],
    stopwatch: Stopwatch,
    *,
    rounds: int,
    sample_seconds: float,
    seldom: Collection[str] = (),
    deadline: Deadline | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Timing]:
    """Time every step once per round, in an order that is shuffled each round.

    Args:
        steps: by name; each has run before, so that it is compiled.
        stopwatch: how to time.
        rounds: how many.
        sample_seconds: a step is repeated until a sample takes about this long, or less where the
            fewest rounds would not fit into the time.
        seldom: names of slow steps that only every third round times.
        deadline: after it no further round begins, once there have been three.
        progress: told about each round.

    Returns:
        The timings by name.
    """
    timings = {}
    if deadline is not None and steps:
        in_time = max(deadline.left(), 0) / (FEWEST_ROUNDS * len(steps))
        sample_seconds = min(sample_seconds, in_time)
    for name, step in steps.items():
        rough = min(stopwatch.run(step, 1) for _ in range(2))
        timings[name] = Timing(max(1, math.ceil(sample_seconds / rough)))
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        if deadline is not None and number >= FEWEST_ROUNDS and deadline.left() <= 0:
            break
        progress(f"round {number + 1} of {rounds}")
        names = [name for name in steps if name not in seldom or number % 3 == 0]
        shuffle(names)
        with _without_garbage_collection():
            for name in names:
                timing = timings[name]
                if timing.repeats > 1:
                    stopwatch.run(steps[name], 1)  # finds its own data in the caches again
                before = page_faults()
                seconds = stopwatch.run(steps[name], timing.repeats)
                timing.faults_of_rounds.append((page_faults() - before) / timing.repeats)
                timing.samples.append(seconds * 1e3)
    return timings


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Collect the youngest garbage, then none: a full collection takes a second."""
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Progress:
    """Tells on the error output what is going on: a line per stage; on a terminal also steps."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stderr if stream is None else stream
        self.stage_name = ""
        self.started = time.monotonic()

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self.stage_name = name
        if self.stream.isatty():
            self("")
        else:
            self._write(f"[{self._seconds():5.0f} s] {name}\n")

    def __call__(self, message: str) -> None:
        """A step of the stage."""
        if self.stream.isatty():
            line = f"[{self._seconds():5.0f} s] {self.stage_name} {message}"
            self._write(f"\r\x1b[K{line[:100]}")

    def done(self) -> None:
        """Clear the line."""
        if self.stream.isatty():
            self._write("\r\x1b[K")

    def _seconds(self) -> float:
        return time.monotonic() - self.started

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
