"""Who is calling, and what they may touch."""

from tasks_lib.auth.callers import Caller, authenticate, require_project
from tasks_lib.auth.tokens import IssuedToken, issue_token

__all__ = ["Caller", "IssuedToken", "authenticate", "issue_token", "require_project"]
