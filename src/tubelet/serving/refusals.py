"""Say no in a few fixed sentences: a code, a status and a text that holds nothing of the server's inside."""

from typing import Any

from tubelet.errors import (
    Corrupt,
    DecoderCrashed,
    DecodeTimeout,
    Encrypted,
    FrameOutOfRange,
    NotAVideo,
    NotAVolume,
    NoVideoStream,
    SourceNotFound,
    TooLarge,
    Truncated,
    TubeletError,
    UnsupportedCodec,
    VideoError,
)

__all__ = ["SENTENCES", "Refusal"]

SENTENCES: dict[str, tuple[int, str]] = {
    NotAVideo.code: (422, "The file is of no known video format. Convert it, for example to MP4."),
    NoVideoStream.code: (422, "The file holds no picture."),
    UnsupportedCodec.code: (422, "The video's codec is not supported. Convert it, for example to H.264."),
    Encrypted.code: (422, "The file is protected."),
    NotAVolume.code: (422, "The file does not make up one volume."),
    SourceNotFound.code: (422, "The file cannot be read."),
    Truncated.code: (422, "The end of the file is missing. Copy it again."),
    Corrupt.code: (422, "The file is damaged."),
    TooLarge.code: (422, "The video is larger than a limit allows. Scale it down, or cut it up."),
    DecodeTimeout.code: (422, "Decoding took too long. Cut the clip, or scale it down."),
    DecoderCrashed.code: (422, "The process that decoded the file ended. Try once more."),
    FrameOutOfRange.code: (422, "The file is damaged."),
    VideoError.code: (422, "The video does not fit the model."),
    "no_file": (422, "No file was sent. Send one as the body, or as the field 'file' of a form."),
    "cannot_explain": (422, "This model cannot be explained."),
    "bad_request": (422, "The request is not understood. /openapi.json describes what is."),
    "unknown_model": (404, "There is no such model. /models lists all."),
    "unknown_class": (422, "The model has no such class."),
    "not_found": (404, "There is nothing here. /openapi.json describes what is where."),
    "method_not_allowed": (405, "This cannot be done here. /openapi.json describes what can."),
    "unauthorized": (401, "A token is needed: send 'Authorization: Bearer TOKEN'."),
    "foreign_host": (421, "The server is not called by this name. 'tubelet serve --hosts NAME' allows one."),
    "foreign_origin": (403, "Pages of other sites may not ask here."),
    "body_too_large": (413, "The body is larger than the limit."),
    "body_too_slow": (408, "The body took too long to arrive."),
    "busy": (503, "All places are taken. Try again after the time that Retry-After states."),
    "stopping": (503, "The server stops. Try again later."),
    "internal": (500, "Something went wrong here. The server's log says what, under the request's id."),
}
"""The status and the text of every code."""


class Refusal(Exception):
    """Refuse a request.

    Args:
        code: one of `SENTENCES`.
        retry_after_s: when to try again.
    """

    def __init__(self, code: str, retry_after_s: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.status, self.text = SENTENCES[code]
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, error: TubeletError) -> "Refusal":
        """Refuse for what a file was found to be; the error's own text, which may say more, stays here."""
        return cls(error.code if error.code in SENTENCES else VideoError.code)

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """Turn into JSON values."""
        return {"error": {"code": self.code, "message": self.text, "request_id": request_id}}
