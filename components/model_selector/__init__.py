"""ModelSelector: the fine-tuned model only if it is shown to be better, otherwise the cheaper one."""
