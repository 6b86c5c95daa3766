"""What the plots of a report show, as plain JSON: page.js and pictures.py draw it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search import answer as answers
from search.formats import is_share
from search.report.tables import values_in_words
from search.rows import Status, TrialRow

Row = Mapping[str, Any]

# An axis or a panel with fewer trials shows nothing.
FEWEST_POINTS = 4
# What matters less is not drawn.
LEAST_SHARE = 0.01

# From this ratio of the largest to the smallest value on, an axis of numbers is logarithmic.
LOGARITHMIC = 30


def all_plots(
    trial_rows: Sequence[Row], run_rows: Sequence[Row], manifest: Row, answer: answers.Answer
) -> dict[str, Any]:
    """Every plot that there is data for."""
    objective = str(manifest.get("objective", "score"))
    score = {
        "name": objective,
        "percent": answer.percent and is_share(objective),
        "direction": manifest.get("direction", "min"),
    }
    plots = {
        "pareto": pareto(answer),
        "pareto_trials": pareto_trials(trial_rows, answer, score),
        "curves_arms": curves_of_arms(run_rows, answer, score),
        "curves_trials": curves_of_trials(trial_rows, score),
        "parallel": parallel(trial_rows, score),
        "slices": slices(trial_rows, score),
        "importance": importance(answer),
        "ablation": ablation(answer),
    }
    return {name: plot for name, plot in plots.items() if plot}


def pareto(answer: answers.Answer) -> dict[str, Any] | None:
    """The arms by train-step time and what was measured; the size is the number of parameters."""
    points = [
        {
            "name": arm.name,
            "place": place,
            "role": arm.role,
            "x": arm.step_seconds * 1000,
            "y": arm.mean,
            "low": arm.low,
            "high": arm.high,
            "parameters": arm.parameters,
            "front": arm.name in answer.pareto,
            "recommended": answer.rests_on == answers.COMPARED and arm.name == answer.best,
        }
        for place, arm in enumerate(answer.arms, 1)
        if arm.mean is not None and arm.step_seconds and arm.parameters is not None
    ]
    said = answer.measure.said
    return {"points": points, "percent": answer.percent, "measure": said} if points else None


def pareto_trials(
    trial_rows: Sequence[Row], answer: answers.Answer, score: Row
) -> dict[str, Any] | None:
    """The completed trials by train-step time and validation score."""
    points = [
        {
            "trial": row["trial"],
            "name": row["words"],
            "x": row["step_seconds"] * 1000,
            "y": row["score"],
            "parameters": row["parameters"],
            "front": row["trial"] in answer.pareto_trials,
        }
        for row in answers.ranked(trial_rows)
        if row["step_seconds"] and row["parameters"] is not None
    ]
    # One point beside nothing shows nothing.
    return {"points": points, "score": score} if len(points) > 1 else None


def curves_of_arms(
    run_rows: Sequence[Row], answer: answers.Answer, score: Row
) -> dict[str, Any] | None:
    """The learning curves of the candidates and baselines: each seed, and their mean."""
    rows = [row for row in run_rows if row["role"] != "ablation" and row.get("curve")]
    metric = curve_metric(rows, score["name"])
    if metric is None:
        return None
    arms = []
    for arm in answer.arms:
        lines = [_line(row["curve"], metric) for row in rows if row["arm"] == arm.name]
        lines = [line for line in lines if line["x"]]
        if lines:
            arms.append(
                {"name": arm.name, "role": arm.role, "seeds": lines, "mean": _mean_line(lines)}
            )
    percent = answer.percent and is_share(metric)
    if not arms:
        return None
    return {"arms": arms, "metric": metric, "percent": percent, "log": score["direction"] == "min"}


def curves_of_trials(trial_rows: Sequence[Row], score: Row) -> dict[str, Any] | None:
    """The learning curve of every trial."""
    rows = [row for row in trial_rows if row.get("curve")]
    metric = curve_metric(rows, score["name"])
    if metric is None:
        return None
    lines = [
        {
            "trial": row["trial"],
            "name": row["words"],
            "status": row["status"],
            **_line(row["curve"], metric),
        }
        for row in rows
    ]
    percent = score["percent"] and is_share(metric)
    log = score["direction"] == "min"
    return {"lines": lines, "metric": metric, "percent": percent, "log": log}


def parallel(trial_rows: Sequence[Row], score: Row) -> dict[str, Any] | None:
    """An axis for each hyperparameter that varies, and one for the score."""
    rows = scored(trial_rows)
    axes = []
    for name in varied(rows):
        values = [row["values"].get(name) for row in rows]
        scale = _scale(values)
        axes.append({"name": name, **scale, "at": _positions(values, scale)})
    if not axes:
        return None
    return {
        "axes": axes,
        "score": score,
        "scores": [row["score"] for row in rows],
    }


def slices(trial_rows: Sequence[Row], score: Row) -> dict[str, Any] | None:
    """For each hyperparameter that varies, its value against the score."""
    rows = scored(trial_rows)
    panels = []
    for name in varied(rows):
        having = [row for row in rows if row["values"].get(name) is not None]
        values = [row["values"][name] for row in having]
        scale = _scale(values)
        panels.append(
            {
                "name": name,
                **scale,
                "at": _positions(values, scale),
                "scores": [row["score"] for row in having],
                "trials": [row["trial"] for row in having],
                "stopped": [row["status"] == Status.STOPPED for row in having],
                "words": [
                    f"trial {row['trial']}: {row['words']}; {values_in_words(row['values'])}"
                    for row in having
                ],
            }
        )
    return {"panels": panels, "score": score, "of": len(trial_rows)} if panels else None


def importance(answer: answers.Answer) -> dict[str, Any] | None:
    """A bar for each hyperparameter."""
    shares = {n: share for n, share in answer.importance.shares.items() if share >= LEAST_SHARE}
    if not shares:
        return None
    return {"names": list(shares), "shares": list(shares.values())}


def ablation(answer: answers.Answer) -> dict[str, Any] | None:
    """The difference that each change makes, with its interval."""
    changed = {arm.name: arm.changed for arm in answer.ablation_arms}
    points = [
        {
            "name": ", ".join(f"{k} = {v}" for k, v in changed[comparison.name].items())
            or comparison.name,
            "difference": comparison.difference,
            "low": comparison.low,
            "high": comparison.high,
            "verdict": comparison.verdict,
        }
        for comparison in answer.ablation
        if comparison.difference is not None
    ]
    if not points:
        return None
    said = answer.measure.said
    return {"points": points, "of": answer.ablated, "percent": answer.percent, "measure": said}


def scored(trial_rows: Iterable[Row]) -> list[TrialRow]:
    """The trials with a finite score: completed ones and those that were stopped early."""
    return [row for row in map(TrialRow.of, trial_rows) if row.is_scored]


def varied(rows: Sequence[Row]) -> list[str]:
    """The hyperparameters that have more than one value, in enough trials to see anything."""
    values: dict[str, list[str]] = {}
    for row in rows:
        for name, value in row["values"].items():
            values.setdefault(name, []).extend([] if value is None else [repr(value)])
    return [
        name
        for name, found in values.items()
        if len(set(found)) > 1 and len(found) >= FEWEST_POINTS
    ]


def curve_metric(rows: Sequence[Row], objective: str) -> str | None:
    """Which entry of the curves to draw: the objective, else another one of the validation part.

    >>> curve_metric([{"curve": [{"epoch": 1, "loss": 2.0, "val_loss": 3.0}]}], "val_error")
    'val_loss'
    """
    names = dict.fromkeys(
        name for row in rows for point in row["curve"] for name in point if name != "epoch"
    )
    for fits in (
        lambda name: name == objective,
        lambda name: name == f"val_{objective}",
        lambda name: name.startswith("val_"),
        lambda name: True,
    ):
        for name in names:
            if fits(name):
                return name
    return None


def _line(curve: Sequence[Row], metric: str) -> dict[str, list]:
    points = [
        (point["epoch"], point[metric])
        for point in curve
        if point.get(metric) is not None and math.isfinite(point[metric])
    ]
    return {"x": [epoch for epoch, _ in points], "y": [value for _, value in points]}


def _mean_line(lines: Sequence[Mapping[str, list]]) -> dict[str, list]:
    """The mean over the seeds, up to where the first of them ends."""
    shared = sorted(set.intersection(*(set(line["x"]) for line in lines)))
    values = [dict(zip(line["x"], line["y"], strict=True)) for line in lines]
    return {"x": shared, "y": [sum(v[x] for v in values) / len(values) for x in shared]}


def _scale(values: Sequence[Any]) -> dict[str, Any]:
    """How an axis shows values: as numbers, or as choices with a tick each."""
    known = [value for value in values if value is not None]
    missing = len(known) < len(values)
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known)
    distinct: list[Any] = sorted(set(known) if numbers else {_tick(value) for value in known})
    # A number that hardly repeats comes from a range, however few there are of it.
    drawn = any(isinstance(v, float) for v in known) and len(distinct) > max(2, len(known) / 2)
    if numbers and (drawn or len(distinct) > 8):
        low, high = distinct[0], distinct[-1]
        return {
            "ticks": None,
            "log": low > 0 and high / low >= LOGARITHMIC,
            "missing": missing,
        }
    ticks = [*(["not used"] if missing else []), *map(_tick, distinct)]
    return {"ticks": ticks, "log": False, "missing": missing}


def _positions(values: Sequence[Any], scale: Mapping[str, Any]) -> list[float | None]:
    """Where each value stands on its axis; a missing number stands nowhere."""
    if scale["ticks"] is None:
        return [None if value is None else float(value) for value in values]
    place = {tick: index for index, tick in enumerate(scale["ticks"])}
    return [place["not used" if value is None else _tick(value)] for value in values]


def _tick(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
