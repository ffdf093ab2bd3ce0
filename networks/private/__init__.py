"""Private networks: what they are made of, and what each host is told about them."""
