"""The types that every other package uses: records, releases, games, components. NumPy only."""
