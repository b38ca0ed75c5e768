"""How numbers are written, on the terminal and on pages: to three decimals, and a dash where there is none."""

DASH = "\N{EN DASH}"


def metric(value: float | None) -> str:
    """An AUC or another metric.

    Examples:
        >>> metric(0.76543), metric(None)
        ('0.765', '–')
    """
    return DASH if value is None else f"{value:.3f}"


def count(value: int) -> str:
    """A number of rows, users or items.

    Examples:
        >>> count(1234)
        '1,234'
    """
    return f"{value:,}"


def difference(value: float) -> str:
    """A difference of two metrics, with its sign.

    Examples:
        >>> difference(0.0123)
        '+0.012'
    """
    return f"{value:+.3f}"


def interval(low: float | None, high: float | None, sign: str = "") -> str:
    """An interval; with sign "+", of a difference.

    Examples:
        >>> interval(0.74, 0.78), interval(-0.003, 0.005, "+"), interval(None, None)
        ('0.740 to 0.780', '-0.003 to +0.005', '–')
    """
    return DASH if low is None or high is None else f"{low:{sign}.3f} to {high:{sign}.3f}"


def estimate(value: float, low: float | None, high: float | None) -> str:
    r"""A value above its interval, for a narrow column.

    Examples:
        >>> estimate(0.76, 0.74, 0.78), estimate(0.76, None, None)
        ('0.760\n0.740-0.780', '0.760')
    """
    return metric(value) if low is None else f"{value:.3f}\n{low:.3f}-{high:.3f}"


def level(confidence: float) -> str:
    """The level of an interval.

    Examples:
        >>> level(0.995)
        '99.5%'
    """
    return f"{100 * confidence:g}%"


def p_value(value: float) -> str:
    """A p-value.

    Examples:
        >>> p_value(0.0421), p_value(0.00004)
        ('0.042', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
