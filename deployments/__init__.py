"""What Ray Serve runs: one deployment per model family, the model store and the controller LLM's engines."""
