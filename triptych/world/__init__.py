"""The embedded world: procedural pictures, questions and documents with an exact oracle."""
