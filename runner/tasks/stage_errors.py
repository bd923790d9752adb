"""The error of a stage of a task."""


class StageFailed(Exception):
    """Raised when a stage of a task fails.

    Attributes:
        code: iExec's name of the cause, such as `PRE_COMPUTE_INVALID_DATASET_CHECKSUM`.
        detail: why the stage failed, in words, without a secret.
    """

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")
