"""What kedro-viz shows of records, prompts and the template."""

import polars as pl
import pytest

from reclora_kedro.datasets.previews import PromptsDataset, RecordsDataset


def test_records_are_a_table_of_the_first_ones(tmp_path):
    dataset = RecordsDataset(filepath=f"{tmp_path}/records.json")
    dataset.save([{"model": name, "auc": 0.5} for name in ("lens", "llm", "reclora")])
    shown = dataset.preview(nrows=2)
    assert (shown["columns"], shown["data"]) == (["model", "auc"], [["lens", 0.5], ["llm", 0.5]])


@pytest.mark.parametrize(
    ("prompts", "shown"), [(["Like <b>Heat</b>?\nYes", "second"], "Like &lt;b&gt;Heat&lt;/b&gt;?\nYes"), ([], "")]
)
def test_prompts_are_the_first_ones_text(tmp_path, prompts, shown):
    dataset = PromptsDataset(filepath=f"{tmp_path}/prompts.parquet", file_format="parquet")
    dataset.save(pl.DataFrame({"prompt": prompts}, schema={"prompt": pl.String}))
    assert dataset.preview() == f"<pre>{shown}</pre>"
