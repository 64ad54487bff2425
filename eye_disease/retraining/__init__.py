"""The loop that joins the labels of answered photos, training, and the registry's gate and stages."""
