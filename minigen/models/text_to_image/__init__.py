"""Images from captions: the lecture's text-conditional GANs, and DALL-E."""
