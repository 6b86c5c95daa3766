"""The recommended norm as code to paste."""

import pprint
from collections.abc import Mapping

from search import answer as answers
from search import formats


def code(answer: answers.Answer) -> str:
    """What to write to use the norm that an answer recommends; empty where it has no spec.

    >>> from search.answer import conclude
    >>> trial = {"trial": 0, "spec": {"name": "group", "groups": 4}, "words": "group norm"}
    >>> trial |= {"values": {"learning_rate": 0.01}, "status": "completed", "score": 0.1}
    >>> trial |= {"step_seconds": 0.1, "parameters": 10}
    >>> print(code(conclude([trial], [], {})))
    import kerasnorm
    <BLANKLINE>
    norm = {'name': 'group', 'groups': 4}  # or json.load(open("best_norm.json"))
    model = kerasnorm.replace_norms(model, norm)  # in a model that you have
    layer = kerasnorm.get(norm)  # in a model that you write
    # The search trained it with learning_rate 0.01.
    """
    spec = answer.best_spec
    if spec is None:
        return ""
    literal = pprint.pformat(spec, width=70, sort_dicts=False)
    loaded = 'json.load(open("best_norm.json"))'
    norm = f"norm = {literal}  # or {loaded}"
    if "\n" in literal:
        norm = f"# Or norm = {loaded}\nnorm = {literal.replace(chr(10), chr(10) + ' ' * 7)}"
    lines = [
        "import kerasnorm",
        "",
        norm,
        "model = kerasnorm.replace_norms(model, norm)  # in a model that you have",
    ]
    if isinstance(spec, str) or (isinstance(spec, Mapping) and "name" in spec):
        lines.append("layer = kerasnorm.get(norm)  # in a model that you write")
    else:
        lines.append(
            "# The architectures of kerasnorm.models take it too: norm=norm. It names several "
            "norms."
        )
    chosen = [
        f"{name} {formats.number(answer.best_values[name])}"
        for name in ("learning_rate", "batch_size", "frozen_epochs")
        if answer.best_values.get(name) is not None
    ]
    if chosen:
        lines.append(f"# The search trained it with {' and '.join(chosen)}.")
    return "\n".join(lines)
