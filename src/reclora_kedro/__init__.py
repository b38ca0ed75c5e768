"""RecLoRA for Kedro: a recommender from a large language model with personalized low-rank adaptation."""
