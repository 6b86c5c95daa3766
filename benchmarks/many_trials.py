"""What a search costs beside its trainings, after so many trials.

A driver asks, writes its journal and answers as in a search; trainings are planted and take no
time. CPU time counts, which other processes hardly change. A proposal is the median of those after
the last trial. A resumed search is ready when the journal is read and the oracle knows all of it.
"""

import json
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.tables import Table

HELP = "what a search costs beside its trainings, after many trials"
PROPOSALS = 20
EPOCHS = 20
# What is promised: milliseconds for a proposal at 300 and at 10,000 trials and for a told trial,
# bytes of journal and KB of memory for a trial.
PROPOSAL_LIMITS = {300: 20.0, 10_000: 50.0}
LIMITS = {"ready": 1.0, "journal": 4096.0, "memory": 100.0}


def add_arguments(parser):
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000, 10_000])
    parser.add_argument("--one", metavar="DIR", help="measure one number of trials in this process")


def environment(options):
    return {}


def run(options):
    if options.one:
        print(json.dumps(measured(pathlib.Path(options.one), options.trials[0])))
        return 0
    table = Table(
        "A search beside its trainings",
        [
            "trials",
            "proposal, ms",
            "resume, ms per trial",
            "journal, bytes per trial",
            "memory, KB per trial",
            "trials per second",
        ],
    )
    for trials in options.trials:
        found = _apart(trials)
        limit = PROPOSAL_LIMITS[300 if trials <= 300 else 10_000]
        table.rows.append(
            [
                f"{trials:,}",
                _cell(found["proposal"], limit, "{:.1f}"),
                _cell(found["ready"], LIMITS["ready"], "{:.2f}"),
                _cell(found["journal"], LIMITS["journal"], "{:.0f}"),
                _cell(found["memory"], LIMITS["memory"], "{:.0f}"),
                f"{found['rate']:.0f}",
            ]
        )
        print(*table.rows[-1], flush=True)
    print()
    print(table.markdown())
    return 0


def _cell(value, limit, form):
    return form.format(value) + ("" if value <= limit else f" (MISSED: {limit:g})")


def _apart(trials):
    """Measured in a process of its own, for its memory."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "benchmarks", "search", "--one", folder, "--trials"]
    try:
        done = subprocess.run([*command, str(trials)], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder)


def measured(folder, trials):
    """What so many trials cost in a folder."""
    from benchmarks.oracle import Planted, space_of_resnet
    from search.driver import Driver
    from search.executors.inline import InlineExecutor
    from search.oracle import Asker, make, objective_of
    from search.rows import begun
    from search.store import Store
    from search.tasks import task_for

    # Norms alone are fewer points than ten thousand.
    space = space_of_resnet(learning_rates=("range", 1e-4, 1e-1), batch_sizes=(128, 64, 32))
    objective = objective_of("val_error")
    planted = Planted(space, "neutral", 0)

    def train(task, report):
        worth = planted(values[task.number])
        curve = [
            {"epoch": n, "loss": worth + 1 / n, "val_loss": worth + 1 / n, "val_error": worth}
            for n in range(1, EPOCHS + 1)
        ]
        return {
            **begun(task),
            "status": "completed",
            "reason": None,
            "score": worth,
            "metrics": {"val_error": worth, "val_loss": worth},
            "curve": curve,
            "epochs": EPOCHS,
            "parameters": 272_474,
            "fit_seconds": 1.0,
            "seconds": 1.0,
        }

    values: dict = {}

    def task_of(number, values_of):
        values[number] = values_of(number)
        return task_for(number, values_of, space, 0, EPOCHS, store)

    def driver():
        asker = Asker(make("tpe", objective, limit, 0), space, space.paper_defaults(), limit)
        return Driver(asker, InlineExecutor(), store, train, task_of, objective, None)

    limit = trials
    with Store(folder / "search", {}) as store:
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        first = driver()
        first.search()
        rate = trials / (time.perf_counter() - began)
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / trials
    journal = store.path.stat().st_size / trials
    limit = trials + PROPOSALS
    began = time.process_time()
    with Store(folder / "search", {}, resume=True) as store:
        second = driver()
        second._replay()
        ready = time.process_time() - began
        proposals = []
        for _ in range(PROPOSALS):
            began = time.process_time()
            number, trial = second.asker.ask()
            proposals.append(time.process_time() - began)
            worth = planted(dict(trial.hyperparameters.values))
            second.asker.tell(number, "completed", worth)
    return {
        "proposal": 1000 * statistics.median(proposals),
        "ready": 1000 * ready / trials,
        "journal": journal,
        "memory": memory,
        "rate": rate,
    }
