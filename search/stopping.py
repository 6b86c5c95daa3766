"""When a trial is stopped early: a rule over the epochs of all trials.

A rule has `record(trial, epoch, value)` and `reason(trial, epoch, value)`. Epochs count from 1, and
values come in the order of the epochs. `python -m benchmarks stopping` measures the rules on
planted curves.
"""

import math
import statistics

from search.errors import BadInput, unknown
from search.objective import Objective

# Of the careful rule; each with what it is for, by `python -m benchmarks stopping`.
# A trial may gain this many times what any other trial gained from the same epoch on.
GAIN_FACTOR = 2.0
# It may go on falling as fast as it did over any of these parts of the training.
WINDOWS = (0.1, 0.2)
# Until this part of the training, a trial that gained less than this part of what others gain in
# all counts as one that has not begun to learn.
BEGIN_BY, BEGUN = 0.6, 0.5
# Two values that differ by less than so many deviations of the noise count as the same.
NOISE_FACTOR = 2.0
# The median of the distance of two normal values with deviation 1.
MEDIAN_DISTANCE = 0.954
# Of the bold rule: how much of its last gain a trial is credited with.
GAIN_SHARE = 0.5


class CarefulRule:
    """Stops a trial that can no longer become the best, as far as the other trials show.

    The trials that were trained to their end show what is still possible. From a quarter of the
    epochs on, the best value that a trial has reached is credited with the largest of

    - twice the largest gain that any of those trials made from this epoch to its end, which allows
      for a drop of the learning rate and for plateaus that end;
    - what it would gain by falling on as fast as it did lately, which allows for trials of their
      own pace;

    and with two deviations of the noise between epochs. If that does not reach the best final
    value so far, the trial is stopped, unless it has not begun to learn: such a trial has until
    60 % of the epochs.

    Args:
        direction: `"min"` or `"max"`.
        epochs: of a full trial.
        warmup: the first epoch, counted from 1, after which a trial may be stopped; None is a
            quarter of the epochs.
        least: how many other trials must have been trained to their end.

    Example:
        >>> from search.stopping import CarefulRule
        >>> rule = CarefulRule("min", epochs=6, least=1)
        >>> for epoch, value in enumerate([0.9, 0.3, 0.2, 0.2, 0.2, 0.2], start=1):
        ...     assert rule.reason(0, epoch, value) is None
        >>> reasons = [rule.reason(1, epoch + 1, [0.9, 0.5][epoch > 0]) for epoch in range(6)]
        >>> next(filter(None, reasons))
        'at epoch 4 it would end at 0.5 at best, and the best so far is 0.2'
    """

    def __init__(self, direction, epochs, warmup=None, least=4):
        self.sign = Objective("", direction).sign
        self.epochs = epochs
        self.warmup = max(1, math.ceil(epochs / 4)) if warmup is None else warmup
        self.least = least
        self._values: dict[int, dict[int, float]] = {}
        # The best value of each trial up to each epoch.
        self._best: dict[int, dict[int, float]] = {}
        # Of the trials that were trained to their end.
        self._finals: dict[int, float] = {}
        self._distances: list[float] = []
        self._noise = 0.0

    def record(self, trial, epoch, value):
        """Note a value; also how the rule is brought back to where it was."""
        value = self.sign * value
        best = self._best.setdefault(trial, {})
        best[epoch] = min([value, *list(best.values())[-1:]])
        curve = self._values.setdefault(trial, {})
        curve[epoch] = value
        if epoch == self.epochs:
            self._finals[trial] = value
            self._measure_noise(curve)

    def reason(self, trial, epoch, value):
        """Why a trial is to stop after this epoch, or None to go on."""
        self.record(trial, epoch, value)
        if epoch < self.warmup or epoch >= self.epochs or len(self._finals) < self.least:
            return None
        noise = NOISE_FACTOR * self._noise
        gain = max(GAIN_FACTOR * self._largest_gain(epoch), self._pace(trial, epoch, noise))
        reached = self._best[trial][epoch] - gain - noise
        best = min(self._finals.values())
        if reached <= best or not self._has_begun(trial, epoch):
            return None
        return (
            f"at epoch {epoch} it would end at {self.sign * reached:.4g} at best, and the best so "
            f"far is {self.sign * best:.4g}"
        )

    def _measure_noise(self, curve):
        """The deviation of a value from its curve, from neighbouring epochs near the end."""
        first = max(2, self.epochs - self.epochs // 3)
        self._distances += [
            abs(curve[epoch] - curve[epoch - 1])
            for epoch in range(first, self.epochs + 1)
            if epoch in curve and epoch - 1 in curve
        ]
        if self._distances:
            self._noise = statistics.median(self._distances) / MEDIAN_DISTANCE

    def _largest_gain(self, epoch):
        """The most that one of the others gained from this epoch to its end."""
        gains = [
            self._best[other][epoch] - final
            for other, final in self._finals.items()
            if epoch in self._best[other]
        ]
        # Where nobody is known to have passed this epoch, anything may be gained.
        return max(0.0, *gains) if gains else math.inf

    def _pace(self, trial, epoch, noise):
        """What a trial gains until its end if it falls on as it did lately."""
        curve = self._best[trial]
        first = min(curve)
        # Over half of the epochs noise hardly counts.
        spans = [(epoch - epoch // 2, 0.0)]
        spans += [(max(1, round(part * self.epochs)), noise) for part in WINDOWS]
        slopes = []
        for span, uncertain in spans:
            start = max(first, epoch - span)
            if start < epoch and start in curve:
                slopes.append((curve[start] - curve[epoch] - uncertain) / (epoch - start))
        return max([0.0, *slopes]) * (self.epochs - epoch)

    def _has_begun(self, trial, epoch):
        """Whether a trial has learned something, or has had the time to."""
        if epoch > BEGIN_BY * self.epochs:
            return True
        typical = statistics.median(
            next(iter(self._best[other].values())) - final for other, final in self._finals.items()
        )
        curve = self._best[trial]
        return next(iter(curve.values())) - curve[epoch] >= BEGUN * typical


class MedianRule:
    """Stops a trial that is worse than the median of the others and does not catch up.

    At each epoch from `warmup` on, the best value that a trial has reached, less half of what it
    gained in the second half of its epochs, is compared with the median of the best values that
    the others had reached by that epoch. Trials that were stopped earlier are not among them, so
    the test gets harder from epoch to epoch. A trial that leads is never stopped.

    It saves about a third of the epochs. Where curves cross, because some trials start slowly or
    the learning rate drops late, it stops the best trial more often than not.

    Args:
        direction: `"min"` or `"max"`.
        epochs: of a full trial.
        warmup: the first epoch, counted from 1, after which a trial may be stopped; None is a
            quarter of the epochs.
        least: how many others must have got as far.

    Example:
        >>> from search.stopping import MedianRule
        >>> rule = MedianRule("min", epochs=2, warmup=1, least=1)
        >>> rule.reason(trial=0, epoch=1, value=0.1) is None
        True
        >>> rule.reason(trial=1, epoch=1, value=0.5)
        'at epoch 1 its best, 0.5, is worse than the median of the others, 0.1'
    """

    def __init__(self, direction, epochs, warmup=None, least=4):
        self.sign = Objective("", direction).sign
        self.epochs = epochs
        self.warmup = max(1, epochs // 4) if warmup is None else warmup
        self.least = least
        self._best: dict[int, dict[int, float]] = {}

    def record(self, trial, epoch, value):
        """Note a value; also how the rule is brought back to where it was."""
        curve = self._best.setdefault(trial, {})
        so_far = min(curve.values(), default=self.sign * value)
        curve[epoch] = min(so_far, self.sign * value)

    def reason(self, trial, epoch, value):
        """Why a trial is to stop after this epoch, or None to go on."""
        self.record(trial, epoch, value)
        others = [c[epoch] for other, c in self._best.items() if other != trial and epoch in c]
        if epoch < self.warmup or epoch >= self.epochs or len(others) < self.least:
            return None
        median = statistics.median(others)
        curve = self._best[trial]
        best = curve[epoch]
        gain = curve.get(max(1, epoch // 2), best) - best
        if best - GAIN_SHARE * gain <= median:
            return None
        return (
            f"at epoch {epoch} its best, {self.sign * best:.4g}, is worse than the median of the "
            f"others, {self.sign * median:.4g}"
        )


RULES = {"careful": CarefulRule, "bold": MedianRule}
WORDS = ("off", *RULES)


def named(word):
    """The word for a way of stopping early; True is "careful" and False "off".

    >>> from search.stopping import named
    >>> named(True), named("bold")
    ('careful', 'bold')
    """
    if isinstance(word, bool):
        return "careful" if word else "off"
    if hasattr(word, "reason"):
        return next((n for n, rule in RULES.items() if type(word) is rule), type(word).__name__)
    if not isinstance(word, str):
        raise BadInput(f"early_stopping={word!r}. Needed: {', '.join(WORDS)}, or a rule.")
    if word not in WORDS:
        raise unknown("early_stopping", word, WORDS)
    return word


def make(word, direction, epochs):
    """The rule that `early_stopping` names, or None where nothing is to be stopped.

    Args:
        word: one of `WORDS`, True, False, or a rule.
        direction: `"min"` or `"max"`.
        epochs: of a full trial.
    """
    name = named(word)
    if hasattr(word, "reason"):
        return word
    return None if name == "off" else RULES[name](direction, epochs)
