"""Everything that is stored: records, one reader and writer, one freshness rule."""
