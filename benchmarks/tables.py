"""Results as tables: of fixed width for the terminal, in Markdown for documents."""

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import Any

from benchmarks import targets
from benchmarks.contestants import BATCH_BASELINE, GROUP_BASELINE, MOVING, in_order, known

Cell = dict[str, Any]

NOTHING = "-"
# Where memory is handed back and fetched again in each step, that is what is timed.
MANY_FAULTS = 100
# Of all CPUs: what other processes may take while rounds run.
MUCH_LOAD = 0.05
ITEMSIZE = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclasses.dataclass
class Table:
    """Rows of text under a title; the first column holds names, the others numbers.

    Attributes:
        title: a line above it.
        columns: what stands over the columns.
        rows: as many cells each.
        notes: lines below it.
    """

    title: str
    columns: list[str]
    rows: list[list[str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def text(self) -> str:
        """With columns of fixed width."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [
            "  ".join(
                cell.rjust(width) if index else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        body.insert(1, "-" * max(map(len, body)))
        return "\n".join([self.title, "", *body, *self.notes])

    def markdown(self) -> str:
        """In GitHub's Markdown."""
        lines = [
            self.columns,
            ["---", *["---:"] * (len(self.columns) - 1)],
            *([f"**{cell}**" if "MISSED" in cell else cell for cell in row] for row in self.rows),
        ]
        body = [f"| {' | '.join(line)} |" for line in lines]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"**{self.title}**", "", *body, *([""] if notes else []), *notes])


def of_run(run: Cell) -> list[Table]:
    """All tables of a run."""
    if run["command"] == "networks":
        return [_network(run)]
    groups: dict[tuple, dict[str, Cell]] = {}
    for cell in run["cells"]:
        key = (cell["mode"], cell["phase"], tuple(cell["shape"]))
        groups.setdefault(key, {})[cell["name"]] = cell
    tables = [_times(run, mode, phase, shape, c) for (mode, phase, shape), c in groups.items()]
    shapes = dict.fromkeys(tuple(entry["shape"]) for entry in run["kept"])
    return tables + [_kept(run, shape) for shape in shapes]


def machine(run: Cell) -> list[str]:
    """What a run was measured on and with, in lines."""
    about = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    variables = ", ".join(f"{name}={value}" for name, value in about["environment"].items())
    threads = f", {run['threads']} threads" if run["threads"] else ""
    memory = f", {about['memory_gb']} GB" if about["memory_gb"] else ""
    lines = [
        f"{about['cpu']}, {about['cores']} cores{memory}{threads}; device {about['device']}",
        f"{about['system']}, Python {about['python']}, {versions}",
        f"{about['date']}, load average {'/'.join(map(str, about['load']))}, {variables}",
    ]
    if run["quick"]:
        lines.append("Quick: few rounds and short samples, no more than a look.")
    return lines


def ratio_summary(runs: Iterable[Cell]) -> Table | None:
    """Training steps as a part of Keras's BatchNormalization's, compiled where that can be."""
    columns: dict[str, dict[str, str]] = {}
    for run in runs:
        mode = run["cells"][0]["mode"] if run["cells"] else None
        for cell in run["cells"]:
            if cell["phase"] != "train" or cell["mode"] != mode:
                continue
            cells = _together(run, cell)
            if cell["role"] not in ("keras", "layer") or BATCH_BASELINE not in cells:
                continue
            head = f"{run['backend']} {mode} {cell['dtype']} {times(cell['shape'])}"
            ratio = cell["ms"] / cells[BATCH_BASELINE]["ms"]
            target = targets.of_layer(run, cells, cell["name"])
            missed = target is not None and target.baseline == BATCH_BASELINE and not target.met
            text = f"**{ratio:.2f}**" if missed else f"{ratio:.2f}"
            columns.setdefault(head, {})[cell["name"]] = text
    if not columns:
        return None
    names = in_order(itertools.chain.from_iterable(columns.values()))
    return Table(
        "Training step as a part of keras.layers.BatchNormalization's (bold: target missed)",
        ["layer", *columns],
        [[name, *(column.get(name, NOTHING) for column in columns.values())] for name in names],
    )


