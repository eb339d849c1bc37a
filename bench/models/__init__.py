"""What several defenses and attacks share."""
