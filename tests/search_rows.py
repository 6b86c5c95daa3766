"""Rows as a search would write them, made up: no network is trained."""

import numpy as np

WORDS = {
    "batch": "batch norm",
    "group": "group norm",
    "layer": "layer norm",
    "instance": "instance norm",
    "ilm_group": "ILM group norm",
    "associate": "associate norm",
    "mode": "mode norm",
    "conv": "convolutional norm",
}
BASELINES = ["batch", "group", "layer", "instance"]


def run_rows(errors, roles, seeds=None, **more):
    """Runs of arms, from the errors of each: one row per seed; None is a failed run."""
    rows = []
    for arm, values in errors.items():
        for index, error in enumerate(values):
            rows.append(
                {
                    "arm": arm,
                    "spec": {"name": arm},
                    "role": roles[arm],
                    "seed": seeds[index] if seeds else 1000 + index,
                    "test_error": None if error is None else float(error),
                    "status": "failed" if error is None else "completed",
                    "reason": "not a number at epoch 3" if error is None else None,
                    "curve": [],
                    "parameters": 1000,
                    "step_seconds": 0.01,
                    "seconds": 1.0,
                    **more,
                }
            )
    return rows


def manifest(**more):
    """The manifest of a search."""
    return {
        "versions": {"kerasnorm": "0.2.0", "keras": "3.15.1"},
        "backend": "tensorflow",
        "dtype_policy": "float32",
        "seed": 0,
        "seeds": [],
        "data": {"name": "digits", "fingerprint": "5f3c", "shapes": [[8, 8, 1]], "classes": 10},
        "architecture": {"name": "resnet20", "width": 8},
        "space": [],
        "oracle": "tpe",
        "trials": 0,
        "epochs": 12,
        "objective": "val_error",
        "direction": "min",
        "command": ["kerasnorm-search", "--arch", "ResNet20", "--data", "digits"],
        "overhead": {"wall_seconds": 273.4, "fit_seconds": 262.0, "share": 0.012},
        "device": "CPU, 2 cores",
        **more,
    }


def search(trials=24, seeds=5, gain=0.012, extra_words="", rng_seed=0):
    """A whole search: trial rows, run rows and manifest; `gain` is what ILM is better by."""
    rng = np.random.default_rng(rng_seed)
    trial_rows = [_trial(number, rng, gain, extra_words) for number in range(trials)]
    runs = []
    levels = {
        **{name: 0.03 + 0.004 * index for index, name in enumerate(BASELINES)},
        "ilm_group": 0.03 - gain,
        "associate": 0.028,
        "mode": 0.031,
    }
    seed_numbers = [7001 + index for index in range(seeds)]
    seed_effect = {seed: rng.normal(0, 0.002) for seed in seed_numbers}
    for index, (name, level) in enumerate(levels.items()):
        role = "baseline" if name in BASELINES else "candidate"
        for seed in seed_numbers:
            error = max(0.0, level + seed_effect[seed] + rng.normal(0, 0.002))
            runs.append(_run(WORDS[name] + extra_words, {"name": name}, role, seed, error, index))
    for index, (name, value) in enumerate([("groups", 4), ("groups", 16), ("reduction", 8)]):
        for seed in seed_numbers:
            error = 0.03 - gain + 0.002 * index + seed_effect[seed] + rng.normal(0, 0.002)
            runs.append(
                {
                    **_run(
                        f"{name} = {value}",
                        {"name": "ilm_group", "groups": 8, name: value},
                        "ablation",
                        seed,
                        max(0.0, error),
                        index,
                    ),
                    "changed": {name: value},
                    "around": WORDS["ilm_group"] + extra_words,
                }
            )
    space = [
        {"name": "norm", "values": list(WORDS), "default": "batch", "when": None},
        {"name": "groups", "values": [2, 4, 8, 16], "default": 8, "when": "norm = ilm_group"},
    ]
    return (
        trial_rows,
        runs,
        manifest(seeds=seed_numbers, trials=trials, space=space),
    )


def _curve(rng, epochs, level):
    return [
        {
            "epoch": epoch,
            "loss": 2.3 * 0.7**epoch + 0.05,
            "val_error": level + 0.8 * 0.6**epoch + abs(rng.normal(0, 0.004)),
        }
        for epoch in range(1, epochs + 1)
    ]


def _trial(number, rng, gain, extra_words):
    name = list(WORDS)[number % len(WORDS)]
    values = {"norm": name, "learning_rate": float(10 ** rng.uniform(-3.5, -1)), "batch_size": 64}
    if "group" in name or name == "associate":
        values["groups"] = int(rng.choice([2, 4, 8, 16]))
    if name == "ilm_group":
        values["mean_activation"] = str(rng.choice(["tanh", "sigmoid"]))
    if name == "mode":
        values["modes"] = 2
    spec = {key: value for key, value in values.items() if key not in ("norm", "learning_rate")}
    spec.pop("batch_size")
    away = abs(np.log10(values["learning_rate"]) + 2)
    level = 0.035 + 0.03 * away - gain * (name == "ilm_group") + abs(rng.normal(0, 0.003))
    status = "failed" if number % 11 == 7 else "stopped" if number % 5 == 4 else "completed"
    epochs = {"failed": 2, "stopped": 4, "completed": 12}[status]
    curve = _curve(rng, epochs, level)
    failed = status == "failed"
    return {
        "trial": number,
        "spec": {"name": name, **spec},
        "words": ", ".join([WORDS[name], *(f"{k} {v}" for k, v in spec.items())]) + extra_words,
        "values": values,
        "seed": 100 + number,
        "status": status,
        "reason": {
            "failed": "not a number in the loss at epoch 3",
            "stopped": "below the median of the trials at epoch 4",
            "completed": None,
        }[status],
        "traceback": "Traceback (most recent call last):\n  FloatingPointError" if failed else None,
        "score": None if failed else curve[-1]["val_error"],
        "metrics": {} if failed else {"val_error": curve[-1]["val_error"]},
        "curve": curve,
        "epochs": epochs,
        "parameters": 270_000 + 130 * (number % len(WORDS)),
        "step_seconds": float(0.021 + 0.001 * (number % len(WORDS)) + abs(rng.normal(0, 0.0005))),
        "seconds": 1.1 * epochs,
        "fit_seconds": 1.05 * epochs,
        "started": f"2026-11-21T12:{number % 60:02d}:00+00:00",
    }


def _run(arm, spec, role, seed, error, index):
    rng = np.random.default_rng(seed + index)
    return {
        "arm": arm,
        "spec": spec,
        "role": role,
        "seed": seed,
        "test_error": float(error),
        "status": "completed",
        "curve": _curve(rng, 12, error),
        "epochs": 12,
        "parameters": 270_000 + 300 * index,
        "step_seconds": 0.02 + 0.0015 * index,
        "seconds": 13.0,
        "changed": {},
    }
