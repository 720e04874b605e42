"""Ask a trained model: chat sessions and relevance heat maps."""
