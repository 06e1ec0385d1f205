"""ModelSelector: a dearer model only if it is shown to be better, otherwise the cheaper one."""
