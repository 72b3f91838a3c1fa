"""The whole shop against a small model of it: real services and databases, processes that die at any await."""
