"""Sweeps: many trainings that differ in a few options, as runs of their own, and the table that compares them."""
