"""The figures of `python -m benchmarks convert` as tables and as a picture.

What a new network keeps of the original is the share of its accuracy; where there is an error, the
share of what the original gains over a guess: nothing where it is as bad as the guess, and less
than nothing where it is worse.
"""

import io
import pathlib
import re

from benchmarks.convert import AT_ONCE, DISTILLATION, EXAMPLES, NORMS, STEPS, SWEPT, TUNED
from benchmarks.convert_training import TRAININGS
from benchmarks.tables import NOTHING, Table
from search.statistics import holm, mean_interval, paired_p_values

# Whom a converted network is compared with, and after how many steps.
RIVALS = (("batch", "as it was"), ("batch", "frozen"), (SWEPT, "swapped"))
COMPARED = 100
# In private training batch norm cannot learn on, and group norm often takes its place.
PRIVATE_RIVALS = (("batch", "frozen"), ("group", "swapped"))
# Norms that there are with the moving statistics of another domain.
RENEWED = tuple(norm for norm, way in AT_ONCE if way == "re-estimated")
# What stands between these lines of a page is written here.
BLOCK = re.compile(r"(?<=<!-- conversions -->\n).*?(?=\n<!-- /conversions -->)", re.DOTALL)


def text(found):
    """All tables, in Markdown."""
    tables = []
    for task in dict.fromkeys(entry["task"] for entry in found):
        own = [entry for entry in found if entry["task"] == task]
        if has_error(own):
            tables.append(_errors_at_once(task, own))
            continue
        tables.append(_at_once(task, own))
        if _of(own, kind="tuned"):
            tables.append(_tuned(task, own))
            tables.append(_compared(task, own))
    accuracies, errors = by_measure(found)
    tables.append(_goal(accuracies, "the original's accuracy"))
    tables.append(_goal(errors, "what the original gains over a guess"))
    tables.append(_new_domain(accuracies))
    tables.append(_examples(accuracies))
    tables.append(_examples_of_errors(errors))
    return "\n\n".join(table.markdown() for table in tables if table.rows)


def write_into(page, found):
    """Write the tables into a page of the documentation."""
    page = pathlib.Path(page)
    tables = text(found)
    written, count = BLOCK.subn(lambda _: tables, page.read_text("utf-8"))
    if not count:
        raise ValueError(f"{page} has no line <!-- conversions --> with a line and its end below.")
    page.write_text(written, "utf-8")


def _of(found, **key):
    """The figures of a kind."""
    return [e for e in found if all(e.get(name) == value for name, value in key.items())]


def _seeds(found):
    count = len({entry["seed"] for entry in found})
    return f"{count} seed{'s' if count > 1 else ''}"


def percent(values):
    """A mean and its interval, in percent; of two values it would be wider than the scale."""
    if not values:
        return NOTHING
    if len(values) == 2:
        return f"{50 * sum(values):.1f}"
    mean, low, _ = mean_interval([100 * value for value in values])
    return f"{mean:.1f}" if low is None else f"{mean:.1f} ± {mean - low:.1f}"


def has_error(found):
    """Whether the figures of a task are errors."""
    return any("error" in entry for entry in found)


def by_measure(found):
    """The figures of the tasks with an accuracy, and those of the tasks with an error."""
    errors = {entry["task"] for entry in found if "error" in entry}
    return (
        [entry for entry in found if entry["task"] not in errors],
        [entry for entry in found if entry["task"] in errors],
    )


def kept(entry, original):
    """What a figure keeps of the original: 1 is all of it.

    >>> original = {"error": 0.2, "guess": 1.0}
    >>> kept({"error": 0.6}, original), kept({"error": 1.4}, original)
    (0.5, -0.5)
    """
    if "accuracy" in entry:
        return entry["accuracy"] / original["accuracy"]
    return round((original["guess"] - entry["error"]) / (original["guess"] - original["error"]), 9)


def number(values):
    """A mean and its interval, as they are."""
    if not values:
        return NOTHING
    mean, low, _ = mean_interval(values)
    if abs(mean) >= 1e4:
        return f"{mean:.0e}"  # A fit that failed.
    return f"{mean:.4f}" if low is None or len(values) == 2 else f"{mean:.4f} ± {mean - low:.4f}"


