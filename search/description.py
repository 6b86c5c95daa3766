"""What a search is, as one frozen value: settings, manifest and the call in Python come from it."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any

import keras

import kerasnorm
from kerasnorm.core import backends
from search import fingerprint
from search.jsonable import jsonable
from search.measure import Measure
from search.objective import Objective

PACKAGES = ("keras", "keras-tuner", "numpy", "tensorflow", "jax", "torch")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What every search has.

    Attributes:
        oracle: the name of what proposes the trials.
        objective: what they are ranked by.
        epochs: of a full trial.
        seed: of the proposals and of the trials.
        trials: how many at most.
        early_stopping: the name of the rule that stops trials.
        reestimate: whether moving statistics are measured anew before each evaluation.
        space: what is searched, as plain rows.
        trained: the network and its training, as `search.fingerprint` tells them.
    """

    oracle: str
    objective: Objective
    epochs: int
    seed: int
    trials: int
    early_stopping: str
    reestimate: bool
    space: list[dict[str, Any]]
    trained: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        """What the first line of the journal says: a folder holds the search with these."""
        return {
            "oracle": self.oracle,
            "objective": self.objective.name,
            "direction": self.objective.direction,
            "epochs": self.epochs,
            "seed": self.seed,
            "trials": self.trials,
            "early_stopping": self.early_stopping,
            "reestimate": self.reestimate,
            "space": self.space,
            **self.trained,
        }


@dataclass(frozen=True, kw_only=True)
class Tuning(Description):
    """The search of a `NormTuner`.

    Attributes:
        oracle_seed: of the oracle, which may be the user's own.
        fit: what `fit` is called with, as `search.fingerprint` tells it.
    """

    oracle_seed: Any
    fit: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        """The first line of the journal."""
        return {**super().settings(), "oracle_seed": self.oracle_seed, "fit": self.fit}


@dataclass(frozen=True, kw_only=True)
class Search(Description):
    """The search of `search.run`: trials, then trainings for the answer.

    Attributes:
        architecture: what the network is called.
        data: the data set, as `search.data.Data.described` has it.
        batch_size, learning_rate: where they are not searched.
        augmentation: `(pad, flip)` or None.
        transforms: of Consistent Normalization, as plain values, or None.
        deterministic: whether all operations repeat bit for bit.
        budget: seconds for the trials, or None.
        seeds: on how many new seeds the answer's norms are trained; "auto" is until all is settled.
        most_seeds: of "auto", at most.
        splits: how often the data are split for the answer; 1 is as they are.
        margin: differences up to this are equal, in points of shares; None where nothing is.
        candidates: how many of the best norms these are.
        baselines: the names of the norms that they are compared with.
        ablation: how many other values of each hyperparameter are trained.
        measure: what the answer is measured by on the test part.
        callbacks: of each training, as `search.callbacks` describes them; None where there are
            none.
    """

    architecture: dict[str, Any]
    data: dict[str, Any]
    batch_size: int
    learning_rate: float
    augmentation: tuple[int, bool] | None
    transforms: list[dict[str, Any] | None] | None
    deterministic: bool
    budget: float | None
    seeds: int | str
    most_seeds: int
    splits: int
    margin: float | None
    candidates: int
    baselines: list[str]
    ablation: int
    measure: Measure
    callbacks: dict[str, Any] | None = None

    def settings(self) -> dict[str, Any]:
        """The first line of the journal."""
        # Early versions knew no other than the error.
        measure = {} if self.measure == Measure() else {"measure": self.measure.described()}
        return {
            "backend": keras.backend.backend(),
            "dtype_policy": keras.config.dtype_policy().name,
            "deterministic": self.deterministic,
            "architecture": self.architecture,
            "data": self.data,
            **super().settings(),
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "augmentation": self.augmentation,
            "transforms": self.transforms,
            "seeds": self.seeds,
            "budget": self.budget,
            "candidates": self.candidates,
            "baselines": self.baselines,
            "ablation": self.ablation,
            **measure,
            **({} if self.callbacks is None else {"callbacks": self.callbacks}),
            **({"most_seeds": self.most_seeds} if self.seeds == "auto" else {}),
            **({"splits": self.splits} if self.splits > 1 else {}),
            **({} if self.margin is None else {"margin": self.margin}),
        }

    def python_call(self) -> list[str]:
        """What to call in Python where no command was given."""
        chosen = ["oracle", "trials", "epochs", "seeds", "seed", "batch_size", "learning_rate"]
        chosen += ["splits"] if self.splits > 1 else []
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in chosen)
        if frozen := self.trained.get("frozen_epochs"):
            arguments += f", frozen_epochs={frozen}"
        objective = f"{self.objective.name}:{self.objective.direction}"
        if self.measure != Measure():
            arguments += f", measure={f'{self.measure.name}:{self.measure.direction}'!r}"
        return [f"search.run(network, data, objective={objective!r}, {arguments}, out=...)"]

    def made_with(self, command: list[str] | None, devices: str | None = None) -> dict[str, Any]:
        """The command, the versions and the device, for the journal and the manifest.

        Args:
            command: that was given; None describes a call in Python.
            devices: what trainings run on; None is what this process sees.
        """
        devices = devices or ", ".join(backends.devices())
        return {
            "versions": _versions(),
            "device": f"{devices}; {platform.machine()}, {os.cpu_count()} cores",
            "command": command or self.python_call(),
        }


def architecture_of(network: Any, arguments: dict[str, Any] | None) -> dict[str, Any]:
    """What a network is called."""
    if isinstance(network, str):
        return {"name": network.lower(), **(arguments or {})}
    if isinstance(network, keras.Model):
        return {"model": type(network).__name__}
    return {"function": _place(network)}


def transforms_of(transforms: list | None) -> list[dict[str, Any] | None] | None:
    """Consistent Normalization's transformations as plain values."""
    return None if transforms is None else [_transform_of(one) for one in transforms]


def _transform_of(transform: Any) -> dict[str, Any] | None:
    if transform is None:
        return None
    if isinstance(transform, keras.layers.Layer):
        config = jsonable(transform.get_config())
        about = {key: v for key, v in config.items() if key not in ("name", "dtype", "trainable")}
        return {"transform": type(transform).__name__, **about}
    return {"transform": _place(transform), "code": fingerprint.of_code(transform)}


def _place(function: Any) -> str:
    return f"{function.__module__}:{getattr(function, '__qualname__', function)}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "kerasnorm": kerasnorm.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
