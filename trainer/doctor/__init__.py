"""The data set doctor: what is wrong with pictures and captions, why, and what cures it."""
