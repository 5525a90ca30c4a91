"""Chapter 4: does a step on one example help another?"""
