"""What the first steps end with on the terminal; light to import, as these need no deep learning."""

from rich.table import Table

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.records import Records
from reclora_kedro.terminal import text_table


def lens_table(metrics: Records) -> Table:
    first = metrics[0]
    interval = f"{formats.level(first['confidence'])} interval"
    return text_table(
        f"All test rows: {first['rows']:,} of {first['users']:,} users, {first['positives']:,} of them likes",
        metrics,
        {"model": (str, "model")},
        {
            "AUC": (formats.metric, "auc"),
            interval: (formats.interval, "auc_low", "auc_high"),
            f"GAUC of\n{first['gauc_users']:,} users": (formats.estimate, "gauc", "gauc_low", "gauc_high"),
            "AUC of items\nnever trained on": (formats.metric, "auc_cold"),
        },
    )
