"""Errors of a photo. Imports nothing, so that the decode worker starts quickly."""

ERROR_CODES = {
    "image_missing": "The image cell is null.",
    "image_type": "The image cell is neither base64 text nor bytes.",
    "image_empty": "The image holds no bytes.",
    "base64_invalid": "The text is not valid base64.",
    "image_too_many_bytes": "The file is larger than MAX_IMAGE_BYTES.",
    "image_too_many_pixels": "The photo has more pixels than MAX_IMAGE_PIXELS, or than fit into the memory of one decode.",
    "image_too_many_scans": "A progressive JPEG of more scans than any encoder writes.",
    "image_too_small": "A side of the photo is shorter than 32 pixels.",
    "format_unsupported": "Not a JPEG, PNG, BMP, TIFF or WebP image.",
    "mode_unsupported": "The pixels are of a kind with no agreed brightness range (32-bit integer or float).",
    "multi_frame": "A DICOM file of more than one frame.",
    "image_corrupt": "The file has the header of an image but cannot be decoded.",
    "decode_timeout": "Decoding takes longer than DECODE_TIMEOUT_SECONDS.",
    "internal_error": "The model failed on this image; the server's log says where.",
}
"""Error code of an answer row -> meaning."""


class ImageError(Exception):
    """A photo that cannot be answered. It costs its own row, never its neighbours'.

    code: a key of ERROR_CODES. The message never holds image content.
    """

    def __init__(self, code: str, message: str) -> None:
        if code not in ERROR_CODES:
            raise KeyError(f"unknown error code {code!r}; expected one of {sorted(ERROR_CODES)}")
        super().__init__(message)
        self.code = code
