"""Numbers as people read them."""

import math
import re

NONE = "–"
THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"

# What the warning of a row says where only the evaluation was unfair.
LAGS = "the moving statistics lag behind"


def number(value, digits: int = 4) -> str:
    """A number with some significant digits and separated thousands.

    >>> number(0.000123456), number(1234567), number(None)
    ('0.0001235', '1,234,567', '–')
    """
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: f"{MINUS}∞"}.get(value, "not a number")
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        text = f"{int(value):,}"
    elif abs(value) >= 10**digits:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.{digits}g}"
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def error(value, percent: bool, sign: bool = False) -> str:
    """An error, as a percentage where it is a share of the examples.

    >>> error(0.02313, percent=True), error(0.5, percent=False), error(-0.01, True, sign=True)
    ('2.31\u202f%', '0.5', '−1.00\u202f%')
    """
    if value is None or not math.isfinite(value):
        return number(value)
    text = f"{abs(value) * 100:.2f}{THIN}%" if percent else number(abs(value))
    if value < 0:
        return MINUS + text
    return f"+{text}" if sign else text


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the examples, by its name.

    >>> is_share("val_error"), is_share("val_loss"), is_share("val_mean_squared_error")
    (True, False, False)
    """
    apart = re.search("squared|absolute|percentage|logarithmic", metric)
    return not apart and bool(re.search("error|acc(uracy)?($|_)", metric))


def score(value, metric: str, percent: bool) -> str:
    """A score, as a percentage where the metric is a share of the examples.

    >>> score(0.02, "val_error", percent=True), score(0.02, "val_loss", percent=True)
    ('2.00\u202f%', '0.02')
    """
    return error(value, percent=percent and is_share(metric))


def points(value, percent: bool, sign: bool = False) -> str:
    """A difference of two errors: percentage points where they are percentages.

    >>> points(0.0074, percent=True), points(0.0074, percent=True, sign=True)
    ('0.74 points', '+0.74 points')
    """
    return error(value, percent, sign).replace(f"{THIN}%", " points")


def p_value(value) -> str:
    """A p-value, with its equals sign or its less-than sign.

    >>> p_value(0.0312), p_value(1e-7), p_value(None)
    ('= 0.031', '< 0.001', '–')
    """
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def seconds(value) -> str:
    """A span of time in the unit that suits it.

    >>> seconds(0.0123), seconds(12.3), seconds(75), seconds(7384)
    ('12.3 ms', '12.3 s', '1 min 15 s', '2 h 3 min')
    """
    if value is None:
        return NONE
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 59.95:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(amount: int, what: str) -> str:
    """A count with its noun.

    >>> count(1, "seed"), count(1200, "trial")
    ('1 seed', '1,200 trials')
    """
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"


def capital(words: str) -> str:
    """Words that begin a sentence.

    >>> capital("test R2 score")
    'Test R2 score'
    """
    return words[:1].upper() + words[1:]
