"""Tables of prepared base LLMs for the terminal."""

from rich.console import Group

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.metrics import AUC
from reclora_kedro.evaluation.records import Records
from reclora_kedro.terminal import text_table


def base_model_tables(base_model_report: Records) -> Group:
    """A base LLM as it came and after each step: its size and speed, its AUC, and what stages of pretraining left."""
    step, level = {"step": (str, "step")}, formats.level(base_model_report[0]["confidence"])
    size = {
        "parameters": (formats.count, "parameters"),
        "seconds": ("{:.0f}".format, "seconds"),
        "perplexity": ("{:.2f}".format, "perplexity"),
        "ms per row": ("{:.1f}".format, "milliseconds_per_row"),
    }
    auc = {
        "AUC": (AUC.estimate, "auc", "auc_low", "auc_high"),
        f"less that of {base_model_report[0]['step']}": (
            formats.signed_estimate,
            "auc_difference",
            "difference_low",
            "difference_high",
        ),
    }
    title = f"AUC on validation rows ({level} intervals)"
    tables = [text_table("Base LLM", base_model_report, step, size), text_table(title, base_model_report, step, auc)]
    if stages := [stage for record in base_model_report for stage in record["account"].get("stages", ())]:
        read = {name: (formats.count, name) for name in ("texts", "tokens")}
        left = {"perplexity": ("{:.2f}".format, "perplexity")}
        if "general_perplexity" in stages[0]:
            left["of general texts"] = ("{:.2f}".format, "general_perplexity")
        tables.append(text_table("Stages of pretraining", stages, {"stage": (str, "stage")}, read | left))
    return Group(*tables)
