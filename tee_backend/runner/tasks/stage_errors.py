"""Failures of the stages of a task."""


class StageFailed(Exception):
    """Raised when a stage of a task fails.

    Attributes:
        code: one of iExec's cause codes, such as `POST_COMPUTE_ENCRYPTION_FAILED`.
        detail: a sentence for people, without a secret value.
    """

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)
