"""Images in and out: folders, decoding, the pixel cache, mini-batches."""
