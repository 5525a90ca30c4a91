"""The chapters of the book, one folder each, and the code they share. No code outside this folder names a chapter."""