def _errors_at_once(task, found):
    """The same of another task than classification."""
    originals = {entry["seed"]: entry for entry in _of(found, kind="original")}
    first = next(iter(originals.values()))
    near = "variance" if "squared" in first["measure"] else "same class"
    table = Table(
        f"{task}, {_seeds(found)}: test {first['measure']} at once",
        ["norm", "way", "error", "kept, %", f"{near}, %", "parameters", "seconds"],
    )
    guesses = [entry["guess"] for entry in originals.values()]
    table.rows.append(["", "a guess", number(guesses[:1]), "0.0", *[NOTHING] * 3])
    errors = number([entry["error"] for entry in originals.values()])
    table.rows.append([first["origin"], "as it was", errors, "100.0", "100.0", "+0.0%", NOTHING])
    tried = dict.fromkeys((e["norm"], e["way"]) for e in _of(found, kind="at once"))
    for norm, way in tried:
        own = _of(found, kind="at once", norm=norm, way=way)
        table.rows.append(
            [
                norm,
                way,
                number([e["error"] for e in own]),
                percent([kept(e, originals[e["seed"]]) for e in own]),
                f"{100 * sum(e['agreement'] for e in own) / len(own):.1f}",
                f"{100 * sum(e['parameters'] for e in own) / len(own):+.1f}%",
                f"{sum(e['seconds'] for e in own) / len(own):.0f}",
            ]
        )
    return table


def _at_once(task, found):
    """Without labels and without training."""
    table = Table(
        f"{task}, {_seeds(found)}: test accuracy at once, %",
        ["norm", "way", "same data", "another domain", "same class", "parameters", "seconds"],
    )
    original = _of(found, kind="original")
    names = percent([e["accuracy"] for e in original]), percent([e["other"] for e in original])
    table.rows.append(["batch", "as it was", *names, "100.0", "+0.0%", NOTHING])
    for norm, way in AT_ONCE:
        own = _of(found, kind="at once", norm=norm, way=way)
        if own:
            count = len(own)
            table.rows.append(
                [
                    norm,
                    way,
                    *(percent([e[name] for e in own]) for name in ("accuracy", "other")),
                    f"{100 * sum(e['agreement'] for e in own) / count:.1f}",
                    f"{100 * sum(e['parameters'] for e in own) / count:+.1f}%",
                    f"{sum(e['seconds'] for e in own) / count:.0f}",
                ]
            )
    return table


def _tuned(task, found):
    """With labels."""
    found = _of(found, kind="tuned")
    steps = (0, *STEPS)
    table = Table(
        f"{task}, {_seeds(found)}: test accuracy after so many steps with labels, %",
        ["training", "norm", "way", *map(str, steps)],
    )
    for setup, training in TRAININGS.items():
        for norm, way in TUNED:
            own = _of(found, norm=norm, way=way, on=setup)
            if own:
                after = [e["accuracy"] for e in own]
                cells = [percent([a[str(n)] for a in after if str(n) in a]) for n in steps]
                table.rows.append([training.words, norm, way, *cells])
    return table


def _compared(task, found):
    """Converted against the others, seed by seed."""
    found = _of(found, kind="tuned")
    pairs: list[tuple] = []
    for setup, training in TRAININGS.items():
        ours = _by_seed(_of(found, norm=SWEPT, way="converted", on=setup))
        for norm, way in PRIVATE_RIVALS if training.private else RIVALS:
            theirs = _by_seed(_of(found, norm=norm, way=way, on=setup))
            seeds = sorted(ours.keys() & theirs.keys())
            if len(seeds) > 1:
                both = [[one[seed][str(COMPARED)] for seed in seeds] for one in (ours, theirs)]
                pairs.append((training.words, norm, way, *both))
    tests = [p for pair in pairs for p in paired_p_values(*pair[-2:])]
    adjusted = holm(tests)
    table = Table(
        f"{task}: {SWEPT} converted against others, points of test accuracy after {COMPARED} steps",
        ["training", "against", "difference", "which is better"],
    )
    for index, (words, norm, way, ours, theirs) in enumerate(pairs):
        lower, higher = adjusted[2 * index : 2 * index + 2]
        verdict = "the other" if lower <= 0.05 else "converted" if higher <= 0.05 else "not clear"
        difference = percent([a - b for a, b in zip(ours, theirs, strict=True)])
        table.rows.append([words, f"{norm}, {way}", difference, verdict])
    if pairs:
        table.notes.append(
            "Paired t tests over seeds, with Holm's correction over all rows of the table. "
            "Intervals are of 95 % for one row."
        )
    return table


