"""What several test files need: a running mesh of their own."""
