"""The classifier of digits by which generated images are measured."""
