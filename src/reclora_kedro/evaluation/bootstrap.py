"""Cluster bootstrap over users, and estimates with Student's intervals and p-values.

Rows of one user are not independent, so users are drawn with all their rows (Field & Welsh, "Bootstrapping clustered
data", Journal of the Royal Statistical Society B, 2007). All models share the draws, so differences are paired.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Real, Seed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]

CHUNK_WEIGHTS = 2**22  # weights of rows held at once: 32 MiB per array


class Bootstrap(Block):
    """Settings of intervals and p-values."""

    samples: ClassVar[int] = 2000  # draws, by which a standard error is known to ±3% (95%)

    confidence: Real = Field(gt=0.5, lt=1)
    seed: Seed

    def draw_users(self, users: int, rows: int) -> Iterator[Floats]:
        """Yield how often each user is drawn, shape (users, draws), `samples` draws in all.

        Each draw takes `users` users with replacement; `rows`, the rows to be weighted, bounds the draws per chunk.
        """
        random = np.random.default_rng(self.seed)
        per_chunk = max(1, CHUNK_WEIGHTS // rows)
        for start in range(0, self.samples, per_chunk):
            draws = min(per_chunk, self.samples - start)
            drawn = random.integers(users, size=(draws, users)) + users * np.arange(draws)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=draws * users).reshape(draws, users)
            yield np.ascontiguousarray(counts.T, dtype=np.float64)

    def means(self, values: Floats, weights: Floats | None = None) -> "Estimate":
        """Return means over at least two users: values (users, columns), optional weights (users,), to (columns,).

        Examples:
            >>> clicks = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
            >>> means = Bootstrap(confidence=0.95, seed=0).means(clicks)
            >>> means.value.round(3), means.standard_error.round(2)
            (array([0.667, 1.   ]), array([0.33, 0.  ]))
        """
        users = len(values)
        weights = np.ones(users) if weights is None else weights
        sums = np.column_stack([values * weights[:, None], weights]).T
        replicates = np.concatenate([sums @ counts for counts in self.draw_users(users, users)], axis=1)
        return Estimate.from_draws(np.average(values, 0, weights), replicates[:-1] / replicates[-1], users)


class Estimate(NamedTuple):
    """Values, their standard errors of the same shape, and the number of independent units (users or seeds).

    Student's distribution with `units - 1` degrees of freedom: with few units, normal intervals are too narrow, and
    quantile intervals would not agree with the p-values.
    """

    value: Floats
    standard_error: Floats
    units: int

    @classmethod
    def from_draws(cls, value: Floats, replicates: Floats, users: int) -> Self:
        """Estimate from values on all users (at least two), shape (n,), and on R draws of users, shape (n, R)."""
        # Draws come from the sample, whose variance is (users - 1) / users of the population's.
        unbiased = np.sqrt(users / (users - 1))
        return cls(value, replicates.std(axis=1, ddof=1) * unbiased, users)

    @classmethod
    def from_sample(cls, values: Floats) -> Self:
        """Estimate the mean of at least two independent values, such as one per seed: (units,) to ().

        Examples:
            >>> mean = Estimate.from_sample(np.array([0.70, 0.72, 0.74]))
            >>> round(float(mean.value), 3), round(float(mean.standard_error), 4), mean.units
            (0.72, 0.0115, 3)
        """
        return cls(values.mean(), values.std(ddof=1) / np.sqrt(len(values)), len(values))

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Return the lower and upper ends of Student's interval; confidence is in (0, 1)."""
        from scipy.stats import t as student_t

        half_width = student_t.ppf((1 + confidence) / 2, self.units - 1) * self.standard_error
        return self.value - half_width, self.value + half_width

    def records(self, name: str, confidence: float) -> list[dict[str, float]]:
        """Return each value by a name, with the ends of its interval within 0 and 1 as ``…_low`` and ``…_high``."""
        low, high = (end.clip(0, 1) for end in self.interval(confidence))
        columns = zip(self.value.tolist(), low.tolist(), high.tolist(), strict=True)
        return [{name: value, f"{name}_low": below, f"{name}_high": above} for value, below, above in columns]

    def p_value(self) -> Floats:
        """Return the two-sided p-value of the null hypothesis that the value is zero."""
        from scipy.stats import t as student_t

        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0: two models that rank the rows alike
            ratio = np.abs(self.value) / self.standard_error
        return np.where(self.value == 0, 1.0, 2 * student_t.sf(ratio, self.units - 1))


def holm(p_values: Floats) -> Floats:
    """Adjust p-values for multiple tests, controlling the family-wise error rate (Holm, Scand. J. Statistics, 1979).

    Examples:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p_values)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return adjusted.clip(max=1)