def _by_seed(found):
    return {entry["seed"]: entry["accuracy"] for entry in found}


def _goal(found, what):
    """What is kept of the original, of all tasks."""
    table = Table(
        f"Kept of {what}, {SWEPT}, %",
        [
            "task",
            "seeds",
            "without training",
            f"after {DISTILLATION} unlabelled steps",
            "parameters",
            "time of a step, of that with group norm",
        ],
    )
    for task in dict.fromkeys(entry["task"] for entry in found):
        own = _of(found, task=task)
        originals = {e["seed"]: e for e in _of(own, kind="original")}
        cells = []
        for way in ("converted", "distilled"):
            entries = _of(own, kind="at once", norm=SWEPT, way=way)
            cells.append(percent([kept(e, originals[e["seed"]]) for e in entries]))
        more = [e["parameters"] for e in _of(own, kind="at once", norm=SWEPT, way="converted")]
        ratios = [e["ratio"] for e in _of(own, kind="step")]
        table.rows.append(
            [
                task,
                str(len(originals)),
                *cells,
                f"{100 * sum(more) / len(more):+.1f}%" if more else NOTHING,
                f"{sum(ratios) / len(ratios):.2f}" if ratios else NOTHING,
            ]
        )
    return table


def _new_domain(found):
    """What is known of images that look different, without labels."""
    ways = [(norm, "converted") for norm in NORMS] + [(norm, "re-estimated") for norm in RENEWED]
    table = Table(
        "Test accuracy on another domain, without labels and without training, %",
        ["task", "batch, as it was", *(f"{norm}, {way}" for norm, way in ways)],
    )
    for task in dict.fromkeys(entry["task"] for entry in found):
        own = _of(found, task=task)
        groups = [_of(own, kind="original")]
        groups += [_of(own, kind="at once", norm=norm, way=way) for norm, way in ways]
        table.rows.append([task, *(percent([e["other"] for e in group]) for group in groups)])
    return table


def _examples(found):
    """How many unlabelled examples are enough, and which."""
    return _by_count(
        found, "accuracy, %", "accuracy", percent, {"512 of another domain": "other examples"}
    )


def _examples_of_errors(found):
    """The same of errors."""
    return _by_count(found, "error", "error", number, {})


def _by_count(found, words, of, shown, further):
    """The figures of conversions with few and with many examples; further columns by their kind."""
    columns = further | {"original": "original"}
    table = Table(
        f"{SWEPT}, converted with so many unlabelled examples: test {words}",
        ["task", *map(str, EXAMPLES), *columns],
    )
    for task in dict.fromkeys(entry["task"] for entry in found):
        own = _of(found, task=task)
        if _of(own, kind="examples"):
            groups = [_of(own, kind="examples", on=count) for count in EXAMPLES]
            groups += [_of(own, kind=kind) for kind in columns.values()]
            table.rows.append([task, *(shown([e[of] for e in group]) for group in groups)])
    return table


# The picture.

# Private training is in the tables only: few networks have it.
DRAWN = {setup: training for setup, training in TRAININGS.items() if not training.private}
LINES = {
    ("batch", "as it was"): ("batch norm, trained on", "tab:gray", "-"),
    ("batch", "frozen"): ("batch norm, frozen", "tab:gray", "--"),
    ("group", "from nothing"): ("group norm, from nothing", "tab:green", ":"),
    (SWEPT, "swapped"): ("swapped for ILM layer norm", "tab:orange", "--"),
    (SWEPT, "converted"): ("converted to ILM layer norm", "tab:blue", "-"),
}


