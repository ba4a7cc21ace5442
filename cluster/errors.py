"""The error tree. Every error carries the HTTP status and the OpenAI error code that the door answers with.

    HuggingGPTError                     500
    ├── BadRequest                      400  the request cannot be read or is empty
    │   ├── BadFile                     400  a file is missing, empty, unreadable or of the wrong kind
    │   ├── FileTooLarge                413
    │   └── PlanError                   422  no valid plan serves this request
    ├── NotFound                        404  an unknown artifact, file or route
    ├── ModelError                      500  a model could not be loaded or failed to run
    │   ├── ModelCorrupt                500  a file's sha256 is not the pinned one
    │   └── ModelUnavailable            503  no source could deliver the model's files
    ├── LanguageModelError              502  the controller LLM replied rubbish or an error
    │   └── LanguageModelTimeout        504
    ├── RunTimeout                      504  the whole run took longer than its limit
    ├── RunCancelled                    499  somebody cancelled the run (nginx's status for a request that was given up)
    ├── RunEnded                        409  the run has ended, and cannot be cancelled any more
    ├── RunLost                         500  nobody tells of it any more: the process that ran it has ended
    ├── Unavailable                     503  a part of the service does not answer for the moment
    └── Overloaded                      429  too many runs in flight, or too little memory; try again in `retry_after_s` seconds

Ray pickles exceptions with their positional arguments, so each class takes exactly one: the message.
"""

from typing import ClassVar


class HuggingGPTError(Exception):
    """A failure with a sentence for the person who asked."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(HuggingGPTError):
    status = 400
    code = "invalid_request"


class BadFile(BadRequest):
    code = "invalid_file"


class FileTooLarge(BadRequest):
    status = 413
    code = "file_too_large"


class PlanError(BadRequest):
    status = 422
    code = "no_plan"


class NotFound(HuggingGPTError):
    status = 404
    code = "not_found"


class ModelError(HuggingGPTError):
    code = "model_error"


class ModelCorrupt(ModelError):
    code = "model_corrupt"


class ModelUnavailable(ModelError):
    status = 503
    code = "model_unavailable"


class LanguageModelError(HuggingGPTError):
    status = 502
    code = "language_model_error"


class LanguageModelTimeout(LanguageModelError):
    status = 504
    code = "language_model_timeout"


class RunTimeout(HuggingGPTError):
    status = 504
    code = "run_timeout"


class RunCancelled(HuggingGPTError):
    status = 499
    code = "run_cancelled"


class RunEnded(HuggingGPTError):
    status = 409
    code = "run_ended"


class RunLost(HuggingGPTError):
    code = "run_lost"


class Unavailable(HuggingGPTError):
    status = 503
    code = "unavailable"


class Overloaded(HuggingGPTError):
    status = 429
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
