"""Tables of the black box."""

import re

from reclora_extras.black_box.nodes import black_box_tables
from terminal import printed

RESULT = {
    "model": "black_box", "rows": 300, "positives": 160, "users": 90, "auc": 0.76, "auc_low": 0.74, "auc_high": 0.78,
    "confidence": 0.95, "gauc": 0.701, "gauc_low": 0.65, "gauc_high": 0.74, "gauc_users": 70,
    "log_loss": 0.58, "accuracy": 0.7,
}  # fmt: skip
COMPARISON = {
    "model_a": "black_box", "model_b": "lens",
    "auc_difference": -0.04, "low": -0.06, "high": -0.02, "p_value": 1e-5, "p_adjusted": 2e-5,
}  # fmt: skip


def test_what_a_black_box_cost_fits_80_columns():
    usage = dict.fromkeys(("requests", "calls", "retries", "by_text", "unreadable"), 12_345)
    usage |= {"model": "black_box_without_hints", "prompt_tokens": 7_654_321, "completion_tokens": 12_345, "price": 8.1}
    trial = usage | {"trial": 1, "template": "reasons", "auc": 0.7}
    text = printed(black_box_tables([RESULT, RESULT | {"model": "lens"}], [COMPARISON], [trial], [usage]))
    assert "…" not in text
    assert re.search(r"black_box_\w+ +│ +12,345 │.* 7,654,321 │ +8.10 │", text)
