"""Looking at machines: explanations, walks, stepping."""
