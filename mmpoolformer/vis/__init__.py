"""Arrays in, pictures out; nothing here knows a model."""
