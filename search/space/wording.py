"""A norm spec in words, for readers."""

from kerasnorm.norms import NormRow
from kerasnorm.registry import is_known, row_of
from search import formats

# Of arguments that no search chooses, or that one brings along.
_PHRASES = {"kernel_sizes": "kernels {}", "groups": "{} groups"}


def words(spec):
    """A norm spec in words.

    >>> from search.space import words
    >>> words({"name": "ilm_group", "groups": 8, "key_group_size": 16})
    'ILM group norm, 8 groups, key groups of 16'
    >>> words([{"name": "mode", "modes": 4}, {"name": "batch"}])
    'first norm: mode norm, 4 modes; others: batch norm'
    >>> words(None)
    'the model as it is'
    """
    if spec is None:
        return "the model as it is"
    if isinstance(spec, dict) and "stages" in spec:
        return "; ".join(f"stage {i}: {words(s)}" for i, s in enumerate(spec["stages"], start=1))
    if isinstance(spec, (list, tuple)):
        return f"first norm: {words(spec[0])}; others: {words(spec[1])}"
    if spec is None:
        return "no norm"
    if isinstance(spec, str):
        spec = {"name": spec}
    spec = dict(spec)
    name = spec.pop("name")
    if name == "consistent":
        return f"consistent ({words(spec['norm'])}) with {spec['branches']} branches"
    # The name alone where nobody has registered it: a report outlives the module of a norm.
    row = row_of(name) if is_known(name) else NormRow("", name)
    phrases = {**_PHRASES, **{one.name: one.phrase for one in row.arguments if one.phrase}}
    said = [row.words]
    said += [phrases.get(key, f"{key} {{}}").format(_shown(v)) for key, v in spec.items()]
    return ", ".join(said)


def besides(values):
    """The hyperparameters besides the norm in words, those that a training has.

    >>> from search.space import besides
    >>> besides({"norm": "mode", "learning_rate": 0.01, "frozen_epochs": 2})
    ['learning_rate 0.01', '2 frozen epochs']
    """
    said = [f"{k} {values[k]:g}" for k in ("learning_rate", "batch_size") if values.get(k)]
    frozen = values.get("frozen_epochs")
    return [*said, *([formats.count(frozen, "frozen epoch")] if frozen else [])]


def _shown(value):
    if isinstance(value, (list, tuple)):
        return "-".join(_shown(one) for one in value)
    return {"True": "on", "False": "off", "None": "linear"}.get(str(value), str(value))
