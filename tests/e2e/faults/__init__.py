"""Real faults in a lab cloud under load: each is one test that ends with the leak check."""
