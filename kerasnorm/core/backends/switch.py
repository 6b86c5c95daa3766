"""A switch of the whole process, shared by the contexts of its threads."""

import contextlib
import threading


class Switch:
    """Makes contexts that hold a process-wide switch on from the first's start to the last's end.

    Args:
        turn_on: gives the context manager that is the switch.
    """

    def __init__(self, turn_on):
        self._turn_on = turn_on
        self._lock = threading.Lock()
        self._held = 0
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self):
        """Hold the switch."""
        with self._lock:
            if self._held == 0:
                self._stack.enter_context(self._turn_on())
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                if self._held == 0:
                    self._stack.close()
