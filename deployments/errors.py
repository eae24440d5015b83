"""What goes wrong with the platform itself."""

from tasks_lib.errors import TaskError


class PlatformError(TaskError):
    """A process, the Prefect server or the deployments are not as they must be; the text says what to do."""
