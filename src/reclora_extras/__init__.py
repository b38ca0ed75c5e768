"""Published methods as options of RecLoRA for Kedro, one folder each."""
