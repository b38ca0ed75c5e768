r"""Number formats of the terminal and the HTML pages: three decimals, and a dash for a missing value.

Examples:
    >>> metric(0.76543), metric(None), count(1234), difference(0.0123), level(0.995)
    ('0.765', '–', '1,234', '+0.012', '99.5%')
    >>> interval(0.74, 0.78), interval(None, None), signed_interval(-0.003, 0.005)
    ('0.740 to 0.780', '–', '-0.003 to +0.005')
    >>> signed_estimate(0.01, -0.003, 0.023), signed_estimate(None, None, None)
    ('+0.010\n-0.003 to +0.023', '–')
    >>> p_value(0.0421), p_value(0.00004)
    ('0.042', '< 0.001')
"""

DASH = "\N{EN DASH}"


def metric(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def count(value: int) -> str:
    return f"{value:,}"


def difference(value: float) -> str:
    return f"{value:+.3f}"


def interval(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"{low:.3f} to {high:.3f}"


def signed_interval(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}"


def signed_estimate(value: float | None, low: float, high: float) -> str:
    return DASH if value is None else f"{difference(value)}\n{signed_interval(low, high)}"


def level(confidence: float) -> str:
    return f"{100 * confidence:g}%"


def p_value(value: float) -> str:
    """Format a p-value; small ones are "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
