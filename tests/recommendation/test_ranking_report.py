import re

from ranked import beyond_accuracy_records, ranking_records
from reclora_kedro.recommendation.ranking_report import finding_verdict, methods_table, ranking_tables
from terminal import printed


def test_ranking_metrics_fit_a_narrow_terminal_however_long_the_names_are():
    models = ("neighbours_lens", "retriever_lens")
    records, beyond_accuracy = ranking_records(models), beyond_accuracy_records(models)
    shown = printed(
        ranking_tables(records, beyond_accuracy, {"retriever_lens": "the lens, of its best", "lens": "absent"})
    )
    assert "│ retriever_lens  │ 0.457 │  0.457 │  0.457 │   12,346 │ 45.7% │  0.457 │" in shown
    assert shown.count("5,354 likes of 1,553 users, each among 1,563 items (95% intervals)") == 2
    assert "│ retriever_lens  │ 0.136 │   0.086 │ 0.136 │   0.086 │" in shown
    assert "NDCG@20" in shown
    assert "0.123-0.123" in shown
    assert shown.count("│ neighbours_lens │") == 7
    assert shown.count("│ retriever_lens │") == 2
    assert shown.count("│ retriever_lens  │") == 7
    assert " ".join(shown.split()).count("1,234 likes where the user's event before the like is of the same time") == 1
    assert shown.endswith("retriever_lens: the lens, of its best\n")
    assert "│     5.2% │     0.1 │" in shown
    assert "│ retriever_lens  │       0.123 │     0.444 │" in shown
    assert shown.count("from neighbours_lens") == 2
    assert "│ retriever_lens │     +0.012 │ -0.001 to +0.026 │      0.071 │" in shown


def test_methods_are_shown_best_first_with_the_chosen_one_marked():
    names = ("popularity", "linear", "linear_lens", "fusion_lens")
    figures = {"k": 10, "rows": 300, "candidates": 99.0, "confidence": 0.95, "hit_rate_low": 0.1, "hit_rate_high": 0.3}
    metrics = [
        figures | {"model": name, "ndcg": place / 10, "hit_rate": place / 10} for place, name in enumerate(names)
    ]
    text = printed(methods_table(metrics, "fusion_lens", {"linear": "a linear model"}), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert re.findall(r"^│ (\w+)", text, re.MULTILINE) == ["fusion_lens", "linear", "popularity"]
    assert re.search(r"fusion_lens .*chosen", text)
    assert "a linear model" in text
    verdict = finding_verdict(metrics, "fusion_lens")
    assert verdict == "HR@10 of fusion_lens: 0.300; of popularity: 0.000."
