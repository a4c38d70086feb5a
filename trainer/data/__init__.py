"""Pictures and their captions: found, checked, sized, ordered, encoded once and kept."""
