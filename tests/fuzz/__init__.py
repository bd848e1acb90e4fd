"""Random and mutated inputs of every kind that the sandbox takes: each comes to an end of the guest's own."""
