"""Send photos to a served model and print its answers. Needs nothing but Python."""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    """Command line; exits with 1 if the server refuses the request or a photo has no answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--explain", action="store_true", help="ask for the heatmap; it is written beside each photo")
    asked = parser.parse_args()
    rows = [
        {"image": base64.b64encode(photo.read_bytes()).decode(), "image_id": str(i)} for i, photo in enumerate(asked.photos)
    ]
    body = json.dumps({"dataframe_records": rows, "params": {"explain": asked.explain}}).encode()
    request = urllib.request.Request(f"{asked.url}/invocations", body, {"Content-Type": "application/json"})
    try:
        # A server on this machine is never asked through a proxy.
        here = urlsplit(asked.url).hostname in ("localhost", "127.0.0.1", "::1")
        opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
        with opener.open(request, timeout=60) as response:
            answers = json.load(response)["predictions"]
    except urllib.error.URLError as error:
        sys.exit(f"{asked.url} gave no answer: {error}")
    for photo, answer in zip(asked.photos, answers, strict=True):
        if heatmap := answer.pop("heatmap_png", None):
            photo.with_suffix(".heatmap.png").write_bytes(base64.b64decode(heatmap))
        print(json.dumps(answer, indent=2))
    sys.exit(any(answer["error"] for answer in answers))


if __name__ == "__main__":
    main()
