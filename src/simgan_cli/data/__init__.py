"""Images in: folders, decoding, the pixel cache, mini-batches."""
