"""From bytes to batches. Nothing here knows what is learnt from them, and nothing imports TensorFlow."""
