"""Image restoration: prior knowledge about images, explicit or in the structure of a network."""
