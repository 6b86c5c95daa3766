"""Trainings that train nothing, for what is measured around trainings; a worker needs no Keras."""

import hashlib
import os
import resource
import signal
import time

from search.rows import begun

# Of a worker that is to run out of memory.
MEMORY = 2**30


class Cheap:
    """A `run` whose trials sleep, and some of which hang or take all memory, the first time.

    Args:
        seconds: of an epoch.
        notes: a folder in which each trial notes the process that it runs in.
        trouble: what some trials do: `"hang"`, `"memory"` or None.
    """

    def __init__(self, seconds=0.02, notes=None, trouble=None):
        self.seconds = seconds
        self.notes = notes
        self.trouble = trouble

    def __call__(self, task, report):
        note = self.notes and self.notes / f"trial_{task.number}"
        first = note is not None and not note.exists()
        if note is not None:
            note.write_text(str(os.getpid()))
        curve = []
        for epoch in range(1, task.epochs + 1):
            time.sleep(self.seconds)
            if first and task.number % 2 and epoch == 2:
                self._get_into_trouble()
            text = f"{task.words} {epoch}"
            error = int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "little") / 2**16
            curve.append({"epoch": epoch, "val_error": error})
            report(epoch, curve[-1])
        return {
            **begun(task),
            "status": "completed",
            "score": curve[-1]["val_error"],
            "curve": curve,
            "epochs": len(curve),
        }

    def _get_into_trouble(self):
        if self.trouble == "hang":
            time.sleep(600)
        if self.trouble == "memory":
            # What the system allows this process, so that no other one has to do without.
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            taken = []
            try:
                while True:
                    taken.append(bytearray(2**24))
            except MemoryError:
                # As the system would.
                os.kill(os.getpid(), signal.SIGKILL)
