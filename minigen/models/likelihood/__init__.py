"""What a generative model is: distributions over images, and fitting one by maximum likelihood."""
