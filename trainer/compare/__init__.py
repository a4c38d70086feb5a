"""Pictures from a base model and LoRAs, one by one or as a grid, to see which file is best."""
