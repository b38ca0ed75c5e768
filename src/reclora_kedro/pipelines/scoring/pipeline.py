"""The scoring pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.baselines.registry import BASELINES, inputs
from reclora_kedro.evaluation.scores import collect_scores
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import SETTINGS, of_variant, prompts_pipeline
from reclora_kedro.pipelines.scoring import nodes
from reclora_kedro.pipelines.wiring import named, node, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Score the test rows by every variant, the untrained LLM (first history) and the baselines without an LLM."""
    prompts = prompts_pipeline("test", names, names.short_histories)
    others, read_untrained = ("lens", *names.baselines, "untrained"), f"test.{names.short_histories[0]}.prompts"
    settings = ("params:scoring", "params:engine")
    shared = step(
        "scoring",
        node(
            nodes.score_untrained,
            ["base_llm", read_untrained, "untrained.finished_shards", "params:prompt", *settings],
            ["untrained_scores", "untrained.permuted_scores"],
            tags=["gpu"],
        ),
        *(
            node(
                BASELINES.load(name).scores,
                inputs(name, read_untrained),
                f"{name}_scores",
                name=f"score_{name}",
                tags=["evaluation"],
            )
            for name in names.baselines
        ),
        node(
            nodes.permute_lens_inputs,
            ["lens", "log", "test_questions", "params:scoring"],
            "lens_permuted_scores",
            tags=["evaluation"],
        ),
        node(
            collect_scores,
            named("test_questions")
            | {name: f"{name}_scores" for name in others}
            | {variant: f"{variant}.scores" for variant in names.variants},
            "scores",
        ),
    )
    score = node(
        nodes.score_adapter,
        ["base_llm", "adapter", "prompts", "test_states", "finished_shards", *SETTINGS, *settings],
        ["scores", "permuted_scores"],
        tags=["gpu"],
    )
    variants = (of_variant(variant, score, f"test.{history}.prompts") for variant, history in names.variants.items())
    return sum(variants, start=prompts + shared)
