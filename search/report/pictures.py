"""The plots as files for papers and slides, drawn by Matplotlib."""

import pathlib
from collections.abc import Mapping
from typing import Any

from search.rows import Status

CANDIDATE, BASELINE, GHOST = "#1d5fbf", "#b35c00", "#9aa3b2"
COLOURS = {"candidate": CANDIDATE, "baseline": BASELINE}
SHADES = {"better": "#0b7a4b", "worse": "#b3261e"}
STATUSES = {Status.COMPLETED: CANDIDATE, Status.STOPPED: BASELINE, Status.FAILED: "#b3261e"}
STYLE = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#e6e9ef",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # What the user wrote is no formula, and SVG text stays text.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "kerasnorm",
}


def write(folder: pathlib.Path, plots: Mapping[str, Any]) -> list[pathlib.Path]:
    """Draw each plot as PNG and as SVG.

    Args:
        folder: where to; made if there is anything to draw.
        plots: what `search.report.plots.all_plots` gives.

    Returns:
        The paths of the pictures.
    """
    import matplotlib as mpl

    written = []
    # A style of the user's own, or a backend with windows, has no say in these files.
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        for name, plot in plots.items():
            folder.mkdir(parents=True, exist_ok=True)
            figure = DRAWINGS[name](plot)
            for suffix in ("png", "svg"):
                written.append(folder / f"{name}.{suffix}")
                # Without a date, so that the same search gives the same file.
                metadata = {"Date": None} if suffix == "svg" else None
                figure.savefig(written[-1], bbox_inches="tight", metadata=metadata)
    return written


def _figure(width=6.4, height=4.0):
    # Without pyplot: no window system, no state shared with the user's own figures.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _percent(axis, percent):
    from matplotlib.ticker import PercentFormatter

    if percent:
        axis.set_major_formatter(PercentFormatter(1.0))


