"""Pictures of a data set made ready for training: resized, cropped, evened out, and given another background."""
