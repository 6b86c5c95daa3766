"""An executor whose one worker is not renewed, and says how much memory it takes."""

from pathlib import Path

from search.executors.processes import ProcessExecutor


class Remembering(ProcessExecutor):
    """The memory of a worker after each of its trials, in MB, as `sizes`."""

    def __init__(self):
        super().__init__(workers=1, renew_after=10**9)
        self.sizes: list[float] = []

    def poll(self):
        results = super().poll()
        for worker in self._workers:
            status = Path(f"/proc/{worker.process.pid}/status").read_text()
            (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
            self.sizes.append(int(line.split()[1]) / 1024)
        return results
