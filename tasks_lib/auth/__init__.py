"""Who is calling, and what they may touch."""

from tasks_lib.auth.callers import Caller, authenticate, require_project
from tasks_lib.auth.tokens import IssuedToken, TokenFacts, issue_token, list_tokens, revoke_token

__all__ = [
    "Caller",
    "IssuedToken",
    "TokenFacts",
    "authenticate",
    "issue_token",
    "list_tokens",
    "require_project",
    "revoke_token",
]