def overview(runs: Iterable[Cell]) -> Table:
    """One row for each layer: its training step, alone and in a network, beside Keras's.

    Where several shapes were measured, it shows the lowest and the highest ratio.
    """
    ratios: dict[str, dict[str, list[float]]] = {}
    labels: list[str] = []
    for run in runs:
        for cell in run["cells"]:
            cells = _together(run, cell)
            if cell["role"] != "layer" and cell["name"] != GROUP_BASELINE:
                continue
            if cell["phase"] not in ("train", "network") or BATCH_BASELINE not in cells:
                continue
            what = cell["network"] if cell["phase"] == "network" else "layer"
            column = ratios.setdefault(f"{what}, {run['backend']} {cell['mode']}", {})
            ratio = cell["ms"] / cells[BATCH_BASELINE]["ms"]
            labels.append(cell["name"])
            # Networks choose their own group counts.
            column.setdefault(cell["name"].replace("(32)", ""), []).append(ratio)
    labels = in_order(labels)
    names = dict.fromkeys(name.replace("(32)", "") for name in labels)
    rows = [[name, *(_range(column.get(name)) for column in ratios.values())] for name in names]
    title = "Training step as a part of that with keras.layers.BatchNormalization"
    return Table(title, ["layer", *ratios], rows)


def _range(values: list[float] | None) -> str:
    """The lowest and the highest of some ratios."""
    if not values:
        return NOTHING
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def times(shape: Iterable[int]) -> str:
    """A shape with crosses."""
    return "x".join(map(str, shape))


def _together(run: Cell, cell: Cell) -> dict[str, Cell]:
    """What took turns with a cell, by name."""
    keys = ("mode", "phase", "shape")
    return {c["name"]: c for c in run["cells"] if all(c[key] == cell[key] for key in keys)}


def _plain(cells: dict[str, Cell], kind: str) -> Cell | None:
    """The fastest plain passes of a kind."""
    found = [c for c in cells.values() if c["role"] == "plain" and c["name"].split()[1] == kind]
    return min(found, key=lambda cell: cell["ms"], default=None)


def _limit_of(cells: dict[str, Cell], cell: Cell) -> Cell | None:
    """The plain passes with the least traffic of a step."""
    if cell["phase"] == "train":
        return _plain(cells, "train")
    moving = known(cell["name"]).inference_reads == MOVING
    return _plain(cells, "moving" if moving else "measured")


def _times(run: Cell, mode: str, phase: str, shape: tuple, cells: dict[str, Cell]) -> Table:
    title = f"{run['backend']} {mode}, {phase}, {times(shape)} {run['dtype']}"
    table = Table(title, ["layer", "ms", "min", "spread", "/ BN", "/ GN"])
    training = phase == "train"
    table.columns += ["literal ms", "/ literal"] if training else []
    table.columns += ["of limit"]
    table.columns += ["target"] if training else []
    reached: list[targets.Target] = []
    timed = [name for name, cell in cells.items() if cell["role"] in ("keras", "layer", "native")]
    for name in in_order(timed):
        cell = cells[name]
        low, high = cell["quartiles"]
        row = [
            name,
            f"{cell['ms']:.2f}",
            f"{cell['min']:.2f}",
            f"{(high - low) / cell['ms']:.0%}",
            _ratio(cell, cells.get(BATCH_BASELINE)),
            _ratio(cell, cells.get(GROUP_BASELINE)),
        ]
        if training:
            literal = cells.get(f"literal {name}")
            row += [f"{literal['ms']:.1f}" if literal else NOTHING, _ratio(cell, literal, 3)]
        plain = _limit_of(cells, cell)
        row.append(f"{plain['ms'] / cell['ms']:.0%}" if plain else NOTHING)
        if training:
            target = targets.of_layer(run, cells, name)
            row.append(str(target) if target else NOTHING)
            reached += [target] if target else []
        table.rows.append(row)
    modes = targets.of_modes(run, cells)
    reached += [modes] if modes else []
    table.notes = [*_limit_notes(run, cells, shape), *_target_notes(cells, reached, modes)]
    table.notes += _disturbances(cells)
    return table


