"""Which lens? The same networks under all five, and what predicts how well they generalize."""
