"""Prints the JSON answer of the model URI in its argument to the image file on its standard input.

Run as a file, outside this project's packages: the model brings its own `model_code`, which must be the one that is imported.
"""

import json
import sys

import mlflow
import pandas as pd

if __name__ == "__main__":
    model = mlflow.pyfunc.load_model(sys.argv[1])
    answers = model.predict(pd.DataFrame({"image": [sys.stdin.buffer.read()]}))
    print(json.dumps(answers.iloc[0].to_dict()))
