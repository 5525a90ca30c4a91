"""Which lens? All five measures on the same networks, and how well each predicts generalization."""