def draw(found, path):
    """A row of panels for each classifier that was trained further, and one panel for all else."""
    from matplotlib.figure import Figure
    from PIL import Image

    made = list(dict.fromkeys(entry["task"] for entry in _of(found, kind="at once")))
    tasks = [task for task in made if _of(found, task=task, kind="tuned")]
    others = [task for task in made if task not in tasks]
    columns = 1 + len(DRAWN)
    last = -(-len(others) // columns)
    size = (2.6 * columns, 2.9 * (len(tasks) + last) + 0.7)
    picture = Figure(figsize=size, layout="constrained")
    panels = picture.subplots(len(tasks) + last, columns, squeeze=False, sharey="row")
    below = panels[len(tasks) :].ravel()
    for panel, task in zip(below, others, strict=False):
        _draw_kept(panel, task, _of(found, task=task))
    for panel in below[len(others) :]:
        panel.set_axis_off()
    for row in panels[len(tasks) :, 0]:
        row.set_ylabel("kept of the accuracy, or\nof the gain over a guess, %")
    for row, task in zip(panels[: len(tasks)], tasks, strict=True):
        own = _of(found, task=task)
        _draw_at_once(row[0], own)
        row[0].set_ylabel(f"{task}\ntest accuracy, %")
        for panel, setup in zip(row[1:], DRAWN, strict=True):
            _draw_tuned(panel, _of(own, kind="tuned", on=setup))
    if tasks:
        panels[0][0].set_title("at once, without labels", fontsize=9)
        for panel, training in zip(panels[0][1:], DRAWN.values(), strict=True):
            panel.set_title(training.words, fontsize=9)
    handles: list = []
    labels: list = []
    for row in panels[: len(tasks)]:
        found_there = row[1].get_legend_handles_labels()
        if len(found_there[1]) > len(labels):
            handles, labels = found_there
    if handles:
        picture.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    whole = io.BytesIO()
    picture.savefig(whole, dpi=130)
    # With few colors it is a third as large.
    Image.open(whole).convert("RGB").quantize(128).save(path, optimize=True)


def _draw_at_once(panel, found):
    """Bars."""
    bars = [("batch norm", [e["accuracy"] for e in _of(found, kind="original")], "tab:gray")]
    for norm, word in (("group", "group"), (SWEPT, "ILM layer")):
        for way, color in (("swapped", "tab:orange"), ("converted", "tab:blue")):
            entries = _of(found, kind="at once", norm=norm, way=way)
            bars.append((f"{word}\n{way}", [e["accuracy"] for e in entries], color))
    for place, (_, values, color) in enumerate(bars):
        if values:
            mean, low, high = mean_interval([100 * value for value in values])
            # No accuracy is above 100; the numbers stand there.
            spread = None if low is None else [[mean - low], [min(high, 100) - mean]]
            panel.bar(place, mean, color=color, yerr=spread)
            panel.text(place, 103, f"{mean:.1f}", ha="center", fontsize=8)
    panel.set_xticks(range(len(bars)), [name for name, *_ in bars], fontsize=6)
    panel.set_ylim(0, 110)
    panel.set_yticks(range(0, 101, 20))


def _draw_kept(panel, task, found):
    """Bars of what is kept; one below zero is as high as nothing, and its number is shown."""
    originals = {entry["seed"]: entry for entry in _of(found, kind="original")}
    origin = next(iter(originals.values())).get("origin", "batch")
    at_once = _of(found, kind="at once")
    norms = [n for n in dict.fromkeys(entry["norm"] for entry in at_once) if n != origin]
    names = []
    for norm in norms:
        for way, color in (("swapped", "tab:orange"), ("converted", "tab:blue")):
            entries = _of(found, kind="at once", norm=norm, way=way)
            mean = sum(100 * kept(e, originals[e["seed"]]) for e in entries) / max(len(entries), 1)
            panel.bar(len(names), max(mean, 0), color=color)
            panel.text(len(names), max(mean, 0) + 3, f"{mean:.0f}", ha="center", fontsize=7)
            names.append(f"{norm}\n{way}")
    panel.set_xticks(range(len(names)), names, fontsize=5)
    panel.set_ylim(0, 115)
    panel.set_yticks(range(0, 101, 20))
    panel.set_title(f"{task}\nfrom {origin} norm", fontsize=8)


def _draw_tuned(panel, found):
    """Lines over the steps, with intervals."""
    steps = (0, *STEPS)
    places = range(len(steps))
    for (norm, way), (label, color, style) in LINES.items():
        own = _of(found, norm=norm, way=way)
        if not own:
            continue
        intervals = [mean_interval([100 * e["accuracy"][str(step)] for e in own]) for step in steps]
        panel.plot(places, [i.mean for i in intervals], style, color=color, label=label)
        # An interval of two seeds is as wide as the panel.
        if len(own) > 2:
            ends = zip(*((i.low, i.high) for i in intervals), strict=True)
            panel.fill_between(places, *ends, color=color, alpha=0.15, linewidth=0)
    panel.set_xticks(places, steps, fontsize=7)
    panel.set_xlabel("steps", fontsize=8)
    panel.grid(alpha=0.3)
