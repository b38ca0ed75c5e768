"""A small shop: orders of customers, most of them of coffee or of garden things, and its products."""

import numpy as np
import polars as pl

CUSTOMERS, PRODUCTS, ORDERS = 60, 40, 14
COLORS = ("red", "blue", "green", "white")
THINGS = {
    "coffee": ("beans", "filter", "grinder", "mug", "kettle"),
    "garden": ("spade", "hose", "seeds", "gloves", "pot"),
}


def shop() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return orders (customer, sku, bought_at) and products (sku, name, category)."""
    random, orders = np.random.default_rng(0), []
    names = [(f"{color} {thing}", kind) for kind, things in THINGS.items() for thing in things for color in COLORS]
    products = pl.DataFrame(
        [(f"sku-{i:02}", *name) for i, name in enumerate(names)], ["sku", "name", "category"], orient="row"
    )
    for customer in range(CUSTOMERS):
        odds = np.where(np.arange(PRODUCTS) // (PRODUCTS // 2) == customer % 2, 6.0, 1.0)
        second = 1_600_000_000 + int(random.integers(5_000_000))
        for product in random.choice(PRODUCTS, ORDERS, replace=False, p=odds / odds.sum()):
            second += int(random.integers(1_000, 200_000))
            orders.append((f"K{customer}", f"sku-{product:02}", second))
    log = pl.DataFrame(orders, ["customer", "sku", "bought_at"], orient="row")
    return log.with_columns(pl.from_epoch("bought_at")), products
