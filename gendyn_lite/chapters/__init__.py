"""The chapters of the book, one folder each, and what they share. Nothing outside this folder knows one by name."""
