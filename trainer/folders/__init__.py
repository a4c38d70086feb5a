"""Folders of pictures: prepared for a training, balanced, filled, rid of duplicates, grouped. No source is touched."""
