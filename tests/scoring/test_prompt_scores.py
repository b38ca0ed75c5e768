from dataclasses import replace

import numpy as np

from few_rows import random_prompts
from reclora_kedro.scoring.prompt_scores import score_table


def test_a_table_of_scores_has_a_line_per_prompt():
    prompts = replace(random_prompts(2), rows=np.array([7, 3]), labels=np.array([1, 0]))
    table = score_table(prompts, np.array([0.25, 0.5]))
    assert table.columns == ["row", "label", "score"]
    assert table.rows() == [(7, 1, 0.25), (3, 0, 0.5)]