def _logarithmic(axis, show):
    """A log scale with plain numbers at 1, 2 and 5; Matplotlib's own powers would need formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes, **options):
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), **options)


def _shorten(text, most=42):
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _pareto(plot):
    figure, axes = _figure()
    for point in plot["points"]:
        colour = COLOURS[point["role"]]
        if point["low"] is not None:
            arms = [[point["y"] - point["low"]], [point["high"] - point["y"]]]
            axes.errorbar(point["x"], point["y"], yerr=arms, color=colour, alpha=0.6, capsize=3)
        axes.scatter(
            point["x"],
            point["y"],
            s=150,
            zorder=3,
            facecolor=colour if point["front"] else "white",
            edgecolor=SHADES["better"] if point["recommended"] else colour,
            linewidth=3 if point["recommended"] else 1.5,
            label=f"{point['place']} {_shorten(point['name'])}",
        )
        axes.annotate(
            str(point["place"]),
            (point["x"], point["y"]),
            ha="center",
            va="center",
            zorder=4,
            fontsize=8,
            color="white" if point["front"] else colour,
        )
    axes.set(xlabel="train step, ms", ylabel=plot["measure"])
    _percent(axes.yaxis, plot["percent"])
    _legend(axes, title="filled: on the Pareto front; ringed: the norm to use")
    return figure


def _pareto_trials(plot):
    figure, axes = _figure()
    points = sorted(plot["points"], key=lambda point: point["front"])
    named = False
    for point in points:
        front = point["front"]
        label = (
            f"{point['trial']} {_shorten(point['name'])}" if front else "beaten by another trial"
        )
        colour = CANDIDATE if front else GHOST
        axes.scatter(
            point["x"],
            point["y"],
            s=110,
            zorder=3,
            facecolor=colour if front else "white",
            edgecolor=colour,
            label=label if front or not named else None,
        )
        named = named or not front
        axes.annotate(
            str(point["trial"]),
            (point["x"], point["y"]),
            ha="center",
            va="center",
            zorder=4,
            fontsize=6.5,
            color="white" if front else "#5a6476",
        )
    axes.set(xlabel="train step, ms", ylabel=f"{plot['score']['name']} (validation)")
    _percent(axes.yaxis, plot["score"]["percent"])
    _legend(axes, title="filled: on the Pareto front")
    return figure


def _curves_arms(plot):
    figure, axes = _figure()
    for index, arm in enumerate(plot["arms"]):
        colour = f"C{index % 10}"
        for line in arm["seeds"]:
            axes.plot(line["x"], line["y"], color=colour, lw=0.6, alpha=0.35)
        style = ":" if arm["role"] == "baseline" else "-"
        mean = arm["mean"]
        axes.plot(mean["x"], mean["y"], color=colour, ls=style, label=_shorten(arm["name"]))
    return _finish_curves(figure, axes, plot)


def _curves_trials(plot):
    figure, axes = _figure()
    seen: set[str] = set()
    # What did not complete comes last, over the others, and ends in a cross.
    for line in sorted(plot["lines"], key=lambda line: list(STATUSES).index(line["status"])):
        label = None if line["status"] in seen else line["status"]
        seen.add(line["status"])
        colour = STATUSES[line["status"]]
        axes.plot(line["x"], line["y"], color=colour, lw=0.9, alpha=0.65, label=label)
        if line["status"] != Status.COMPLETED:
            axes.plot(line["x"][-1:], line["y"][-1:], "x", color=colour, ms=5)
    return _finish_curves(figure, axes, plot)


def _finish_curves(figure, axes, plot):
    values = [
        y for line in plot.get("lines") or [arm["mean"] for arm in plot["arms"]] for y in line["y"]
    ]
    _percent(axes.yaxis, plot["percent"])
    if plot["log"] and min(values) > 0:
        show = (lambda y: f"{100 * y:g}%") if plot["percent"] else (lambda y: f"{y:g}")
        _logarithmic(axes.yaxis, show)
    axes.set(xlabel="epoch", ylabel=plot["metric"])
    _legend(axes)
    return figure


def _parallel(plot):
    import matplotlib as mpl
    import numpy as np

    scores = np.array(plot["scores"])
    figure, axes = _figure(width=max(6.4, 1.25 * (len(plot["axes"]) + 1)))
    columns = [_unit(axis) for axis in plot["axes"]]
    spread = np.ptp(scores) or 1.0
    heights = (scores - scores.min()) / spread
    columns.append(heights)
    # Coloured by rank: one bad trial would take all of the colours. The best come last, on top.
    order = np.argsort(-scores if plot["score"]["direction"] == "min" else scores)
    shades = mpl.colormaps["viridis_r"](np.linspace(0, 1, len(order)))
    colours = dict(zip(order, shades, strict=True))
    for index in order:
        axes.plot([column[index] for column in columns], color=colours[index], lw=1, alpha=0.8)
    names = [axis["name"] for axis in plot["axes"]] + [plot["score"]["name"]]
    axes.set_xticks(range(len(names)), [_shorten(name, 22) for name in names], rotation=20)
    axes.set_yticks([])
    axes.grid(visible=False)
    for place, axis in enumerate([*plot["axes"], None]):
        axes.axvline(place, color=GHOST, lw=0.8, zorder=0)
        for height, text in _labels(axis, scores, plot["score"]["percent"]):
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
            text = _shorten(text, 16)
            axes.text(place + 0.03, height, text, fontsize=7, va="center", bbox=box, zorder=5)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


def _unit(axis):
    """The positions on an axis, from 0 to 1; what a trial does not have stands below."""
    import numpy as np

    at = np.array(axis["at"], dtype=float)
    if axis["ticks"] is not None:
        return at / max(1, len(axis["ticks"]) - 1)
    at = np.log10(at) if axis["log"] else at
    low, high = np.nanmin(at), np.nanmax(at)
    return np.nan_to_num((at - low) / ((high - low) or 1.0), nan=-0.12)


def _labels(axis, scores, percent):
    if axis is None:
        ends = [(0.0, scores.min()), (1.0, scores.max())]
        return [(at, f"{value:.2%}" if percent else f"{value:.3g}") for at, value in ends]
    if axis["ticks"] is not None:
        last = max(1, len(axis["ticks"]) - 1)
        return [(index / last, tick) for index, tick in enumerate(axis["ticks"])]
    known = [value for value in axis["at"] if value is not None]
    ends = [(0.0, f"{min(known):.2g}"), (1.0, f"{max(known):.2g}")]
    return [*([(-0.12, "not used")] if axis["missing"] else []), *ends]


def _slices(plot):
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    panels = plot["panels"]
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(3.0 * across, 2.5 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        panel = panels[place]
        for stopped, marker in ((False, "o"), (True, "x")):
            chosen = [i for i, was in enumerate(panel["stopped"]) if was is stopped]
            axes.scatter(
                [panel["at"][i] for i in chosen],
                [panel["scores"][i] for i in chosen],
                c=[panel["trials"][i] for i in chosen],
                cmap="Blues",
                vmin=-plot["of"] / 2,
                vmax=plot["of"],
                marker=marker,
                s=18,
            )
        axes.set_title(_shorten(panel["name"], 36), fontsize=9, loc="left")
        if panel["ticks"] is not None:
            ticks = [_shorten(tick, 14) for tick in panel["ticks"]]
            turn = 40 if sum(map(len, ticks)) > 24 else 0
            axes.set_xlim(-0.6, len(ticks) - 0.4)
            axes.set_xticks(
                range(len(ticks)), ticks, rotation=turn, ha="right" if turn else "center"
            )
        elif panel["log"]:
            _logarithmic(axes.xaxis, lambda x: f"{x:g}")
            if max(panel["at"]) / min(panel["at"]) > 60:
                axes.xaxis.set_major_locator(LogLocator())
        _percent(axes.yaxis, plot["score"]["percent"])
    for row in grid:
        row[0].set_ylabel(plot["score"]["name"])
    return figure


def _importance(plot):
    figure, axes = _figure(height=0.8 + 0.3 * len(plot["names"]))
    bars = axes.barh([_shorten(name) for name in plot["names"]], plot["shares"], color=CANDIDATE)
    axes.bar_label(bars, [f"{share:.0%}" for share in plot["shares"]], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the importance")
    _percent(axes.xaxis, True)
    return figure


def _ablation(plot):
    scale = 100 if plot["percent"] else 1
    points = plot["points"]
    figure, axes = _figure(height=0.9 + 0.35 * len(points))
    for place, point in enumerate(points):
        colour = SHADES.get(point["verdict"], GHOST)
        if point["low"] is not None:
            ends = [point["low"] * scale, point["high"] * scale]
            axes.plot(ends, [place, place], color=colour, lw=1.6)
        axes.scatter(point["difference"] * scale, place, color=colour, zorder=3, s=36)
    axes.axvline(0, color="#5a6476", lw=1)
    axes.set_yticks(range(len(points)), [_shorten(point["name"]) for point in points])
    axes.invert_yaxis()
    axes.set_xlabel(f"change of the {plot['measure']}{', points' if plot['percent'] else ''}")
    return figure


DRAWINGS = {
    "pareto": _pareto,
    "pareto_trials": _pareto_trials,
    "curves_arms": _curves_arms,
    "curves_trials": _curves_trials,
    "parallel": _parallel,
    "slices": _slices,
    "importance": _importance,
    "ablation": _ablation,
}
