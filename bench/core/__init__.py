"""The nouns that every other package speaks of: records, releases, games, components. NumPy only."""
