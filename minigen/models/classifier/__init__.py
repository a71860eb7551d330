"""A classifier of digits, with which generated images are evaluated."""
