"""CuratedSchema: TFX ImportSchemaGen with a cache that goes by what is in the schema."""
