"""CuratedSchema: TFX ImportSchemaGen whose cache notices an edited schema file."""
