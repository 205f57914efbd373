"""What keeps models from being merged, found from headers, configs, tokenizers and a small sample of their values."""
