"""What a model is worth: metrics, each with its interval."""