def _network(run: Cell) -> Table:
    """Training steps of a network with each norm."""
    cells = {cell["name"]: cell for cell in run["cells"]}
    first = run["cells"][0]
    title = f"{run['backend']} {first['mode']}, training step of {first['network']}"
    table = Table(
        f"{title}, {times(first['shape'])} {run['dtype']}",
        ["norm", "ms", "min", "spread", "/ BN", "parameters", "target"],
    )
    reached: list[targets.Target] = []
    for name, cell in cells.items():
        low, high = cell["quartiles"]
        target = targets.of_network(run, cells, name)
        reached += [target] if target else []
        table.rows.append(
            [
                name,
                f"{cell['ms']:.1f}",
                f"{cell['min']:.1f}",
                f"{(high - low) / cell['ms']:.0%}",
                _ratio(cell, cells.get(BATCH_BASELINE)),
                str(cell["parameters"]),
                str(target) if target else NOTHING,
            ]
        )
    table.notes = _target_notes(cells, reached, None)
    missed = [target.label for target in reached if not target.met]
    if missed:
        table.notes.append(f"missed: {', '.join(missed)}")
    table.notes += _disturbances(cells)
    return table


def _disturbances(cells: dict[str, Cell]) -> list[str]:
    """What may have spoilt the measurement."""
    notes = []
    faulty = {name: cell["faults"] for name, cell in cells.items() if cell["faults"] > MANY_FAULTS}
    faulty = {name: faults for name, faults in faulty.items() if cells[name]["role"] != "literal"}
    other_load = max((cell["other_load"] or 0.0 for cell in cells.values()), default=0.0)
    if other_load > MUCH_LOAD:
        notes.append(f"other processes took {other_load:.0%} of the CPUs meanwhile: measure again")
    if faulty:
        listed = ", ".join(f"{name} {faults:.0f}" for name, faults in faulty.items())
        notes.append(f"page faults per step: {listed}")
    return notes


def _ratio(cell: Cell, other: Cell | None, digits: int = 2) -> str:
    return f"{cell['ms'] / other['ms']:.{digits}f}" if other else NOTHING


def _limit_notes(run: Cell, cells: dict[str, Cell], shape: tuple) -> list[str]:
    """The plain passes' time, and the memory traffic that it stands for."""
    notes = []
    for kind, passes in targets.TRAFFIC.items():
        cell = _plain(cells, kind)
        if cell:
            size = math.prod(shape) * ITEMSIZE[run["dtype"]]
            rate = passes * size / cell["ms"] / 1e6
            notes.append(f"limit ({kind}): plain passes take {cell['ms']:.2f} ms, {rate:.0f} GB/s")
    return notes


def _target_notes(
    cells: dict[str, Cell], reached: list[targets.Target], modes: targets.Target | None
) -> list[str]:
    notes = []
    if modes:
        notes.append(f"{modes.label} / {modes.baseline} = {modes.ratio:.2f}: {modes}")
    if reached:
        met = sum(target.met for target in reached)
        rounds = min(cell["rounds"] for cell in cells.values() if cell["role"] != "literal")
        few = f" (in {rounds} rounds; targets ask for {targets.ROUNDS})"
        notes.append(f"{met} of {len(reached)} targets met{few if rounds < targets.ROUNDS else ''}")
    return notes


def _kept(run: Cell, shape: tuple) -> Table:
    """What waits for the backward pass."""
    table = Table(
        f"{run['backend']}, kept for the backward pass, {times(shape)} {run['dtype']}",
        ["layer", "sizes of x", "beside x, kB", "beside x / (N*C + parameters)", "target"],
        notes=[
            f"target: one array as large as x, and {targets.KEPT} times N*C statistics and the "
            "parameters (ConvNorm: H*W*C statistics)"
        ],
    )
    for entry in run["kept"]:
        if tuple(entry["shape"]) != shape:
            continue
        judged = not known(entry["name"]).is_keras
        verdict = "met" if targets.kept_is_met(entry) else "MISSED"
        table.rows.append(
            [
                entry["name"],
                f"{entry['total'] / entry['x']:.2f}",
                f"{entry['beside_x'] / 1e3:.0f}",
                f"{entry['beside_x'] / entry['unit']:.1f}",
                verdict if judged else NOTHING,
            ]
        )
    return table
