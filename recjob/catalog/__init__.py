"""What there is: items, outfits, users, positives, pictures."""
