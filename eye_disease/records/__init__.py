"""What was answered: the inference log, its Parquet store, and the labels that come in later."""
