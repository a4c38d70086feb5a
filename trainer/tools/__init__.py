"""Tools for finished files: LoRAs are extracted, merged, resized, converted, verified; models converted."""
