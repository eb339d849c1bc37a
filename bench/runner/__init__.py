"""From a request to stored records."""
