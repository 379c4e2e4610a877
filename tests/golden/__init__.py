"""What the shipped layers emit, as hashes and one text, and how to renew them."""
