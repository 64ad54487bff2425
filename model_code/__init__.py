"""Everything the served model needs, shipped inside it. Nothing here imports TensorFlow unless a Keras runtime is asked for."""
