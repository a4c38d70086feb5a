"""What is trained: layers beside a frozen base model, and the names they have in files."""
