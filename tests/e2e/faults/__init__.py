"""Real faults in a running lab cloud, under load: each is one test that ends with the leak check."""
