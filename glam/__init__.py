"""GLaM, assembled from generated layers: the model family and what is built on it."""
