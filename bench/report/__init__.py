"""From stored records to pages."""
