"""The merging pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.merging import nodes
from reclora_kedro.pipelines.names import merged_variants, merging_history
from reclora_kedro.pipelines.questions import prompts_pipeline


def create_pipeline(**kwargs: object) -> Pipeline:
    """Variants' adapters or users' exported LoRAs in; one LoRA by several ways, and a table of their scores."""
    variants, history = merged_variants(), merging_history()
    shared = {
        "base_llm": "base_llm",
        "prompts": f"merging.{history}.prompts",
        "config": "params:merging",
        "scoring": "params:scoring",
    }
    of_users = {"user_adapters": "user_adapters", "log": "log"}
    steps = Pipeline(
        [
            Node(
                nodes.draw_calibration if variants else nodes.draw_calibration_of_users,
                inputs=["log", "params:merging", *([] if variants else ["params:export"])],
                outputs="merging_questions",
                name="draw_calibration",
            ),
            Node(
                nodes.merge_variants if variants else nodes.merge_users,
                inputs=shared | ({variant: f"{variant}.adapter" for variant in variants} or of_users),
                outputs=["merged_loras", "merging_log"],
                name="merge_loras",
                tags=["gpu"],
            ),
            Node(
                nodes.choose_merged,
                inputs=["base_llm", "merged_loras", "params:merging"],
                outputs="merged.adapter",
                name="choose_merged",
                tags=["gpu"],
            ),
            Node(
                nodes.score_merged,
                inputs=[
                    "base_llm",
                    "merged_loras",
                    f"test.{history}.prompts",
                    "log",
                    "scores",
                    "params:merging",
                    "params:prompt",
                    "params:scoring",
                    "params:bootstrap",
                ],
                outputs=["merging_scores", "merging_report"],
                name="score_merged",
                tags=["gpu"],
            ),
            Node(nodes.show_merging, inputs="merging_report", outputs=None, name="show_merging"),
        ],
        namespace="merging",
        prefix_datasets_with_namespace=False,
    )
    return prompts_pipeline("merging", [history]) + steps
