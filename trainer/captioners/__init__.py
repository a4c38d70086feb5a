"""Captions for pictures: WD14 taggers, plain text, and sentences. They go into text files beside the pictures."""
